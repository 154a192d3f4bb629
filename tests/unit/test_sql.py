"""SQL metrics: what is translated, into what, and why the rest is not (CM13)."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from definitions.formats import metronome
from definitions.formats.metronome_sql import translate
from definitions.formats.sql_words import Untranslatable


@pytest.mark.parametrize(
    ("sql", "aggregation", "field", "dimensions"),
    [
        ("SELECT COUNT(*) AS value FROM events", "count", None, ()),
        ("select count() value from events", "count", None, ()),
        ("SELECT COUNT(DISTINCT properties.u) AS value FROM events", "count_distinct", "u", ()),
        ("SELECT SUM(properties.n) AS value FROM events", "sum", "n", ()),
        ("SELECT SUM(CAST(properties.n AS DECIMAL)) AS value FROM events", "sum", "n", ()),
        ("SELECT SUM(properties.n::numeric) AS value FROM events", "sum", "n", ()),
        ("SELECT MIN(properties['a b']) AS value FROM events", "min", "a b", ()),
        ("SELECT MAX(properties.n) AS value FROM events ORDER BY value", "max", "n", ()),
        ("SELECT AVG(properties.n) AS value FROM events", "mean", "n", ()),
        ("SELECT LATEST(properties.n) AS value FROM events", "latest", "n", ()),
        ("SELECT argMax(properties.n, timestamp) AS value FROM events", "latest", "n", ()),
        ("SELECT EARLIEST(properties.n) AS value FROM events", "first", "n", ()),
        (
            "SELECT count() value, properties.u, properties.r FROM events GROUP BY u, r",
            "count",
            None,
            (("u", "r"),),
        ),
        (
            "SELECT DATE_TRUNC('day', timestamp), properties.r, COUNT(*) FROM events GROUP BY 1,2",
            "count",
            None,
            (("r",),),
        ),
        (
            "SELECT DATE_TRUNC('hour', timestamp) AS h, COUNT(*) AS value FROM events GROUP BY h",
            "count",
            None,
            (),
        ),
    ],
)
def test_what_is_counted(
    sql: str, aggregation: str, field: str | None, dimensions: tuple[tuple[str, ...], ...]
) -> None:
    """Aggregate, property and groups of a statement."""
    found = translate(sql)

    (measure,) = found.measures
    key = None if measure.field is None else measure.field.key
    assert (measure.aggregation, key, found.dimensions) == (aggregation, field, dimensions)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("properties.a = 'x'", [("a", "equal", ["x"])]),
        ("properties.a <> 'x'", [("a", "not_equal", ["x"])]),
        ("NOT properties.a = 'x'", [("a", "not_equal", ["x"])]),
        ("properties.a = true", [("a", "equal", ["true"])]),
        ("properties.a IN ('x', 'y')", [("a", "in", ["x", "y"])]),
        ("properties.a NOT IN ('x')", [("a", "not_in", ["x"])]),
        ("properties.n > 5", [("n", "greater", ["5"])]),
        ("5 > properties.n", [("n", "less", ["5"])]),
        ("NOT properties.n > 5", [("n", "less_or_equal", ["5"])]),
        (
            "properties.n BETWEEN -1.5 AND 2",
            [("n", "greater_or_equal", ["-1.5"]), ("n", "less_or_equal", ["2"])],
        ),
        ("properties.a LIKE 'x%'", [("a", "starts_with", ["x"])]),
        ("properties.a NOT LIKE '%x%'", [("a", "not_contains", ["x"])]),
        ("properties.a LIKE '%x'", [("a", "ends_with", ["x"])]),
        ("properties.a IS NULL", [("a", "is_not_set", [])]),
        ("(properties.a IS NOT NULL) AND properties.b = ''", None),
    ],
)
def test_conditions(where: str, expected: list[tuple[str, str, list[str]]] | None) -> None:
    """Each operator; unknown is false, as NULL is."""
    (measure,) = translate(f"SELECT COUNT(*) AS value FROM events WHERE {where}").measures
    seen = [
        (each.field.key, str(each.operator), [str(operand) for operand in each.operands])
        for each in measure.where
    ]

    assert seen == (expected or [("a", "is_set", []), ("b", "equal", [""])])
    assert not any(each.if_unknown for each in measure.where)


def test_event_types_become_the_selector() -> None:
    """Conditions on event_type choose types; several of them intersect."""
    (measure,) = translate(
        "SELECT COUNT(*) AS value FROM events WHERE event_type IN ('a', 'b') "
        "AND event_type = 'b' AND event_type <> 'c' AND event_type NOT IN ('d')"
    ).measures

    assert (measure.events.include, measure.events.exclude) == (("b",), ("c", "d"))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT MAX(properties.n * 2) AS value FROM events",
        "SELECT MAX(properties.n) * 2 AS value FROM events",
        "SELECT SUM(properties.n) * COUNT(*) AS value FROM events",
        "SELECT SUM(properties.n * 1234567890123456789) AS value FROM events",
        "SELECT 2 * SUM(properties.n) / COUNT(*) AS value FROM events",
        "SELECT SUM(properties.n) + 5 AS value FROM events",
        "SELECT COUNT(*) AS value FROM events e JOIN more ON 1 = 1",
        "SELECT COUNT(*) AS value FROM (SELECT 1)",
        "SELECT COUNT(*) AS value FROM events HAVING COUNT(*) > 1",
        "SELECT COUNT(*) AS value FROM events LIMIT 5",
        "SELECT DISTINCT COUNT(*) AS value FROM events",
        "WITH t AS (SELECT 1) SELECT COUNT(*) AS value FROM events",
        "SELECT COUNT(*) AS value FROM events WHERE properties.a LIKE '%a_b%'",
        "SELECT COUNT(*) AS value FROM events WHERE timestamp > '2026-01-01'",
        "SELECT COUNT(*) AS value FROM events WHERE customer_id = 'x'",
        "SELECT COUNT(*) AS value, SUM(properties.n) AS more FROM events",
        "SELECT COUNT(*) AS other FROM events",
        "SELECT COUNT(*) AS value, properties.r AS region FROM events GROUP BY properties.r",
        "SELECT COUNT(*) AS value, properties.r FROM events",
        "SELECT SUM(DISTINCT properties.n) AS value FROM events",
        "SELECT SUM(CEIL(properties.n)) AS value FROM events GROUP BY properties.r",
        "SELECT SUM(ROUND(properties.n, 19)) AS value FROM events",
        "SELECT SUM(ROUND(properties.n, properties.m)) AS value FROM events",
        "SELECT ROUND(SUM(properties.n), 2) AS value FROM events",
        "SELECT MAX(CEIL(properties.n)) AS value FROM events",
        "SELECT SUM(CEIL(properties.n)) + COUNT(*) AS value FROM events",
        "SELECT 2 * SUM(FLOOR(properties.n)) AS value FROM events",
        "SELECT SUM(CEIL(properties.n)) / COUNT(*) AS value FROM events",
        "SELECT SUM(x) AS value FROM (SELECT SUM(CEIL(properties.n)) AS x FROM events GROUP BY 2)",
        "SELECT SUM(FLOOR(CASE WHEN properties.a = 'x' THEN properties.n END)) FROM events",
        "SELECT SUM(LEAST(properties.n, 'x')) AS value FROM events",
        "SELECT SUM(CEIL(properties.n / 3)) AS value FROM events",
        "SELECT SUM(properties.a * properties.b * properties.c * properties.d) FROM events",
        f"SELECT SUM(LEAST({', '.join(f'properties.{n}' for n in 'abcde')})) FROM events",
        f"SELECT SUM(CEIL(properties.n + {'9' * 19})) AS value FROM events",
        f"SELECT SUM(CEIL(properties.n {'+ 1' * 61})) AS value FROM events",
        f"SELECT SUM({'CEIL(' * 21}properties.n{')' * 21}) AS value FROM events",
        "SELECT SUM(CAST(properties.n AS VARCHAR)) AS value FROM events",
        "SELECT COUNT(*) AS value FROM events WHERE CEIL(properties.n) = 3",
        "SELECT AVG(properties.n) / COUNT(*) AS value FROM events",
        "SELECT AVG(CASE WHEN properties.a = 'x' THEN properties.n ELSE 0 END) FROM events",
        "SELECT MAX(COALESCE(properties.n, 0)) AS value FROM events",
        "SELECT COALESCE(MAX(properties.n), 0) AS value FROM events",
        "SELECT SUM(properties.n) / COUNT(*) AS value FROM events GROUP BY properties.r",
        "SELECT SUM(s) AS value FROM (SELECT 1 AS s)",
        "SELECT approx_percentile(properties.n, 95) AS value FROM events",
        "SELECT approx_percentile(properties.n, 0.5) AS value FROM events GROUP BY properties.r",
        "SELECT percentile_cont(properties.n, 0.5) AS value FROM events",
        "SELECT MAX(s) AS value FROM (SELECT SUM(properties.n) AS s FROM events)",
        "SELECT MAX(s) AS value FROM (SELECT COUNT(properties.n) AS s FROM events GROUP BY 2)",
        (
            "SELECT AVG(s) AS value FROM (SELECT COUNT(DISTINCT properties.n) AS s FROM events "
            "GROUP BY properties.r)"
        ),
        (
            "SELECT AVG(s) AS value, r FROM (SELECT COUNT(*) AS s, properties.r FROM events "
            "GROUP BY properties.r) GROUP BY r"
        ),
        "SELECT COUNT(*) AS value FROM events WHERE "
        + " OR ".join(f"(properties.p{n} = 'x' AND properties.q{n} = 'y')" for n in range(9)),
        "SELECT COUNT(*) OVER () AS value FROM events",
        "SELECT argMax(properties.n, timestamp, 3) AS value FROM events",
        "SELECT COUNT(*) AS value FROM events TABLESAMPLE (5)",
        "SELECT COUNT(*) AS value FROM events WHERE properties.n BETWEEN SYMMETRIC 1 AND 2",
        "SELECT DATE_TRUNC('day', timestamp, 'X') AS d, COUNT(*) AS value FROM events GROUP BY d",
        "SELECT COUNT(DISTINCT properties.a, properties.b) AS value FROM events",
        "SELECT COUNT(*) AS value FROM other",
        "DROP TABLE events",
        "SELECT 1; SELECT 2",
        "SELECT )",
        "SELECT",
    ],
)
def test_the_rest_is_kept_with_a_reason(sql: str) -> None:
    """What is not translated is accepted, unsupported, and says why."""
    _, definition = metronome.parse(json.dumps({"name": "m", "sql": sql}))

    assert not definition.computable
    assert len(definition.reasons[0]) > 10


PIECES = (
    "select count ( ) * as value from events where properties . a = 'x' and or not in like "
    "between is null group by 1 , sum cast decimal date_trunc timestamp event_type [ ] - 5"
)
WORDS = st.sampled_from(PIECES.split())


@given(st.one_of(st.text(max_size=80), st.lists(WORDS, max_size=25).map(" ".join)))
@example("(" * 5_000)
@example("select " + "-" * 3_000 + "1")
def test_no_statement_is_a_bug(sql: str) -> None:
    """Any text is translated or untranslatable; nothing else happens."""
    try:
        told = str(translate(sql).measures[0].aggregation)
    except Untranslatable as why:
        told = str(why)
    assert told
