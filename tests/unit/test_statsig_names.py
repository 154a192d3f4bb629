"""Statsig definitions whose words stand for something else: metrics, distinct counts, units."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from definitions.events import translate
from definitions.events.common import Arrival
from definitions.formats import parse
from definitions.formats.bodies import Terms
from definitions.metric import Definition
from pipeline.core.windows import WindowSize, zone_of
from pipeline.edges.clock import SetClock
from pipeline.reads.lines import lines_of
from pipeline.reads.query import Query
from pipeline.reads.usage import Reader

from ..world import NOW, World, deployment

DAY: Final = datetime(2026, 2, 20, 8, tzinfo=UTC)  # of Statsig, UTC-08:00
# user, stable id, event, value, kind, hours after DAY
SEEN: Final = (
    ("u1", "s1", "visit", 1, "a", 1),
    ("u1", "s2", "visit", 2, "b", 2),
    ("u2", None, "visit", 4, "a", 3),
    (None, "s1", "visit", 8, "c", 4),
    ("u1", "s1", "order", 16, "a", 5),
    ("u2", None, "order", 32, "b", 6),
    ("u3", "s3", "order", 64, "a", 7),
    ("u2", None, "visit", 128, "a", 25),
)


def cloud(type_: str, *events: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A body of a usual shape."""
    return {"type": type_, "unitTypes": ["userID"], "metricEvents": list(events), **more}


def funnel(mode: str, *steps: tuple[str, str]) -> dict[str, Any]:
    """A funnel over steps of a name and a type."""
    listed = [{"name": name, "type": type_} for name, type_ in steps]
    return {"type": "funnel", "funnelCountDistinct": mode, "funnelEventList": listed}


def composite(*components: tuple[str, str], **more: Any) -> dict[str, Any]:
    """A sum of metrics of a name and a type."""
    listed = [{"name": name, "type": type_} for name, type_ in components]
    made = {"type": "composite_sum", "unitTypes": ["userID"], "metricComponentMetrics": listed}
    return {**made, **more}


CHEAP: Final = {
    "name": "order",
    "criteria": [{"type": "value", "condition": "<", "values": ["40"]}],
}
KIND_A: Final = {
    "name": "visit",
    "criteria": [{"type": "metadata", "column": "kind", "condition": "=", "values": ["a"]}],
}


class Statsig:
    """A world of Statsig metrics, made one after the other as a writer makes them."""

    def __init__(self, **bodies: Mapping[str, Any]) -> None:
        made: dict[str, Definition] = {}
        types: dict[str, str] = {}

        def typed(name: str, type_: str) -> Definition | None:
            return made.get(name) if types.get(name) == type_ else None

        for name, body in bodies.items():
            text = json.dumps({"name": name, **body})
            _, made[name] = parse("statsig", text, Terms(statsig_metric=typed))
            types[name] = body["type"]
        self.world = World(metrics=made, settings=deployment(max_age_ms=0))
        self.made = made

    def log(self, seen: Sequence[tuple[Any, ...]] = SEEN) -> None:
        """Count events."""
        events = []
        for user, stable, name, value, kind, hours in seen:
            own: dict[str, Any] = {} if user is None else {"userID": user}
            own |= {} if stable is None else {"customIDs": {"stableID": stable}}
            events.append(
                {
                    "eventName": name,
                    "value": value,
                    "time": int((DAY + timedelta(hours=hours)).timestamp() * 1000),
                    "user": own,
                    "metadata": {"kind": kind},
                }
            )
        ids = iter(range(1_000))
        arrival = Arrival(NOW, new_id=lambda: f"id{len(events)}-{next(ids)}")
        lines = translate("statsig", {"events": events}, arrival)
        self.world.append(json.dumps(line, default=str).encode() for line in lines)
        asyncio.run(self.world.apply())

    @property
    def reader(self) -> Reader:
        """A reader of the world."""
        world = self.world
        return Reader(world.identity, world.store, world.log, SetClock(NOW), timedelta(hours=1))

    def line(self, name: str, unit: str | None = None, days: int = 1) -> dict[str, Any]:
        """The usage line of a metric."""
        query = Query(
            metric=self.world.control.metrics[name],
            customer=None,
            starting_on=DAY,
            ending_before=DAY + timedelta(days=days),
            size=WindowSize.NONE,
            zone=zone_of("UTC"),
            group_key=None,
            group_filters={},
            find=self.world.control.find_typed,
            unit=unit,
        )
        (line,) = lines_of("events", asyncio.run(self.reader.usage(query)).rows)
        return line


def test_a_step_counts_the_metric_that_it_names() -> None:
    """Its events with its criteria: 2 of 4 visits are of kind a, 2 of 3 orders are cheap."""
    found = Statsig(
        visits_a=cloud("event_count_custom", KIND_A),
        cheap_ones=cloud("event_count_custom", CHEAP),
        both_kinds=cloud("event_count_custom", KIND_A, CHEAP),
        users_a=cloud("event_user", KIND_A),
        users_cheap=cloud("event_user", CHEAP),
        events=funnel(
            "events",
            ("visit", "event_count"),
            ("visits_a", "event_count_custom"),
            ("both_kinds", "event_count_custom"),
            ("cheap_ones", "event_count_custom"),
        ),
        users=funnel(
            "users",
            ("visit", "event_dau"),
            ("users_a", "event_user"),
            ("users_cheap", "event_user"),
        ),
        users_last=funnel("users", ("users_a", "event_user"), ("order", "event_dau")),
    )
    found.log()

    assert found.line("events")["steps"] == ["4", "2", "4", "2"]
    assert found.line("events")["value"] == "0.5"
    assert found.line("users")["steps"] == ["2", "2", "2"]
    assert found.line("users_last")["steps"] == ["2", "2"]
    assert found.line("events", days=2)["steps"] == ["5", "3", "5", "2"]


def test_a_step_of_a_metric_that_is_no_count_is_unsupported() -> None:
    """What a step of distinct values, or of a metric that is not computed, would be is unknown."""
    sql = {"type": "metadata", "condition": "sql_filter", "values": ["x"]}
    found = Statsig(
        kinds=cloud(
            "event_count_custom",
            {"name": "visit", "type": "count_distinct", "metadataKey": "kind"},
        ),
        filtered=cloud("event_count_custom", {"name": "visit", "criteria": [sql]}),
        first=funnel("events", ("visit", "event_count"), ("kinds", "event_count_custom")),
        second=funnel("events", ("visit", "event_count"), ("filtered", "event_count_custom")),
    )

    assert found.made["first"].reasons == (
        "step 2 names the metric kinds::event_count_custom, which does not count events",
    )
    assert "which is not computed: a sql_filter" in found.made["second"].reasons[0]


def test_a_name_that_is_nothing_so_far_has_no_value_but_a_reason() -> None:
    """Neither 0 nor a share of 0: null, not complete, until such an event is seen."""
    found = Statsig(
        lost=funnel("events", ("visit", "event_count"), ("wisits_a", "event_count_custom")),
        users=funnel("users", ("visit", "event_dau"), ("later", "event_dau")),
        total=composite(("visit", "event_count"), ("later", "event_dau")),
        wrong=composite(("visit", "event_count"), ("nothing", "sum")),
        inner=composite(("wrong", "composite_sum"), ("visit", "event_count")),
    )
    found.log()

    lost = found.line("lost")
    assert (lost["value"], lost["complete"], "steps" in lost) == (None, False, False)
    assert lost["reasons"] == [
        (
            "wisits_a::event_count_custom is neither a metric here nor an event seen so far: make "
            "that metric and then this one again, or correct the name"
        )
    ]
    unseen = ["later::event_dau: no event 'later' was seen so far"]
    for name in ("users", "total"):
        assert (found.line(name)["value"], found.line(name)["reasons"]) == (None, unseen)
    missing = ["the component nothing::sum is no metric here: make it, or correct the name"]
    for name in ("wrong", "inner"):
        assert (found.line(name)["value"], found.line(name)["reasons"]) == (None, missing)

    found.log([("u2", None, "later", 1, "a", 8)])

    assert found.line("users")["steps"] == ["2", "1"]
    assert found.line("total")["value"] == "5"
    assert "reasons" not in found.line("total")


def test_metrics_of_every_event_are_components() -> None:
    """event_count is events, event_dau (unit, day) pairs, beside metrics that somebody made."""
    found = Statsig(
        orders=cloud("sum", {"name": "order", "type": "value"}),
        both=composite(("visit", "event_count"), ("visit", "event_dau"), ("orders", "sum")),
        plain=composite(("visit", "event_count"), ("order", "event_count")),
    )
    found.log()

    assert found.line("both")["value"] == str(4 + 2 + 112)
    assert found.line("both", days=2)["value"] == str(5 + 3 + 112)
    assert found.line("plain")["value"] == "7"


@pytest.mark.parametrize(
    ("type_", "more", "value"),
    [
        ("event_count_custom", {}, "2"),
        ("sum", {}, "2"),
        ("event_count_custom", {"metadataKey": "kind"}, "3"),
        ("sum", {"metadataKey": "kind"}, "3"),
        ("event_user", {"criteria": []}, "2"),
    ],
)
def test_distinct_counts(type_: str, more: dict[str, Any], value: str) -> None:
    """count_distinct is distinct units, or distinct values of metadataKey, of the window."""
    found = Statsig(only=cloud(type_, {"name": "visit", "type": "count_distinct", **more}))
    found.log()

    assert found.line("only")["value"] == value


@pytest.mark.parametrize(
    "body",
    [
        cloud("mean", {"name": "visit", "type": "count_distinct"}),
        cloud(
            "event_count_custom", {"name": "visit", "type": "count_distinct"}, {"name": "order"}
        ),
        cloud(
            "event_user",
            {"name": "visit", "type": "count_distinct", "metadataKey": "kind", "criteria": []},
        ),
    ],
)
def test_distinct_counts_that_nobody_describes_are_unsupported(body: dict[str, Any]) -> None:
    """A mean or a sum of distinct counts is not guessed."""
    assert "not documented" in Statsig(only=body).made["only"].reasons[0]


def test_every_unit_type_has_a_value_of_its_own() -> None:
    """Of the events that have such a unit; the overall one stays what it was."""
    units = {"unitTypes": ["userID", "stableID"]}
    visit, order = {"name": "visit", "type": "value"}, {"name": "order", "type": "value"}
    found = Statsig(
        total=cloud("sum", visit, **units),
        events=cloud("event_count_custom", {"name": "visit"}, **units),
        average=cloud("mean", visit, **units),
        active=cloud("event_user", {"name": "visit", "criteria": []}, **units),
        ratio=cloud("ratio", visit, order, **units),
        distinct=cloud("sum", {"name": "visit", "type": "count_distinct"}, **units),
        kinds=cloud(
            "sum", {"name": "visit", "type": "count_distinct", "metadataKey": "kind"}, **units
        ),
        steps={**funnel("users", ("visit", "event_dau"), ("order", "event_dau")), **units},
        added=composite(
            ("total", "sum"), ("visit", "event_count"), ("visit", "event_dau"), **units
        ),
    )
    found.log()

    seen = {
        name: tuple(found.line(name, unit)["value"] for unit in (None, "userID", "stableID"))
        for name in found.made
    }
    assert seen == {
        "total": ("15", "7", "11"),
        "events": ("4", "3", "3"),
        "average": (
            "3.75",
            "2.333333333333333333333333333333333",
            "3.666666666666666666666666666666667",
        ),
        "active": ("2", "2", "2"),
        # A unit's orders count on days with a visit: u1 16 and u2 32 of 7; s1 16 of 11.
        "ratio": ("6.857142857142857142857142857142857",) * 2
        + ("1.454545454545454545454545454545455",),
        "distinct": ("2", "2", "2"),
        "kinds": ("3", "2", "3"),
        "steps": ("1", "1", "0.5"),
        "added": (str(15 + 4 + 2), str(7 + 3 + 2), str(11 + 3 + 2)),
    }
    assert found.line("total", "companyID")["value"] is None


def test_a_sum_without_end_is_no_endless_question() -> None:
    """Two sums that name each other have a reason instead of a value."""
    found = Statsig(
        first=composite(("second", "composite_sum"), ("visit", "event_count")),
        second=composite(("first", "composite_sum"), ("visit", "event_count")),
    )
    found.log()

    for name in ("first", "second"):
        line = found.line(name)
        assert (line["value"], line["reasons"]) == (
            None,
            [f"the component {name!r} adds up itself: take it out"],
        )


def test_sums_inside_each_other_have_a_bound() -> None:
    """Thirty levels of two components each would be a billion reads."""
    levels = {
        f"level{n:02}": composite(
            (f"level{n - 1:02}", "composite_sum"), (f"level{n - 1:02}", "composite_sum")
        )
        for n in range(1, 31)
    }
    found = Statsig(
        level00=composite(("visit", "event_count"), ("order", "event_count")), **levels
    )
    found.log()

    assert found.line("level02")["value"] == "28"
    line = found.line("level30")
    assert (line["value"], line["reasons"][0]) == (
        None,
        "it adds up more than 1000 metrics, one inside the other",
    )
