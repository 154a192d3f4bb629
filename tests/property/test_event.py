"""Bytes → Event: the fast decoder, the slow one, the recount's own and the oracle agree."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from definitions.times import parse_timestamp
from definitions.values import ABSENT, Unreadable, canonical, decimal_of_text, text_form
from pipeline.core.correction import Correction
from pipeline.core.event import Decoded, Decoder, Event, decode_slowly, no_time
from pipeline.core.reasons import Rejected
from pipeline.recount.events import NotCounted, Plain, Void, read_event, read_number
from pipeline.recount.matching import plain as recount_plain
from pipeline.recount.matching import text_of

from .. import recount as oracle
from ..world import decode

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
STAMPS = st.one_of(
    st.from_regex(
        r"\A[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,12})?"
        r"(Z|z|[+-][0-2][0-9]:[0-6][0-9])\Z"
    ),
    st.text(max_size=25),
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "transaction_id": st.one_of(st.text(min_size=1, max_size=130), JSON),
        "customer_id": st.one_of(st.text(min_size=1, max_size=5), JSON),
        "event_type": st.one_of(st.just("use"), JSON),
        "timestamp": STAMPS,
        "properties": st.one_of(st.dictionaries(st.text(max_size=4), JSON, max_size=4), JSON),
        "context": JSON,
        "kind": st.one_of(st.just("usage"), JSON),
        "more": JSON,
    },
)
GOOD = (
    b'{"transaction_id":"t","customer_id":"c","event_type":"e","timestamp":"2024-01-01T00:00:00Z"'
)


VOID = GOOD.replace(b'"event_type":"e"', b'"kind":"void"')
AMEND = GOOD.replace(b'"event_type":"e"', b'"kind":"amend"')


def spoiled(members: dict[str, object], at: int, bytes_: bytes) -> bytes:
    """An event with foreign bytes in it."""
    raw = json.dumps(members).encode()
    return raw[:at] + bytes_ + raw[at:]


BYTES = st.one_of(
    MEMBERS.map(lambda made: json.dumps(made).encode()),
    MEMBERS.map(
        lambda made: json.dumps(made, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ),
    st.binary(max_size=40),
    st.tuples(MEMBERS, st.integers(0, 200), st.binary(max_size=2)).map(
        lambda made: spoiled(*made)
    ),
)


def timed(verdict: Decoded) -> Decoded:
    """A verdict after the time stamp was looked at."""
    if isinstance(verdict, Rejected):
        return verdict
    return no_time(verdict) if parse_timestamp(verdict.timestamp) is None else verdict


def plain(event: Event) -> dict[str, str | None]:
    """The text forms of an event's properties, numbers included."""
    return {name: text_form(value) for name, value in (event.properties or {}).items()}


@given(BYTES)
@example(GOOD + b',"properties":{"x":1e400,"y":' + b"9" * 5000 + b"}}")
@example(GOOD + b',"properties":{"x":' + b"[" * 40 + b"]" * 40 + b"}}")
@example(GOOD + b',"properties":{"x":' + b"[" * 30 + b"]" * 30 + b"}}")
@example(GOOD + b',"properties":{"x":' + b"[" * 31 + b"]" * 31 + b"}}")
@example(GOOD + b',"properties":{"x":' + b"[" * 100_000 + b"}}")
@example(GOOD + b',"more":"\\ud800"}')
@example(GOOD + b',"properties":{"x":"\\udc00"}}')
@example(GOOD + b',"properties":{"\\ud800":1}}')
@example(GOOD + b',"more":"\xff"}')
@example(GOOD + b',"properties":{"x":NaN}}')
@example(GOOD + b',"transaction_id":7}')
@example(GOOD + b',"customer_id":7,"customer_id":"d"}')
@example(GOOD + b',"properties":null,"context":null,"kind":null}')
@example(b"\xef\xbb\xbf" + GOOD + b"}")
@example(GOOD.decode().encode("utf-16"))
@example(VOID + b"}")
@example(VOID + b',"voids":{"transaction_id":"t","at":"0@7"}}')
@example(VOID + b',"voids":{"transaction_id":"t","at":"0@07"}}')
@example(VOID + b',"voids":{"transaction_id":"t","at":"0@7\\n"}}')
@example(VOID + b',"voids":{"transaction_id":7,"at":"0@7"}}')
@example(VOID + b',"voids":{"at":"0@7"},"event_type":7,"properties":[]}')
@example(VOID + b',"voids":[]}')
@example(VOID + b',"timestamp":"yesterday"}')
@example(VOID + b',"customer_id":""}')
@example(VOID + b',"kind":"\\u0076oid"}')
@example(VOID + b',"kind":["void"]}')
@example(AMEND + b"}")
@example(AMEND + b',"event":{"event_type":"e"},"amends":{"transaction_id":"t","at":"0@7"}}')
@example(AMEND + b',"event":{"event_type":"e","properties":{"v":1.50},"context":{"a":"\\u0062"}}}')
@example(AMEND + b',"event":{"event_type":"e","properties":null,"context":null}}')
@example(AMEND + b',"event":{"event_type":"e","properties":[]}}')
@example(AMEND + b',"event":{"event_type":"e","customer_id":"b"}}')
@example(AMEND + b',"event":{"event_type":""}}')
@example(AMEND + b',"event":{"event_type":7}}')
@example(AMEND + b',"event":{"event_type":"' + b"e" * 257 + b'"}}')
@example(AMEND + b',"event":[],"voids":{"transaction_id":"t","at":"0@7"}}')
def test_every_decoder_agrees(value: bytes) -> None:
    """Fast, slow, recount and oracle accept the same bytes and read the same event from them."""
    fast, slow = timed(decode(value)), timed(decode_slowly(value) if value else decode(value))
    try:
        recounted: Plain | Void | None = read_event(value)
        reason = ""
    except Void as void:
        recounted = void
    except NotCounted as why:
        recounted, reason = None, str(why)
    seen = oracle.usable(value)

    if isinstance(fast, Correction):
        assert fast == slow
        assert isinstance(recounted, Void)
        place = None if recounted.offset is None else (recounted.partition, recounted.offset)
        assert fast.original is None or place == fast.place or fast.place is None
        if fast.original is not None and fast.place is not None:
            assert (recounted.original, place) == (fast.original, fast.place)
        else:
            assert recounted.offset is None
        assert recounted.transaction_id == fast.transaction_id
        assert recounted.customer_id == fast.customer_id
        assert seen is not None
        said = fast.replacement
        assert seen["kind"] == ("void" if said is None else "amend")
        assert (said is None) == (recounted.event is None)
        if said is not None and recounted.event is not None:
            names = recounted.event.properties.keys(), recounted.event.context.keys()
            assert recounted.event.event_type == said.event_type
            assert names == (said.properties.keys(), (said.context or {}).keys())
        return

    if isinstance(fast, Rejected):
        assert isinstance(slow, Rejected)
        assert fast.reason == slow.reason == reason
        assert seen is None
        return
    assert isinstance(slow, Event)
    assert plain(fast) == plain(slow)
    assert fast.transaction_id == slow.transaction_id
    assert parse_timestamp(fast.timestamp) == parse_timestamp(slow.timestamp)
    assert isinstance(recounted, Plain)
    assert recounted.at == parse_timestamp(fast.timestamp)
    assert {name: text_of(item) for name, item in recounted.properties.items()} == plain(fast)
    assert seen is not None
    assert oracle.event_ns(seen["timestamp"]) == parse_timestamp(fast.timestamp)


@given(st.lists(BYTES, max_size=70), st.sampled_from([None, frozenset(), frozenset({"a", "b"})]))
@example(
    [GOOD + b"}"] * 32 + [GOOD + b',"properties":{"x":' + b"[" * 31 + b"]" * 31 + b"}}"], None
)
@example(
    [GOOD + b"}"] * 30 + [GOOD + b',"properties":{"x":' + b"[" * 30 + b"]" * 30 + b"}}"], None
)
@example([GOOD + b"}", b"", GOOD + b',"more":"\\u00e9"}', GOOD + b"}"], None)
def test_many_decode_as_each_by_itself(values: list[bytes], keys: frozenset[str] | None) -> None:
    """Events that are tested and decoded together get the verdicts that each gets alone."""
    decoder = Decoder(keys)

    assert decoder.decode_all(values) == [decoder.decode(value) for value in values]


def read(decoder: Decoder, event: Event, key: str) -> Any:
    """What the decoder's own reader of a property reads."""
    return decoder.reader(key)(event.properties)


@given(
    BYTES,
    st.one_of(
        st.frozensets(st.text(max_size=4), max_size=6),
        st.just(frozenset({"", "a", "0", '"', "\\", "\n", "ü", "\x7f", "\u2028"})),
        st.just(frozenset(map(str, range(40)))),
    ),
    st.booleans(),
)
@example(GOOD + b',"properties":{"a":1.50,"b":{"c":[1,{}]},"a":null}}', frozenset("a"), False)
@example(GOOD + b',"properties":{"b":01}}', frozenset("a"), False)
@example(GOOD + b',"properties":{"b":1.}}', frozenset("a"), False)
@example(GOOD + b',"properties":{"b":-}}', frozenset("a"), False)
@example(GOOD + b',"properties":{"b":1e}}', frozenset("a"), False)
@example(GOOD + b',"properties":{"b":.5}}', frozenset("a"), False)
@example(GOOD + b',"properties":{"b":nul}}', frozenset("a"), False)
@example(GOOD + b',"properties":{"b":"\x1f"}}', frozenset("a"), False)
@example(GOOD + b',"properties":{"b":"\x7f"}}', frozenset("a"), False)
@example(GOOD + b',"properties":{"b":[1,]}}', frozenset("a"), False)
@example(GOOD + b',"properties":{"b":1,}}', frozenset("a"), False)
@example(GOOD + b',"properties":{"b":-Infinity}}', frozenset("a"), False)
@example(GOOD + b',"context":{"b":NaN}}', frozenset("a"), False)
@example(GOOD + b',"context":{"b":' + b"9" * 5000 + b"}}", frozenset("a"), False)
@example(
    GOOD + b',"properties":{"b":' + b'{"":' * 30 + b"1" + b"}" * 30 + b"}}", frozenset("a"), False
)
@example(
    GOOD + b',"properties":{"b":' + b'{"":' * 31 + b"1" + b"}" * 31 + b"}}", frozenset("a"), False
)
def test_reading_less_changes_no_verdict(
    value: bytes, keys: frozenset[str], context: bool
) -> None:
    """A decoder that makes only some properties accepts the same bytes and reads them alike."""
    decoder = Decoder(keys, context=context)
    every, some = decode(value), decoder.decode(value)

    if not isinstance(every, Event):
        assert some == every
        return
    assert isinstance(some, Event)
    assert (some.transaction_id, some.customer_id, some.timestamp) == (
        every.transaction_id,
        every.customer_id,
        every.timestamp,
    )
    for key in keys:
        wanted = every.properties.get(key, ABSENT)
        assert text_form(read(decoder, some, key)) == text_form(wanted)
        assert (read(decoder, some, key) is ABSENT) == (wanted is ABSENT)
    if context:
        assert repr(some.context) == repr(every.context)


@given(
    st.one_of(
        st.from_regex(r"\A[+-]?[0-9]{0,70}\.?[0-9]{0,70}([eE][+-]?[0-9]{1,3})?\Z"), st.text()
    )
)
@example("1\n")
@example("\uff11\uff12")  # full-width digits
@example("1e" + "9" * 5000)
def test_numbers_are_read_alike(text: str) -> None:
    """Decimal text is read by pipeline, recount and oracle alike, exactly or not at all."""
    value, exact = decimal_of_text(text), oracle.number(text)

    assert (value is None) == (exact is None) == (read_number(text) is None)
    if value is not None and exact is not None:
        assert canonical(value) == oracle.plain(exact) == recount_plain(value)
        assert "E" not in canonical(value).upper()


def test_unreadable_numbers_keep_the_event() -> None:
    """A number outside C04 is an unreadable value, not a rejection."""
    event = decode(GOOD + b',"properties":{"a":1e65,"b":1e400,"c":' + b"1" * 65 + b',"d":1e64}}')

    assert isinstance(event, Event)
    assert [text_form(value) for value in event.properties.values()][:3] == [None, None, None]
    assert isinstance(event.properties["a"], Unreadable)
    assert text_form(event.properties["d"]) == "1" + "0" * 64
