"""SQL metrics against another engine: what a statement's rows add up to, grouped and ungrouped."""

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definitions.formats import metronome
from definitions.metric import Definition
from pipeline.control.members import digest_of
from pipeline.core.windows import Window, WindowSize, windows, zone_of
from pipeline.edges.clock import SetClock
from pipeline.errors import UsageError
from pipeline.reads.lines import lines_of
from pipeline.reads.query import Query
from pipeline.reads.usage import Reader

from ..world import NOW, World, definition_record, deployment

AGGREGATES: Final = {
    "COUNT(*)": "0",
    "COUNT(properties.n)": "0",
    "COUNT(DISTINCT properties.u)": "0",
    "SUM(properties.n)": "0",
    "MIN(properties.n)": None,
    "MAX(properties.n)": None,
    "AVG(properties.n)": None,
    "LATEST(properties.n)": None,
    "EARLIEST(properties.n)": None,
    "arg_max(properties.n, timestamp)": None,
    "arg_min(properties.n, timestamp)": None,
}
# Aggregates of parts of the events, beside the plain ones: the same laws.
ADDING: Final = {"COUNT(*)", "COUNT(properties.n)", "SUM(properties.n)"}
PARTED: Final = {
    "SUM(CASE WHEN properties.u = 'a' THEN 1 ELSE 0 END)": "0",
    "SUM(CASE WHEN properties.u = 'a' THEN properties.n END)": "0",
    "SUM(CASE properties.u WHEN 'a' THEN properties.n WHEN 'b' THEN properties.k ELSE 0 END)": "0",
    (
        "SUM(CASE WHEN properties.n > 2 OR properties.r IS NULL THEN properties.n "
        "ELSE properties.k END)"
    ): "0",
    "COUNT(CASE WHEN properties.n > 2 AND properties.u = 'a' THEN 1 END)": "0",
    "COUNT(CASE WHEN properties.n > 2 THEN properties.r END)": "0",
    "COUNT(*) FILTER (WHERE properties.u = 'a' OR properties.r = 'east')": "0",
    "COUNT_IF(NOT (properties.n > 1 AND properties.u = 'b'))": "0",
    "SUM(properties.n + properties.k)": "0",
    "SUM(properties.n) + SUM(properties.k)": "0",
    "SUM(COALESCE(properties.n, 0))": "0",
    "COALESCE(SUM(properties.n), 0)": "0",
    "SUM(properties.n * 2)": "0",
    "SUM(2 * (properties.n - properties.k) + 1)": "0",
    "SUM(COALESCE(properties.n, 0) - 0.5 * properties.k)": "0",
    "SUM(CASE WHEN properties.u = 'a' THEN 5 WHEN properties.n > 2 THEN properties.n END)": "0",
    "SUM(CASE WHEN properties.n > 1 OR properties.u = 'a' THEN -1.25 ELSE 0 END)": "0",
    "2 * SUM(properties.n) - 3 * COUNT(*)": "0",
    "-COUNT(properties.n) + SUM(properties.k)": "0",
    "SUM(CAST(properties.n AS DECIMAL(38, 10)))": "0",
    "COUNT(DISTINCT CASE WHEN properties.n > 1 OR properties.k > 1 THEN properties.u END)": "0",
    (
        "MAX(CASE WHEN properties.u = 'a' THEN properties.n "
        "WHEN properties.r = 'east' THEN properties.k END)"
    ): None,
    "AVG(CASE WHEN properties.u IN ('a', 'b') OR properties.k < 3 THEN properties.n END)": None,
}
CONDITIONS: Final = (
    "(properties.n > 2 OR properties.u = 'a')",
    "(properties.u = 'a' OR properties.u = 'b' OR properties.r LIKE 'e%')",
    "(event_type = 'use' OR properties.n < 2)",
    "NOT (properties.n > 2 AND properties.r = 'east')",
    "NOT (properties.n > 2 OR NOT properties.r = 'east')",
    "(properties.r IS NULL OR (properties.n BETWEEN 1 AND 2 AND properties.u <> 'c'))",
    "NOT properties.n BETWEEN 2 AND 3",
    "event_type = 'use'",
    "event_type <> 'use'",
    "event_type IN ('use', 'other') AND event_type NOT IN ('other')",
    "event_type = 'use' AND event_type = 'other'",
    "properties.n > 2",
    "NOT properties.n >= 2.5",
    "3 <> properties.n",
    "properties.n BETWEEN 1 AND 3",
    "properties.u IN ('a', 'b')",
    "properties.u NOT IN ('a')",
    "properties.u <> 'a' AND properties.r IS NOT NULL",
    "properties.r IS NULL",
    "properties.r LIKE 'e%'",
    "NOT properties.r LIKE '%s%'",
    "properties.r LIKE '%t'",
)
UNITS: Final = ("hour", "day", "week", "month")
PERIODS: Final = (
    ("2025-12-01T00:00:00", "2026-03-01T00:00:00", ("none", "week", "month")),
    ("2026-01-05T00:00:00", "2026-01-19T00:00:00", ("none", "day", "week")),
    ("2026-01-01T07:00:00", "2026-01-08T21:00:00", ("none", "day")),
    ("2026-01-05T03:00:00", "2026-01-05T09:00:00", ("none", "hour")),
)
Event = Mapping[str, Any]


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    """Events of distinct minutes, most of them close to each other; any property may be absent."""
    close = st.integers(0, 3 * 24 * 60).map(lambda minute: minute + 35 * 24 * 60)
    minutes = draw(
        st.lists(st.one_of(close, st.integers(0, 90 * 24 * 60 - 1)), max_size=25, unique=True)
    )
    made: list[Event] = []
    for minute in minutes:
        properties = {
            "n": draw(st.sampled_from([None, 1, 2, 2.5, 3, 7, -4])),
            "u": draw(st.sampled_from([None, "a", "b", "c"])),
            "r": draw(st.sampled_from([None, "east", "west", "s"])),
            "k": draw(st.sampled_from([None, 1, 2, 5])),
        }
        made.append(
            {
                "event_type": draw(st.sampled_from(["use", "use", "other"])),
                "at": datetime(2025, 12, 1) + timedelta(minutes=minute),
                "properties": {key: each for key, each in properties.items() if each is not None},
            }
        )
    return made


@st.composite
def statements(draw: st.DrawFn) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    """A statement, its aggregate, its columns and its windows."""
    aggregate = draw(st.sampled_from(sorted({**AGGREGATES, **PARTED})))
    columns = tuple(draw(st.lists(st.sampled_from(["u", "r"]), unique=True)))
    units = tuple(draw(st.lists(st.sampled_from(UNITS), max_size=2, unique=True)))
    truncated = [f"DATE_TRUNC('{unit}', timestamp)" for unit in units]
    shown = draw(st.sampled_from([truncated, [], truncated[:1]]))
    named = [f"properties.{name}" for name in columns]
    where = draw(st.lists(st.sampled_from(CONDITIONS), max_size=2))
    text = f"SELECT {', '.join([f'{aggregate} AS value', *named, *shown])} FROM events"
    if where:
        text += f" WHERE {' AND '.join(where)}"
    if named or truncated:
        text += f" GROUP BY {', '.join(draw(st.permutations([*named, *truncated])))}"
    return text, aggregate, columns, units


def applied(definition: Definition, made: Sequence[Event]) -> World:
    """A world that has counted the events."""
    world = World(metrics={"m": definition}, settings=deployment(max_age_ms=0))
    world.append(
        json.dumps(
            {
                "transaction_id": f"t{number}",
                "customer_id": "c",
                "event_type": event["event_type"],
                "timestamp": f"{event['at'].isoformat()}Z",
                "properties": event["properties"],
            }
        ).encode()
        for number, event in enumerate(made)
    )
    asyncio.run(world.apply())
    return world


def ask(
    world: World, starts: str, ends: str, size: str, key: tuple[str, ...] | None
) -> list[dict[str, Any]]:
    """Usage lines of customer c."""
    query = Query(
        metric=world.control.metrics["m"],
        customer="c",
        starting_on=datetime.fromisoformat(starts).replace(tzinfo=UTC),
        ending_before=datetime.fromisoformat(ends).replace(tzinfo=UTC),
        size=WindowSize(size),
        zone=zone_of("UTC"),
        group_key=key,
        group_filters={},
    )
    reader = Reader(world.identity, world.store, world.log, SetClock(NOW), timedelta(hours=1))
    return lines_of("events", asyncio.run(reader.usage(query)).rows)


class Duck:
    """The other engine: a statement over the events of a window, its rows added up."""

    def __init__(self, made: Sequence[Event]) -> None:
        self._db = duckdb.connect()
        # DuckDB 2.0.0 keeps rows whose condition is NULL where it reads members of a STRUCT: its
        # statistics of a NULL member are wrong (WHERE properties.r LIKE 'e%' keeps r NULL).
        self._db.execute("PRAGMA disable_optimizer")
        self._db.execute(
            "CREATE TABLE held (event_type VARCHAR, timestamp TIMESTAMP, "
            "properties STRUCT(n DECIMAL(18, 6), u VARCHAR, r VARCHAR, k DECIMAL(18, 6)))"
        )
        for each in made:
            own = each["properties"]
            row = {name: own.get(name) for name in ("n", "u", "r", "k")}
            self._db.execute(
                "INSERT INTO held VALUES (?, ?, ?)", [each["event_type"], each["at"], row]
            )

    def whole(self, moment: datetime, units: Sequence[str]) -> bool:
        """Whether a moment begins windows of each of these sizes."""
        found = [
            self._db.execute("SELECT date_trunc(?, ?::TIMESTAMP)", [unit, moment]).fetchone()
            for unit in units
        ]
        return all(each == (moment,) for each in found)

    def rows(
        self, text: str, window: Window, key: Sequence[str]
    ) -> dict[tuple[str | None, ...], Any]:
        """Group → sum of the statement's rows."""
        lo, hi = (bound.replace(tzinfo=None) for bound in window)
        self._db.execute(
            "CREATE OR REPLACE TEMP VIEW events AS SELECT * FROM held WHERE timestamp >= "
            f"TIMESTAMP '{lo}' AND timestamp < TIMESTAMP '{hi}'"
        )
        own = text.replace("LATEST(properties.n)", "arg_max(properties.n, timestamp)")
        for name in ("n", "k"):  # a SUM of nothing is 0 here, also beside another one
            bare = f"SUM(properties.{name})"
            if any(f"{bare} {sign}" in own or f"{sign} {bare}" in own for sign in "+-"):
                own = own.replace(bare, f"COALESCE({bare}, 0)")
        own = own.replace("EARLIEST(properties.n)", "arg_min(properties.n, timestamp)")
        names = "".join(f"{name}, " for name in key)
        grouped = f" GROUP BY {', '.join(key)}" if key else ""
        found = self._db.execute(f"SELECT {names}sum(value) FROM ({own}){grouped}").fetchall()
        return {tuple(row[:-1]): row[-1] for row in found}


def same(seen: str | None, wanted: Any, empty: str | None) -> bool:
    """Whether a value is the engine's: exact, but for its means, which are floats."""
    if wanted is None:
        return seen == empty
    if isinstance(wanted, float):
        return seen is not None and float(seen) == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    return seen is not None and Decimal(seen) == wanted


@settings(max_examples=250, deadline=None)
@given(statements(), events(), st.sampled_from(PERIODS), st.data())
def test_every_statement_is_the_sum_over_its_rows(
    statement: tuple[str, str, tuple[str, ...], tuple[str, ...]],
    made: list[Event],
    period: tuple[str, str, tuple[str, ...]],
    data: st.DataObject,
) -> None:
    """At whole windows of its own a statement's usage equals DuckDB's; other ones are refused."""
    text, aggregate, columns, units = statement
    _, definition = metronome.parse(json.dumps({"name": "m", "sql": text}))
    assert definition.computable, definition.reasons
    starts, ends, sizes = period
    size = data.draw(st.sampled_from(sizes))
    key = data.draw(st.sampled_from([None, columns, columns[::-1], columns[:1], columns[1:]]))
    key = key or None
    world, duck, empty = applied(definition, made), Duck(made), {**AGGREGATES, **PARTED}[aggregate]
    bounds = [
        datetime.fromisoformat(starts).replace(tzinfo=UTC),
        datetime.fromisoformat(ends).replace(tzinfo=UTC),
    ]
    spread = windows(*bounds, size=WindowSize(size), zone=zone_of("UTC"), bucket_s=3600)
    summed = aggregate in PARTED and not aggregate.startswith(("COUNT(D", "MAX", "AVG"))
    additive = summed or aggregate in ADDING
    edges = [bound.replace(tzinfo=None) for window in spread for bound in window]
    if not additive and not all(duck.whole(edge, units) for edge in edges):
        with pytest.raises(UsageError, match="adds up one value for each"):
            ask(world, starts, ends, size, key)
        return

    lines = ask(world, starts, ends, size, key)

    for window in spread:
        opens = window.starting_on.isoformat().replace("+00:00", "Z")
        own = [line for line in lines if line["starting_on"] == opens]
        wanted = duck.rows(text, window, key or ())
        if key is None:
            assert len(own) == 1
            seen: dict[tuple[str | None, ...], Any] = {(): own[0]["value"]}
        else:
            seen = {tuple(line["group"][name] for name in key): line["value"] for line in own}
            # A group whose events all lack the value has a row in SQL, and no cell here (W-6).
            wanted = {at: value for at, value in wanted.items() if value is not None or at in seen}
            wanted = {at: value for at, value in wanted.items() if value != 0 or at in seen}
        assert seen.keys() == wanted.keys(), (text, window)
        for at, value in wanted.items():
            assert same(seen[at], value, empty), (text, window, at, seen[at], value)


@pytest.mark.parametrize("key", [("r",), ("u",), ("u", "r")])
def test_a_difference_adds_up_over_columns_that_are_not_asked_for(key: tuple[str, ...]) -> None:
    """Each row is 2 · 0 - 3 · 1: asked by some of its columns, factors apply all the same."""
    text = "SELECT 2 * SUM(properties.n) - 3 * COUNT(*) AS value, properties.u, properties.r "
    text += "FROM events GROUP BY properties.u, properties.r"
    _, definition = metronome.parse(json.dumps({"name": "m", "sql": text}))
    at = datetime(2026, 1, 5)
    made: list[Event] = [
        {"event_type": "use", "at": at, "properties": {"u": name, "r": "east"}}
        for name in ("a", "b", "b")
    ]

    starts, ends = "2026-01-05T00:00:00", "2026-01-06T00:00:00"
    lines = ask(applied(definition, made), starts, ends, "none", key)

    by_user = {"a": "-3", "b": "-6"}
    wanted = ["-9"] if key == ("r",) else [by_user[line["group"]["u"]] for line in lines]
    assert [line["value"] for line in lines] == wanted
    assert len(lines) == (1 if key == ("r",) else 2)


QUOTIENTS: Final = (
    "SUM(properties.n) / COUNT(*)",
    "SUM(properties.n) / NULLIF(SUM(properties.k), 0)",
    "COUNT(CASE WHEN properties.n > 1 OR properties.u = 'a' THEN 1 END) * 1.0 / COUNT(*)",
    "SUM(properties.n + properties.k) / COUNT(DISTINCT properties.u)",
    "MAX(properties.n) / MIN(properties.k)",
)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(QUOTIENTS), st.lists(st.sampled_from(CONDITIONS), max_size=2), events())
def test_a_quotient_of_aggregates_is_the_engines(
    quotient: str, where: list[str], made: list[Event]
) -> None:
    """One aggregate divided by another: over no number it is null, and a sum of nothing is 0."""
    text = f"SELECT {quotient} AS value FROM events"
    text += f" WHERE {' AND '.join(where)}" if where else ""
    _, definition = metronome.parse(json.dumps({"name": "m", "sql": text}))
    assert definition.computable, definition.reasons
    starts, ends = "2025-12-01T00:00:00", "2026-03-01T00:00:00"
    (line,) = ask(applied(definition, made), starts, ends, "none", None)
    (window,) = windows(
        *(datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (starts, ends)),
        size=WindowSize.NONE,
        zone=zone_of("UTC"),
        bucket_s=3600,
    )

    wanted = Duck(made).rows(text, window, ())[()]

    if wanted is None or not math.isfinite(wanted):  # by 0 DuckDB's floats give no number either
        assert line["value"] in {None, "0"}
    else:
        assert line["value"] is not None
        assert float(line["value"]) == pytest.approx(float(wanted), rel=1e-12, abs=1e-12)


NESTED: Final = "SELECT SUM(x) AS value FROM (SELECT {} AS x FROM events{} GROUP BY {})"


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(sorted({**AGGREGATES, **PARTED})),
    st.lists(st.sampled_from(CONDITIONS), max_size=1),
    st.sampled_from(UNITS),
    events(),
)
def test_a_sum_of_a_nested_statement_is_the_engines(
    aggregate: str, where: list[str], unit: str, made: list[Event]
) -> None:
    """The sum of maxima by day and the like, over whole months that all windows divide."""
    condition = f" WHERE {where[0]}" if where else ""
    text = NESTED.format(aggregate, condition, f"DATE_TRUNC('{unit}', timestamp)")
    _, definition = metronome.parse(json.dumps({"name": "m", "sql": text}))
    assert definition.computable, definition.reasons
    starts, ends = "2025-12-01T00:00:00", "2026-06-01T00:00:00"  # both Mondays
    (line,) = ask(applied(definition, made), starts, ends, "none", None)
    (window,) = windows(
        *(datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (starts, ends)),
        size=WindowSize.NONE,
        zone=zone_of("UTC"),
        bucket_s=3600,
    )

    wanted = Duck(made).rows(text, window, ())[()]

    assert same(line["value"], wanted, {**AGGREGATES, **PARTED}[aggregate]), (text, wanted)


OUTER: Final = ("MAX", "MIN", "AVG")
INNER: Final = (
    *("COUNT(*)", "SUM(properties.n)", "MAX(properties.n)", "AVG(properties.n)"),
    "MAX(CASE WHEN properties.u = 'a' THEN properties.n END)",
)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(OUTER),
    st.sampled_from(INNER),
    st.lists(st.sampled_from(CONDITIONS), max_size=1),
    st.lists(st.sampled_from(["properties.u", "DATE_TRUNC('day', timestamp)"]), min_size=1),
    events(),
)
def test_an_aggregate_of_a_nested_statement_is_the_engines(
    outer: str, inner: str, where: list[str], keys: list[str], made: list[Event]
) -> None:
    """The greatest, least and mean row of a grouped statement, over whole days."""
    condition = f" WHERE {where[0]}" if where else ""
    grouped = ", ".join(dict.fromkeys(keys))
    text = NESTED.replace("SUM(x)", f"{outer}(x)").format(inner, condition, grouped)
    _, definition = metronome.parse(json.dumps({"name": "m", "sql": text}))
    assert definition.computable, definition.reasons
    starts, ends = "2025-12-01T00:00:00", "2026-03-01T00:00:00"
    (line,) = ask(applied(definition, made), starts, ends, "none", None)
    (window,) = windows(
        *(datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (starts, ends)),
        size=WindowSize.NONE,
        zone=zone_of("UTC"),
        bucket_s=3600,
    )

    wanted = Duck(made).rows(text, window, ())[()]

    if wanted is None:
        assert line["value"] is None
    else:
        assert float(line["value"]) == pytest.approx(float(wanted), rel=1e-12, abs=1e-12), text


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["0", "0.5", "0.9", "0.95", "1"]),
    st.lists(st.sampled_from(CONDITIONS), max_size=2),
    events(),
)
def test_a_percentile_is_the_engines(rank: str, where: list[str], made: list[Event]) -> None:
    """approx_percentile is the exact value at the nearest rank, as quantile_disc is."""
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    text = f"SELECT approx_percentile(properties.n, {rank}) AS value FROM events{condition}"
    _, definition = metronome.parse(json.dumps({"name": "m", "sql": text}))
    assert definition.computable, definition.reasons
    starts, ends = "2025-12-01T00:00:00", "2026-03-01T00:00:00"
    (line,) = ask(applied(definition, made), starts, ends, "none", None)
    (window,) = windows(
        *(datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (starts, ends)),
        size=WindowSize.NONE,
        zone=zone_of("UTC"),
        bucket_s=3600,
    )

    own = text.replace("approx_percentile", "quantile_disc")
    wanted = Duck(made).rows(own, window, ())[()]

    assert same(line["value"], None if wanted is None else Decimal(str(wanted)), None), text


FIVE: Final = (
    ("a", "east", 3, "2026-01-05T10:00:00"),
    ("b", "east", 7, "2026-01-05T11:00:00"),
    ("a", "west", 5, "2026-01-06T10:00:00"),
    ("b", "west", 1, "2026-01-06T11:00:00"),
    ("a", "west", 9, "2026-01-06T12:00:00"),
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            "SELECT LATEST(properties.n) AS value, properties.u FROM events GROUP BY properties.u",
            "10",
        ),
        (
            "SELECT MAX(properties.n) AS value FROM events GROUP BY DATE_TRUNC('day', timestamp)",
            "16",
        ),
        ("SELECT COUNT(DISTINCT properties.u) AS value FROM events GROUP BY properties.r", "4"),
        ("SELECT MIN(properties.n) AS value FROM events GROUP BY properties.r", "4"),
        ("SELECT AVG(properties.n) AS value FROM events GROUP BY properties.r", "10"),
        (
            (
                "SELECT AVG(properties.n) AS value FROM events "
                "GROUP BY DATE_TRUNC('month', timestamp), properties.u"
            ),
            "9.666666666666666666666666666666667",
        ),
        ("SELECT SUM(properties.n) AS value FROM events GROUP BY properties.u", "25"),
        ("SELECT MAX(properties.n) AS value FROM events", "9"),
    ],
)
def test_values_that_were_taken_over_all_events(text: str, value: str) -> None:
    """The sum over rows of five events: every value worked out by hand."""
    _, definition = metronome.parse(json.dumps({"name": "m", "sql": text}))
    made = [
        {
            "event_type": "use",
            "at": datetime.fromisoformat(at),
            "properties": {"u": user, "r": region, "n": number},
        }
        for user, region, number, at in FIVE
    ]
    (line,) = ask(
        applied(definition, made), "2026-01-01T00:00:00", "2026-02-01T00:00:00", "none", None
    )

    assert line["value"] == value


def test_a_group_key_is_read_from_the_version_that_counted_the_window() -> None:
    """A group key's number is that of the version read: here the second set, now the first."""
    older, newer = (
        metronome.parse(
            json.dumps(
                {
                    "name": "m",
                    "aggregation_type": "count",
                    "property_filters": [{"name": name, "exists": True} for name in ("u", "r")],
                    "group_keys": keys,
                }
            )
        )[1]
        for keys in ([["u"], ["r"]], [["r"]])
    )
    at = datetime(2026, 1, 5, 10)
    world = applied(
        older, [{"event_type": "use", "at": at, "properties": {"u": "a", "r": "east"}}]
    )
    record = definition_record("m", "m", newer)
    record |= {"version": 2, "effective_from": "2026-02-01T00:00:00Z"}
    record["digest"] = digest_of(record)
    world.control.apply(9, json.dumps(record).encode())
    assert not world.control.ignored

    (line,) = ask(world, "2026-01-01T00:00:00", "2026-02-01T00:00:00", "none", ("r",))

    assert (line["group"], line["value"]) == ({"r": "east"}, "1")


def test_a_window_that_its_version_has_no_groups_for_is_refused() -> None:
    """After a column was added, older windows are no answer for it, and not an empty one."""
    texts = (
        "SELECT COUNT(*) AS value, properties.u FROM events GROUP BY properties.u",
        "SELECT COUNT(*) AS value, properties.r FROM events GROUP BY properties.r",
    )
    older, newer = (metronome.parse(json.dumps({"name": "m", "sql": text}))[1] for text in texts)
    world = applied(older, [])
    record = definition_record("m", "m", newer)
    record |= {"version": 2, "effective_from": "2026-02-01T00:00:00Z"}
    record["digest"] = digest_of(record)
    world.control.apply(9, json.dumps(record).encode())

    with pytest.raises(UsageError, match="has the group key 'r' from 2026-02-01"):
        ask(world, "2026-01-01T00:00:00", "2026-02-01T00:00:00", "none", ("r",))
    assert ask(world, "2026-02-01T00:00:00", "2026-03-01T00:00:00", "none", ("r",)) == []


COMPUTED: Final = (
    "ROUND(properties.n)",
    "ROUND(properties.n * 0.25, 1)",
    "CEIL(properties.n)",
    "CEILING(properties.n - 0.5)",
    "FLOOR(-properties.n)",
    "CAST(properties.n AS INT)",
    "CAST(properties.n * 0.5 AS BIGINT)",
    "CAST(properties.n * 0.125 AS DECIMAL(10, 2))",
    "LEAST(properties.n, 2)",
    "GREATEST(properties.n, properties.k, 0)",
    "LEAST(properties.n, properties.k) + 1",
    "properties.n * properties.k",
    "properties.n * properties.n - 2 * properties.k",
    "ROUND(COALESCE(properties.n, 0) * COALESCE(properties.k, 1), 0)",
    "COALESCE(FLOOR(properties.n), CEIL(properties.k), 7)",
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(COMPUTED),
    st.booleans(),
    st.lists(st.sampled_from(CONDITIONS), max_size=2),
    events(),
)
def test_a_sum_of_computed_values_is_the_engines(
    inner: str, bare: bool, where: list[str], made: list[Event]
) -> None:
    """Q-10: ROUND, CEIL, FLOOR, LEAST, GREATEST, products and casts that round, event by event."""
    text = (
        f"SELECT {f'SUM({inner})' if bare else f'COALESCE(SUM({inner}), 0)'} AS value FROM events"
    )
    text += f" WHERE {' AND '.join(where)}" if where else ""
    _, definition = metronome.parse(json.dumps({"name": "m", "sql": text}))
    assert definition.computable, definition.reasons
    assert Definition.model_validate_json(definition.model_dump_json()) == definition
    world, duck = applied(definition, made), Duck(made)
    for starts, ends, size in (
        ("2025-12-01T00:00:00", "2026-03-01T00:00:00", "none"),
        ("2026-01-05T00:00:00", "2026-01-08T00:00:00", "day"),
    ):
        for line in ask(world, starts, ends, size, None):
            window = Window(
                *(datetime.fromisoformat(line[name]) for name in ("starting_on", "ending_before"))
            )

            wanted = duck.rows(text, window, ())[()]

            assert same(line["value"], wanted, "0"), (text, window, line["value"], wanted)


def test_a_computed_value_of_what_is_no_number_is_unreadable() -> None:
    """V-2: such an event adds nothing and is told of; a number as text is one."""
    text = "SELECT SUM(CEIL(properties.n) * properties.k) AS value FROM events"
    _, definition = metronome.parse(json.dumps({"name": "m", "sql": text}))
    at = datetime(2026, 1, 5)
    long = "9" * 60 + ".5"
    values = ["2.5", "x", True, None, long, [1]]
    made = [
        {"event_type": "use", "at": at + timedelta(minutes=n), "properties": {"n": each, "k": 2}}
        for n, each in enumerate(values)
    ]

    (line,) = ask(
        applied(definition, made), "2026-01-05T00:00:00", "2026-01-06T00:00:00", "none", None
    )

    assert (line["value"], line["unreadable"]) == (str(6 + 2 * 10**60), 2)
