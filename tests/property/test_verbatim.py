"""Events that go out byte for byte are those translate() takes (doors/metronome/verbatim.py)."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import event as seen
from hypothesis import given, settings
from hypothesis import strategies as st

from definitions.errors import DefinitionError
from definitions.events import translate
from definitions.events.common import Arrival
from definitions.formats.bodies import parse_json
from pipeline.core.event import Event, decoder_for
from pipeline.doors.metronome.verbatim import verbatim
from pipeline.log.publish import line_of
from pipeline.recount.events import read_event

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ARRIVAL = Arrival(NOW, new_id=lambda: "new")
WIDE = decoder_for(None, context=True)
GOOD = {
    "transaction_id": "t",
    "customer_id": "c",
    "event_type": "e",
    "timestamp": "2026-03-01T11:00:00Z",
    "properties": {"a": 1},
}
texts = st.one_of(
    st.text(max_size=3), st.sampled_from(["", "x" * 129, "t\\", "\N{SNOWMAN}", '"']), st.none()
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)
changes = st.dictionaries(
    st.sampled_from([*GOOD, "context", "kind", "other"]),
    st.one_of(
        texts,
        values,
        st.sampled_from(["2026-01-01T00:00:00Z", "2026-03-09T00:00:00Z", "2026-03-01", {"a": {}}]),
    ),
    max_size=2,
)


@settings(max_examples=500)
@given(st.lists(changes, max_size=3), st.booleans(), st.booleans())
def test_what_goes_out_verbatim_is_what_translate_takes(
    made: list[dict[str, Any]], ascii_only: bool, spaced: bool
) -> None:
    """The same events, for the worker's decoder and for the recount; or translate() decides."""
    events = [{**GOOD, **each} for each in made]
    separators = (", ", ": ") if spaced else (",", ":")
    body = json.dumps(events, ensure_ascii=ascii_only, separators=separators).encode()

    lines = verbatim(body, ARRIVAL)

    seen("verbatim" if lines is not None else "translated")
    if lines is None:
        return
    taken = translate("metronome", parse_json(body.decode()), ARRIVAL)
    assert [customer for customer, _ in lines] == [each["customer_id"] for each in taken]
    for (_, line), each in zip(lines, taken, strict=True):
        own, theirs = WIDE.decode(line), WIDE.decode(line_of(each))
        assert isinstance(own, Event)
        assert own == theirs
        assert read_event(line) == read_event(line_of(each))


@given(st.integers(1, 100))
def test_plain_bodies_go_out_verbatim(count: int) -> None:
    """The usual case is the fast one, and its bytes are those that came."""
    one = json.dumps(GOOD)
    body = f"[{', '.join([one] * count)}]".encode()

    assert verbatim(body, ARRIVAL) == [("c", one.encode())] * count


def test_limits_are_translates_and_the_deployments() -> None:
    """More than a hundred, none, too old for Metronome or for the deployment: not verbatim."""
    old = {**GOOD, "timestamp": "2026-02-28T11:00:00Z"}
    day = timedelta(days=1)

    assert verbatim(json.dumps([GOOD] * 101).encode(), ARRIVAL) is None
    for body in (b"[]", b"{}", b"", b"[" * 100_000, b'[{"a":' * 3_000, b"\xff"):
        assert verbatim(body, ARRIVAL) is None
    assert verbatim(json.dumps([old]).encode(), ARRIVAL) is not None
    assert verbatim(json.dumps([old]).encode(), replace(ARRIVAL, oldest=day)) is None
    for time in ("2026-01-20T00:00:00Z", "2026-03-02T12:00:01Z", "now"):
        body = json.dumps([{**GOOD, "timestamp": time}]).encode()
        assert verbatim(body, ARRIVAL) is None
        try:
            translate("metronome", parse_json(body.decode()), ARRIVAL)
        except DefinitionError:
            continue
        raise AssertionError(f"translate took {time}")


@given(st.integers(1, 40), st.sampled_from(["{", "["]), st.integers(1, 3))
def test_what_a_worker_finds_too_deep_does_not_go_out(
    depth: int, bracket: str, others: int
) -> None:
    """Depth is seen beside flat events as well, which have brackets to spare."""
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if bracket == "{" else [value]
    bare = {name: text for name, text in GOOD.items() if name != "properties"}
    body = json.dumps([bare] * 20 * others + [{**bare, "properties": {"a": value}}])

    lines = verbatim(body.encode(), ARRIVAL)

    if lines is not None:
        assert all(isinstance(WIDE.decode(line), Event) for _, line in lines)
    assert (lines is None) == (depth + 2 > 32)
