"""Every problem of a batch says which event it is about, in its sender's own words."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from definitions.errors import DefinitionError
from definitions.events import translate_named
from definitions.events.common import Arrival, too_far
from pipeline.doors.http.service import Service

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ARRIVAL = Arrival(NOW, new_id=lambda: "new")
OLD = (NOW - timedelta(days=120)).isoformat()
BAD = 57


def metronome(at: int, **changes: Any) -> dict[str, Any]:
    """An event of Metronome's body."""
    usual = {"customer_id": "c", "event_type": "use", "timestamp": NOW.isoformat()}
    return {"transaction_id": f"t{at}", **usual, **changes}


def statsig(at: int, **changes: Any) -> dict[str, Any]:
    """An event of Statsig's; the tenth has a name that Statsig drops."""
    return {"eventName": "a<b" if at == 10 else f"e{at}", "user": {"userID": "u"}, **changes}


def cloudevent(at: int, **changes: Any) -> dict[str, Any]:
    """A CloudEvent."""
    usual = {"specversion": "1.0", "source": "s", "type": "use", "subject": "c"}
    return {**usual, "id": f"i{at}", **changes}


def klaviyo(at: int, **changes: Any) -> dict[str, Any]:
    """An event of a bulk body."""
    metric = {"data": {"type": "metric", "attributes": {"name": "Used"}}}
    usual = {"properties": {}, "metric": metric, "unique_id": f"q{at}"}
    return {"type": "event", "attributes": {**usual, **changes}}


def bulk(events: list[Any]) -> dict[str, Any]:
    """A bulk body of two profiles."""
    profiles = [
        {
            "type": "profile-bulk-create",
            "attributes": {
                "profile": {"data": {"type": "profile", "attributes": {"external_id": name}}},
                "events": {"data": part},
            },
        }
        for name, part in (("a", events[:20]), ("b", events[20:]))
    ]
    held = {"events-bulk-create": {"data": profiles}}
    return {"data": {"type": "event-bulk-create-job", "attributes": held}}


BODIES: dict[str, Any] = {
    "metronome": (metronome, list, f'events[57] (transaction_id "t{BAD}")'),
    "statsig": (statsig, lambda events: {"events": events}, f'events[57] (eventName "e{BAD}")'),
    "cloudevents": (cloudevent, list, f'events[57] (id "i{BAD}")'),
    "klaviyo": (klaviyo, bulk, f'events[57] (unique_id "q{BAD}")'),
}
WRONG: dict[str, list[dict[str, Any]]] = {
    "metronome": [{"timestamp": 7}, {"customer_id": ""}, {"timestamp": OLD}, {"properties": []}],
    "statsig": [{"time": "soon"}, {"user": 7}, {"metadata": []}],
    "cloudevents": [{"time": "soon"}, {"subject": ""}, {"data": []}],
    "klaviyo": [{"time": "soon"}, {"properties": 7}, {"value": "much"}],
}


def body_of(system: str, **changes: Any) -> Any:
    """A body of 90 events, one of them changed."""
    made, whole, _ = BODIES[system]
    return whole([made(at, **(changes if at == BAD else {})) for at in range(90)])


@pytest.mark.parametrize(
    ("system", "changes"), [(name, each) for name, many in WRONG.items() for each in many]
)
def test_what_a_translation_refuses_is_named(system: str, changes: dict[str, Any]) -> None:
    """Index from 0 over the whole body, and the id that the sender gave."""
    with pytest.raises(DefinitionError) as refused:
        translate_named(system, body_of(system, **changes), ARRIVAL)

    assert refused.value.problems
    for problem in refused.value.problems:
        assert problem.message.startswith(f"{BODIES[system][2]}: "), problem


@pytest.mark.parametrize(
    ("system", "changes"),
    [
        ("statsig", {"user": {"userID": "u" * 300}}),
        ("statsig", {"time": OLD}),
        ("cloudevents", {"subject": "c" * 300}),
        ("cloudevents", {"time": OLD}),
        ("klaviyo", {"time": OLD}),
    ],
)
def test_what_a_worker_would_reject_is_named_alike(system: str, changes: dict[str, Any]) -> None:
    """Also behind an event that the vendor drops: the place is the one in the body."""
    events = translate_named(system, body_of(system, **changes), ARRIVAL)
    service = cast("Service", SimpleNamespace(arrival=lambda: ARRIVAL))

    with pytest.raises(DefinitionError) as refused:
        Service.checked(service, events)

    (problem,) = refused.value.problems
    assert problem.message.startswith(f"{BODIES[system][2]}: "), problem
    assert problem.pointer in {each.pointer for each in events}
    assert problem.pointer.endswith(f"/{BAD - 20 if system == 'klaviyo' else BAD}")


@pytest.mark.parametrize("seconds", [5, 55, 3_000])
def test_a_limit_and_what_passed_it_never_read_alike(seconds: int) -> None:
    """An event seconds too old of a limit of days: the message has two different spans."""
    arrival = replace(ARRIVAL, oldest=timedelta(days=120), newest=timedelta(days=120))
    span = timedelta(days=120, seconds=seconds)
    for at in (NOW - span, NOW + span):
        far = too_far(int(at.timestamp()) * 10**9, arrival)
        assert far is not None
        is_at, most = far.split(";")
        assert is_at.split()[0] not in most
