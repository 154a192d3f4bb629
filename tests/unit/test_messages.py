"""What is said of mistakes that new users made: what, where, and what to do."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import Request

from definitions.errors import DefinitionError
from definitions.events import translate
from definitions.events.common import Arrival
from definitions.metric import Component
from definitions.times import why_no_time
from pipeline.cli.bodies import check_body
from pipeline.cli.operate import Durable
from pipeline.control.draft import Draft
from pipeline.control.writer import Writer
from pipeline.core.event import decode_slowly
from pipeline.core.reasons import Rejected
from pipeline.core.windows import RefusedPeriod, WindowSize, windows, zone_of
from pipeline.deploy.wish import DAY_MS, Wish, refuse_other
from pipeline.doors.http.errors import Refused, refused_of
from pipeline.doors.http.requests import needs
from pipeline.edges.clock import SetClock
from pipeline.edges.redis_client import in_cluster
from pipeline.errors import PipelineError
from pipeline.log.letters import Letter, about
from pipeline.log.publish import check
from pipeline.reads.known import is_bare, is_known, no_metric, why_no_group, why_unknown
from pipeline.reads.names import reasons_of
from pipeline.reads.query import Query
from pipeline.reads.usage import Reader

from ..world import FIVE, NOW, World, deployment, event

COUNT = json.dumps({"name": "Calls", "aggregation_type": "COUNT"})
HOUR_S = 3_600


def writer(world: World) -> Writer:
    """What changes metrics, of a draft."""
    return Writer(Draft(world.control), world.identity, SetClock(NOW))


def rename() -> None:
    """To a name that is taken."""
    world = World()
    found = next(iter(world.control.metrics.values()))
    taken = next(name for name in world.control.names if name != found.name)
    asyncio.run(writer(world).rename(found, taken))


def spread(starting_on: datetime, zone: str = "UTC") -> None:
    """Days from a moment on, where the base bucket is an hour."""
    windows(
        starting_on, NOW.replace(day=3), size=WindowSize.DAY, zone=zone_of(zone), bucket_s=HOUR_S
    )


def judged(value: bytes) -> str:
    """What a dead letter says of a value."""
    found = decode_slowly(value)
    assert isinstance(found, Rejected)
    return found.detail


def batch() -> None:
    """One bad event of a hundred."""
    events = [json.loads(event(number)) for number in range(100)]
    del events[57]["customer_id"]
    translate("metronome", events, Arrival(NOW, new_id=str))


def cut() -> str:
    """A file with cut lines and bad dates."""
    lines = [event(1)] * 4 + [b"{"] * 3 + [event(1, timestamp="soon")]
    return check(lines, deployment(), NOW).told


def asked(path: str, **headers: str) -> str:
    """What a door says of a request's key."""
    state = SimpleNamespace(keys={})

    async def fresh() -> Any:
        return state

    app = SimpleNamespace(state=SimpleNamespace(service=SimpleNamespace(fresh=fresh)))
    sent = [(name.encode(), text.encode()) for name, text in headers.items()]
    request = Request(
        {"type": "http", "path": path, "headers": sent, "query_string": b"", "path_params": {}}
        | {"app": app}
    )
    asyncio.run(needs("read")(request))  # type: ignore[arg-type]
    raise AssertionError("it was let through")


def composite() -> str:
    """A Statsig metric of a component that there is not."""
    world = World()
    metric = next(iter(world.control.metrics.values()))
    body = metric.latest.body
    assert body is not None
    awaited = (Component(name="gone", type="sum"),)
    definition = body.definition.model_copy(update={"awaits": awaited})
    metric.versions[-1].body = body.model_copy(update={"definition": definition})
    return "; ".join(reasons_of(metric, lambda *_: None, frozenset()))


ROWS: list[tuple[str, Callable[[], Any], tuple[str, ...]]] = [
    ("rename to a taken name", rename, ("has the name", "already; choose another name")),
    (
        "a bound at 00:30",
        lambda: spread(datetime(2026, 3, 1, 0, 30, tzinfo=UTC)),
        (
            "base bucket of 60 minutes",
            "2026-03-01T00:00:00Z and 2026-03-01T01:00:00Z",
            "--base-bucket 15m",
        ),
    ),
    (
        "days of a zone with 30 minutes",
        lambda: spread(datetime(2026, 3, 1, 18, 0, tzinfo=UTC), "Asia/Kolkata"),
        ("Asia/Kolkata", "zones with 30 or 45 minutes need it"),
    ),
    (
        "a bound at the end of the calendar",
        lambda: spread(datetime(9999, 12, 31, 23, 30, tzinfo=UTC)),
        ("ending_before is before",),
    ),
    (
        "an effective time at 00:30",
        lambda: writer(World()).boundary("2026-03-01T00:30:00Z"),
        ("the nearest: 2026-03-01T00:00:00Z and 2026-03-01T01:00:00Z",),
    ),
    (
        "November 31st",
        lambda: why_no_time("2026-11-31T00:00:00Z"),
        ("November 2026 has 30 days",),
    ),
    ("a bare date", lambda: why_no_time("2026-11-01"), ("like 2026-11-01T00:00:00Z",)),
    (
        "a Metronome body with --format klaviyo",
        lambda: check_body("klaviyo", COUNT),
        ("a body of Metronome", "--format metronome"),
    ),
    (
        "a customer that nothing has counted",
        lambda: why_unknown("acm"),
        ("no metric has counted an event of customer 'acm'",),
    ),
    (
        "a group value that there is not",
        lambda: why_no_group({"region": {"mars"}}, [{"region": "eu"}, {"region": None}]),
        ("region = 'mars'", "there are 'eu'"),
    ),
    (
        "a group value that is nearly right",
        lambda: why_no_group({"region": {"EU-West"}}, [{"region": "eu-west"}]),
        ("did you mean 'eu-west'?",),
    ),
    (
        "tokens where Tokens exists",
        lambda: str(no_metric("tokens", ["Tokens"], "`x`")),
        ("did you mean 'Tokens'?", "`x` lists them"),
    ),
    (
        "HTTP, unknown metric",
        lambda: refused_of(no_metric("gone", [], "GET /m")).message,
        ("no metric has the id or name 'gone'", "GET /m lists them"),
    ),
    (
        "a bare key in Authorization",
        lambda: asked("/v1/usage", authorization="rk_1"),
        ("has no form that is known", "`Authorization: Bearer KEY`"),
    ),
    (
        "a bare key for Klaviyo's door",
        lambda: asked("/api/metrics", authorization="rk_1"),
        ("`Authorization: Klaviyo-API-Key KEY`",),
    ),
    ("no key", lambda: asked("/console/v1/metrics"), ("no key", "`STATSIG-API-KEY: KEY`")),
    (
        "an unknown key",
        lambda: asked("/v1/usage", authorization="Bearer rk_1"),
        ("not known here", "revoked"),
    ),
    (
        "one bad event of a hundred",
        batch,
        ('events[57] (transaction_id "t57"): customer_id is required',),
    ),
    (
        "a file with cut lines and bad dates",
        cut,
        ("4 of 8", "3 not_json (first at line 5)", "1 invalid_timestamp (first at line 8)"),
    ),
    (
        "Ctrl-C in publish",
        lambda: Durable(31_200, 50_000).told(),
        ("31,200 of 50,000 events are durable", "run it again", "counts once"),
    ),
    ("Ctrl-C before anything was sent", lambda: Durable().told(), ("nothing was sent",)),
    (
        "init with another age",
        lambda: refuse_other("x", World().identity, Wish(max_age_ms=120 * DAY_MS)),
        ("--max-age-days is 34 days, not 120 days", "RECOUNT_DEPLOYMENT=NAME recount init"),
    ),
    (
        "init with other formats",
        lambda: refuse_other("x", World().identity, Wish(formats={"klaviyo": {}})),
        ('--config is {}, not {"klaviyo": {}}',),
    ),
    (
        "redis:// to a node of a cluster",
        lambda: str(in_cluster("h:1")),
        ("a node of a Redis Cluster", "redis+cluster://h:1"),
    ),
    (
        "a schema registry's frame",
        lambda: judged(b"\0\0\0\0\x07\x02t1"),
        ("magic byte 0, schema 7", "send plain JSON"),
    ),
    ("a byte order mark", lambda: judged(b"\xef\xbb\xbf{}"), ("byte order mark",)),
    ("UTF-16", lambda: judged('{"a": 1}'.encode("utf-16")), ("UTF-16",)),
    ("gzip", lambda: judged(b"\x1f\x8b\x08\x00"), ("compressed (gzip)",)),
    ("no JSON at all", lambda: judged(b"\0"), ("Expecting value",)),
    ("an unknown component", composite, ("gone::sum is neither a metric here",)),
]


@pytest.mark.parametrize(("mistake", "made", "told"), ROWS, ids=[row[0] for row in ROWS])
def test_a_mistake_is_told_with_what_to_do(
    mistake: str, made: Callable[[], Any], told: tuple[str, ...]
) -> None:
    """The message names what is wrong, where, and what to do instead."""
    try:
        text = str(made())
    except (DefinitionError, PipelineError, RefusedPeriod, Refused) as error:
        text = str(error)

    for part in told:
        assert part in text, mistake


def test_the_dead_letters_of_an_event_are_found_by_its_id() -> None:
    """Also where its bytes are no JSON, and whatever way its characters are spelt."""

    def letter(original: bytes | None, offset: int) -> Letter:
        return Letter("not_json", "d", "t", 0, offset, 0, None, original)

    letters = [
        letter(b'{"transaction_id": "t1", "timestamp": "soon"}', 0),
        letter(b'{"transaction_id": "t1"', 1),
        letter(b'{"transaction_id": "t12"}', 2),
        letter(b'{"transaction_id": "\\u00fc"}', 3),
        letter('{"transaction_id": "ü"}'.encode(), 4),
        letter(None, 5),
    ]

    assert [each.offset for each in about(letters, "t1")] == [0, 1]
    assert [each.offset for each in about(letters, "ü")] == [3, 4]
    assert about(letters, "t") == []


def test_a_customer_is_known_once_a_metric_has_counted_it() -> None:
    """An event that no metric counts makes nobody known; 0 in one window says nothing."""
    world = World()
    world.append([event(1, customer_id="seen")])
    asyncio.run(world.apply())
    metrics = list(world.control.metrics.values())
    reader = Reader(world.identity, world.store, world.log, SetClock(NOW), NOW - NOW)

    def known(customer: str) -> bool:
        return asyncio.run(is_known(world.store, world.identity, metrics, customer))

    def bare(customer: str) -> bool:
        starts = NOW.replace(hour=0)
        query = Query.of(metrics[0], customer=customer, starting_on=starts, ending_before=NOW)
        return is_bare(asyncio.run(reader.usage(query)).rows)

    assert known("seen")
    assert not known("sean")
    assert bare("sean")
    assert asyncio.run(is_known(world.store, world.identity, [], "sean"))
    assert set(FIVE) <= {metric.name for metric in metrics}
