"""The recount's quick ways say what its slow ones say, or nothing."""

import json
from typing import Any
from zlib import crc32

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from definitions.metric import Field
from pipeline.recount.events import (
    MEMBERS,
    NotCounted,
    Plain,
    UnreadableText,
    customer_in,
    read_event,
    read_quickly,
)
from pipeline.recount.ledger import Share
from pipeline.recount.matching import look_up, number_of, text_of

from .test_event import BYTES, GOOD
from .test_event import MEMBERS as MADE

PLAIN = {
    "transaction_id": "t",
    "customer_id": "c",
    "event_type": "use",
    "timestamp": "2026-03-01T11:30:00.123Z",
    "properties": {"v": 1, "w": -2.5, "x": "ü", "y": [1, "2", None, True], "z": {"a": {}}},
    "context": {"value": 5, "user": {"userID": "u"}},
}


def slowly(value: bytes) -> Plain | str:
    """An event, or why it is none."""
    try:
        return read_event(value)
    except NotCounted as why:
        return str(why)


def quickly(value: bytes) -> Plain | str | None:
    """The same by the quick way; None where it abstains."""
    try:
        return read_quickly(value)
    except NotCounted as why:
        return str(why)


def worth(event: Plain, key: str) -> Any:
    """What rules can see of a property."""
    value = look_up(Field(source="property", key=key), event)
    if isinstance(value, UnreadableText):
        return "unreadable"
    elements = value if isinstance(value, list) else [value]
    read = [(text_of(each), number_of(each, from_text=True)) for each in elements]
    return type(value) is list, type(value) is bool, read


def check(value: bytes) -> None:
    """Hold the quick way to the slow one."""
    found, wanted = quickly(value), slowly(value)
    if found is None:
        return
    if isinstance(found, str) or isinstance(wanted, str):
        assert found == wanted
        return
    assert found[:4] == wanted[:4]
    assert found.properties.keys() == wanted.properties.keys()
    assert found.context.keys() == wanted.context.keys()
    for key in wanted.properties:
        assert worth(found, key) == worth(wanted, key)


@given(BYTES)
@example(GOOD + b',"properties":{"x":' + b"9" * 64 + b',"y":-' + b"9" * 63 + b"}}")
@example(GOOD + b',"properties":{"x":' + b"9" * 65 + b',"y":-' + b"9" * 64 + b"}}")
@example(GOOD + b',"properties":{"x":' + b"9" * 5000 + b"}}")
@example(GOOD + b',"properties":{"x":[1,' + b"9" * 65 + b'],"y":-0,"z":1e400}}')
@example(GOOD + b',"properties":{"x":' + b"[" * 31 + b"]" * 31 + b"}}")
@example(GOOD + b',"kind":"usage"}')
@example(GOOD + b',"kind":"void"}')
@example(GOOD + b',"kind":null}')
@example(GOOD + b',"properties":null}')
@example(GOOD + b',"more":"\xff"}')
@example(GOOD + b',"transaction_id":""}')
@example(GOOD + b',"customer_id":"' + b"c" * 257 + b'"}')
@example(GOOD + b',"context":{"\\ud800":1}}')
def test_the_quick_reading_is_the_slow_one(value: bytes) -> None:
    """Whatever the quick way reads or refuses, the slow way reads and refuses alike."""
    check(value)


@given(
    st.one_of(
        st.from_regex(
            r"\A20[0-9]{2}-[01][0-9]-[0-3][0-9][Tt][0-2][0-9]:[0-6][0-9]:[0-6][0-9]"
            r"(\.[0-9]{1,12})?(Z|z|[+-][0-2][0-9]:[0-6][0-9])\n?\Z"
        ),
        st.from_regex(r"\A2026-03-01T11:30:[0-6][0-9].[0-9a:.]{3}Z\Z"),
        st.text(min_size=20, max_size=25),
    )
)
@example("2026-03-01T11:30:60.000Z")
@example("2026-03-01T11:30:5\u0665.000Z")
@example("2026-03-01T11:30:00.\u0661\u0662\u0663Z")
@example("2026-02-30T11:30:00.000Z")
@example("2026-03-01T24:00:00.000Z")
@example("2026-03-01T11:30: 1.000Z")
@example("2026-03-01T11:30:+1.000Z")
def test_times_are_read_alike(text: str) -> None:
    """A time stamp is the same moment both ways, or no moment, however often it is asked."""
    value = json.dumps({**PLAIN, "timestamp": text}).encode()

    for _ in range(2):
        assert quickly(value) is not None
        check(value)


def test_the_quick_way_reads_what_is_plain() -> None:
    """It does not abstain from plain events, so that what is tested here is used."""
    for ascii_only in (True, False):
        assert isinstance(quickly(json.dumps(PLAIN, ensure_ascii=ascii_only).encode()), Plain)


@given(
    st.one_of(
        BYTES,
        MADE.map(lambda made: json.dumps({**PLAIN, **made}).encode()),
        MADE.map(lambda made: json.dumps({**PLAIN, **made}, ensure_ascii=False, indent=1))
        .filter(lambda text: not any("\ud800" <= sign <= "\udfff" for sign in text))
        .map(str.encode),
    )
)
@example(GOOD + b',"customer_id":"d"}')
@example(GOOD + b',"\\u0063ustomer_id":"d"}')
@example(GOOD + b',"customer\\u005fid":"d"}')
@example(GOOD + b',"customer\\u005Fid":"d"}')
@example(GOOD + b',"properties":{"customer_id":"d"}}')
@example(GOOD + b',"properties":{"x\\"customer_id":"d"}}')
@example(GOOD + b',"properties":{"x":"\\"customer_id\\":\\"d\\""}}')
@example(GOOD + b',"event_type":"customer_id"}')
@example(GOOD.replace(b'"c"', rb'"\u0064"') + b"}")
@example(GOOD.replace(b'"c"', rb'"a\/b"') + b"}")
@example(GOOD.replace(b'"c"', rb'"a\"b"') + b"}")
@example(GOOD.replace(b'"c"', '"ü"'.encode()) + b"}")
@example(GOOD.replace(b':"c"', b' \t:\r\n"c"') + b"}")
def test_the_customer_of_an_event_is_found(value: bytes) -> None:
    """Where an event counts, the customer found in its bytes is its own, or none is found."""
    found, event = customer_in(value), slowly(value)

    if found is not None and isinstance(event, Plain):
        assert found == event.customer_id.encode()


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n ")])
def test_a_plain_customer_is_found(separators: tuple[str, str]) -> None:
    """However JSON is spaced and sorted, whatever lies beside: nothing plain is read whole."""
    for names in (MEMBERS, MEMBERS[::-1]):
        made = {name: PLAIN[name] for name in names}
        for properties in ({}, {"path": "a\\b", "euro": "\u20ac"}):
            body = {**made, "properties": properties}
            assert customer_in(json.dumps(body, separators=separators).encode()) == b"c"


@given(st.integers(1, 60), st.integers(1, 7), st.lists(st.text(max_size=5)))
def test_parts_make_up_a_share(of: int, parts: int, names: list[str]) -> None:
    """Every name of a share is in one of its parts, and no other name is."""
    for number in range(of):
        share = Share(number, of)
        for name in names:
            inside = sum(part.holds(name) for part in share.parted(parts))
            assert inside == share.holds(name) == (crc32(name.encode()) % of == number)
