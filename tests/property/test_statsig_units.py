"""Warehouse-native metrics of Statsig against plain lists of events: each number made twice.

The oracle knows nothing of cells: it walks the events of a window, unit by unit.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil
from types import ModuleType
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definitions.formats import parse
from definitions.formats.bodies import Terms
from definitions.metric import Definition
from pipeline.audit.auditor import Auditor
from pipeline.core.compiled import MODULE
from pipeline.core.windows import WindowSize, zone_of
from pipeline.edges.clock import SetClock
from pipeline.errors import UsageError
from pipeline.reads.lines import lines_of
from pipeline.reads.query import Query
from pipeline.reads.usage import Reader

from ..world import NOW, World, deployment

DAY: Final = datetime(2026, 2, 20, tzinfo=UTC)
# The days of units begin at midnight UTC here, so that days of the oracle are those of a date.
TERMS: Final = Terms(statsig_sources={"orders": "order", "visits": "visit"}, statsig_day_minutes=0)
MS_PER_DAY: Final = 86_400_000


class Seen(NamedTuple):
    """An event. ms: after DAY."""

    name: str
    user: str | None
    ms: int
    value: Any
    session: str | None
    plan: str | None

    @property
    def day(self) -> int:
        """The day it is of."""
        return self.ms // MS_PER_DAY


@st.composite
def seen(draw: st.DrawFn) -> list[Seen]:
    """Events of few users within four days, many of them at the same times."""
    moment = st.one_of(
        st.sampled_from([0, 1, 2, 3_600_000, 7_200_000]),
        st.integers(0, 3).map(lambda day: day * MS_PER_DAY),
        st.integers(0, 4 * MS_PER_DAY - 1),
    )
    one = st.builds(
        Seen,
        name=st.sampled_from(["order", "visit", "visit"]),
        user=st.sampled_from(["u1", "u1", "u2", "u3", None]),
        ms=moment,
        value=st.sampled_from([None, 0, 1, 2, Decimal("2.5"), -3, 7, "7.0", "no"]),
        session=st.sampled_from(["s1", "s2", None]),
        plan=st.sampled_from(["free", "paid", None]),
    )
    return draw(st.lists(one, max_size=30))


def metric(own: Mapping[str, Any], **more: Any) -> Definition:
    """A computed warehouse-native metric."""
    body = {
        "name": "metric",
        "type": "user_warehouse",
        "unitTypes": ["userID"],
        "warehouseNative": {**own, **more},
    }
    definition = parse("statsig", json.dumps(body, default=float), TERMS)[1]
    assert definition.computable, definition.reasons
    return definition


def line_of(number: int, one: Seen) -> bytes:
    """The event as the log holds it."""
    given = {"v": one.value, "s": one.session, "plan": one.plan}
    held = {key: each for key, each in given.items() if each is not None}
    context = {} if one.user is None else {"context": {"user": {"userID": one.user}}}
    at = DAY + timedelta(milliseconds=one.ms)
    made = {
        "transaction_id": f"t{number}",
        "customer_id": "c",
        "event_type": one.name,
        "timestamp": at.isoformat().replace("+00:00", "Z"),
        "properties": held,
        **context,
    }
    return json.dumps(made, default=float).encode()


def applied(
    definition: Definition, events: Iterable[Seen], native: ModuleType | None = MODULE
) -> World:
    """A world that has counted the events, and that an audit found right."""
    world = World(metrics={"m": definition}, settings=deployment(max_age_ms=0), native=native)
    world.append(line_of(number, one) for number, one in enumerate(events))

    async def work() -> Any:
        await world.apply()
        auditor = Auditor(world.identity, world.heard, world.store, world.log)
        return await auditor.run(lambda _: None, lambda _: None)

    assert list(asyncio.run(work()).lines) == []
    return world


def ask(
    world: World,
    *,
    starts: int = 0,
    days: int = 4,
    unit: str | None = None,
    key: tuple[str, ...] | None = None,
) -> list[dict[str, Any]]:
    """Lines of the days [starts, starts + days)."""
    query = Query(
        metric=world.control.metrics["m"],
        customer=None,
        starting_on=DAY + timedelta(days=starts),
        ending_before=DAY + timedelta(days=starts + days),
        size=WindowSize("none"),
        zone=zone_of("UTC"),
        group_key=key,
        group_filters={},
        unit=unit,
    )
    reader = Reader(world.identity, world.store, world.log, SetClock(NOW), timedelta(hours=1))
    return lines_of("events", asyncio.run(reader.usage(query)).rows)


def number_in(value: Any) -> Decimal | None:
    """What a value counts as."""
    if isinstance(value, str):
        return Decimal(value) if value != "no" else None
    return None if value is None else Decimal(value)


# -- ordered funnels -----------------------------------------------------------------------------

FUNNEL: Final = {
    "aggregation": "funnel",
    "funnelStartCriteria": "start_event",
    "funnelEvents": [
        {"name": "look", "metricSourceName": "visits"},
        {"name": None, "metricSourceName": "visits", "criteria": []},
        {"name": "buy", "metricSourceName": "orders"},
    ],
}
PAID: Final = [{"type": "metadata", "column": "plan", "condition": "=", "values": ["paid"]}]


class Asked(NamedTuple):
    """The options of a funnel."""

    days: Any
    allowance: int
    strict: bool
    sessions: bool
    counts: str

    @property
    def members(self) -> dict[str, Any]:
        """As Statsig spells them."""
        steps: list[dict[str, Any]] = [dict(each) for each in FUNNEL["funnelEvents"]]  # type: ignore[call-overload]
        steps[1]["criteria"] = PAID
        for step in steps:
            step["sessionIdentifierField"] = "s" if self.sessions else None
        return {
            "funnelEvents": steps,
            "funnelCountDistinct": self.counts,
            "funnelCalculationWindow": self.days,
            "funnelTimestampAllowanceMs": self.allowance,
            "funnelStrictOrdering": self.strict,
        }


ASKED: Final = st.builds(
    Asked,
    days=st.sampled_from([None, 1, 2, Decimal("0.5")]),
    allowance=st.sampled_from([0, 0, 1, 3_600_000]),
    strict=st.booleans(),
    sessions=st.booleans(),
    counts=st.just("users"),
).flatmap(
    lambda asked: st.sampled_from(
        [asked, asked._replace(counts="sessions" if asked.sessions else "users")]
    )
)


def passed(events: Sequence[Seen], asked: Asked) -> list[list[int]]:
    """When each that is counted passed its steps, as far as it came."""
    of: dict[Any, list[Seen]] = defaultdict(list)
    for one in events:
        if one.user is not None and not (asked.sessions and one.session is None):
            of[one.user, one.session if asked.sessions else None].append(one)
    furthest: dict[Any, list[int]] = {}
    for (user, session), own in of.items():
        way = _way(own, asked)
        whose = (user, session) if asked.counts == "sessions" else user
        if way and len(way) > len(furthest.get(whose, ())):
            furthest[whose] = way
    return list(furthest.values())


def _way(own: Sequence[Seen], asked: Asked) -> list[int]:
    tests: list[Callable[[Seen], bool]] = [
        lambda one: one.name == "visit",
        lambda one: one.name == "visit" and one.plan == "paid",
        lambda one: one.name == "order",
    ]
    way: list[int] = []
    for test in tests:
        later = [one.ms for one in own if test(one)]
        if way:
            earliest = way[-1] - asked.allowance
            later = [ms for ms in later if (ms > earliest if asked.strict else ms >= earliest)]
        if not later:
            break
        if way and asked.days is not None and min(later) - way[0] > asked.days * MS_PER_DAY:
            break
        way.append(min(later))
    return way


@settings(max_examples=120, deadline=None)
@given(seen(), ASKED, st.integers(0, 2), st.integers(1, 4), st.sampled_from([MODULE, None]))
def test_an_ordered_funnel_is_followed_unit_by_unit(
    events: list[Seen], asked: Asked, starts: int, days: int, native: ModuleType | None
) -> None:
    """Steps one after the other, within the calculation window, in sessions; each order alike."""
    definition = metric(FUNNEL, **asked.members)
    inside = [one for one in events if starts <= one.day < starts + days]

    (line,) = ask(applied(definition, events, native), starts=starts, days=days)

    ways = passed(inside, asked)
    steps = [sum(len(way) > at for way in ways) for at in range(3)]
    assert [int(each) for each in line["steps"]] == steps
    if steps[0]:
        assert Fraction(line["value"]).limit_denominator(1000) == Fraction(steps[2], steps[0])
    else:
        assert line["value"] is None


def test_a_funnel_by_hand() -> None:
    """u1 converts in 2 hours, u2 only after the window, u3 in the wrong order."""
    hour = 3_600_000
    events = [
        Seen("visit", "u1", 0, None, None, "paid"),
        Seen("visit", "u1", hour, None, None, "paid"),
        Seen("order", "u1", 2 * hour, None, None, None),
        Seen("visit", "u2", 0, None, None, "paid"),
        Seen("visit", "u2", hour, None, None, "paid"),
        Seen("order", "u2", 30 * hour, None, None, None),
        Seen("order", "u3", 0, None, None, None),
        Seen("visit", "u3", hour, None, None, "paid"),
    ]
    asked = Asked(1, 0, strict=True, sessions=False, counts="users")

    (rate,) = ask(applied(metric(FUNNEL, **asked.members), events))
    timed = metric(FUNNEL, **asked.members, funnelTimeToConvert=True)
    (took,) = ask(applied(timed, events))
    (wider,) = ask(applied(metric(FUNNEL, **asked._replace(days=2).members), events))

    assert (rate["value"], rate["steps"]) == (
        "0.3333333333333333333333333333333333",
        ["3", "2", "1"],
    )
    assert (took["value"], took["denominator"]) == ("7200", "1")
    assert wider["steps"] == ["3", "2", "2"]


# -- percentile, winsorization, participation, breakdowns ----------------------------------------


@settings(max_examples=80, deadline=None)
@given(seen(), st.sampled_from([50, 90, Decimal("99.9"), Decimal("0.25"), 1, 100]))
def test_a_percentile_is_the_value_at_the_nearest_rank(events: list[Seen], level: Any) -> None:
    """Of all values; texts that are no number are unreadable. CS27: two spellings of a rank."""
    own = {"aggregation": "percentile", "metricSourceName": "visits", "valueColumn": "v"}

    (line,) = ask(applied(metric(own, percentile=level), events))

    given_ = [one.value for one in events if one.name == "visit" and one.value is not None]
    values = sorted(value for value in map(number_in, given_) if value is not None)
    rank = Fraction(level) / 100 if level > 1 else Fraction(level)
    if values:
        assert Decimal(line["value"]) == values[max(ceil(rank * len(values)), 1) - 1]
    else:
        assert line["value"] is None
    assert line["unreadable"] == given_.count("no")


@settings(max_examples=80, deadline=None)
@given(
    seen(),
    st.sampled_from(["sum", "count"]),
    st.sampled_from([None, Decimal("0.25"), Decimal("0.5")]),
    st.sampled_from([None, Decimal("0.5"), Decimal("0.75"), 1]),
    st.sampled_from([None, 2]),
)
def test_totals_of_units_are_winsorized(
    events: list[Seen], kind: str, low: Any, high: Any, cap: int | None
) -> None:
    """Totals below and above those at two ranks are replaced by them, the capped ones too."""
    own = {"aggregation": kind, "metricSourceName": "visits", "valueColumn": "v"}
    limits = {"winsorizationLow": low, "winsorizationHigh": high, "cap": cap}

    (line,) = ask(applied(metric(own, **limits), events))

    days: dict[Any, Decimal] = defaultdict(Decimal)
    for one in events:
        value = Decimal(1) if kind == "count" else number_in(one.value)
        limited = {low, high, cap} != {None}
        if one.name == "visit" and value is not None and (one.user is not None or not limited):
            days[one.user, one.day] += value
    totals: dict[Any, Decimal] = defaultdict(Decimal)
    for (user, _), number in days.items():
        totals[user] += number if cap is None else min(number, Decimal(cap))
    ranked = sorted(total for total in totals.values() if total)

    def at(rank: Any, otherwise: Decimal) -> Decimal:
        if rank is None or not ranked:
            return otherwise
        return ranked[max(ceil(Fraction(rank) * len(ranked)), 1) - 1]

    wanted = [min(max(each, at(low, each)), at(high, Decimal(10**9))) for each in ranked]
    assert Decimal(line["value"]) == sum(wanted)


@settings(max_examples=60, deadline=None)
@given(seen(), st.booleans(), st.booleans())
def test_a_ratio_of_daily_participation(events: list[Seen], above: bool, below: bool) -> None:
    """A side of daily participation adds 1 for each unit and day, any other one its events."""
    kind = {True: "daily_participation", False: "count"}
    own = {
        "aggregation": "ratio",
        "metricSourceName": "orders",
        "numeratorAggregation": kind[above],
        "denominatorMetricSourceName": "visits",
        "denominatorAggregation": kind[below],
    }

    (line,) = ask(applied(metric(own), events))

    sides: dict[str, dict[Any, int]] = {"order": defaultdict(int), "visit": defaultdict(int)}
    for one in events:
        if one.user is not None:
            sides[one.name][one.user, one.day] += 1
    top = {at: 1 if above else held for at, held in sides["order"].items()}
    bottom = {at: 1 if below else held for at, held in sides["visit"].items()}
    numerator = sum(held for at, held in top.items() if at in bottom)
    if bottom:
        assert (line["numerator"], line["denominator"]) == (
            str(numerator),
            str(sum(bottom.values())),
        )
    else:
        assert line["value"] is None


@settings(max_examples=60, deadline=None)
@given(seen(), st.sampled_from(["sum", "count", "daily_participation", "max"]))
def test_breakdowns_are_the_metric_of_each_value(events: list[Seen], kind: str) -> None:
    """metricDimensionColumns: a row of a value is the metric over the events that have it."""
    own = {"aggregation": kind, "metricSourceName": "visits", "valueColumn": "v"}
    broken = metric(own, metricDimensionColumns=["plan"])

    found = applied(broken, events)

    (whole,), (plain,) = ask(found), ask(applied(metric(own), events))
    assert whole["value"] == plain["value"]
    for line in ask(found, key=("plan",)):
        plan = line["group"]["plan"]
        (alone,) = ask(applied(metric(own), [one for one in events if one.plan == plan]))
        assert line["value"] == alone["value"], plan


@settings(max_examples=80, deadline=None)
@given(
    seen(),
    st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 2)]),
    st.integers(0, 3),
    st.integers(1, 4),
)
def test_a_retention_is_of_the_days_after(
    events: list[Seen], ends: tuple[int, int], starts: int, days: int
) -> None:
    """Each unit and day of the window, also where the unit comes back behind the window."""
    end, length = ends
    own = {"aggregation": "retention", "metricSourceName": "visits"}
    definition = metric(own, retentionEnd=end, retentionLength=length)

    (line,) = ask(applied(definition, events), starts=starts, days=days)

    active = {(one.user, one.day) for one in events if one.name == "visit" and one.user}
    cohort = [(user, day) for user, day in active if starts <= day < starts + days]
    back = [
        (user, day)
        for user, day in cohort
        if any((user, day + later) in active for later in range(end - length + 1, end + 1))
    ]
    if cohort:
        assert (line["numerator"], line["denominator"]) == (str(len(back)), str(len(cohort)))
    else:
        assert line["value"] is None


def test_a_retention_waits_for_its_days() -> None:
    """Its window is complete once the days after it are over, and is of whole days of units."""
    own = {"aggregation": "retention", "metricSourceName": "visits"}
    events = [Seen("visit", "u1", day * MS_PER_DAY, None, None, None) for day in (0, 1)]
    soon = applied(metric(own, retentionEnd=2, retentionLength=2), events)
    late = applied(metric(own, retentionEnd=30, retentionLength=30), events)

    assert [ask(each, days=1)[0]["complete"] for each in (soon, late)] == [True, False]
    with pytest.raises(UsageError, match="whole days"):
        asyncio.run(_hourly(soon))


async def _hourly(world: World) -> None:
    reader = Reader(world.identity, world.store, world.log, SetClock(NOW), timedelta(hours=1))
    query = Query.of(
        world.control.metrics["m"],
        starting_on=DAY,
        ending_before=DAY + timedelta(days=1),
        window_size="hour",
    )
    await reader.usage(query)
