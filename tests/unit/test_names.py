"""What the stream teaches of event types and their properties (core/names.py)."""

import json
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.names import LOOKS_MAX, PROPERTIES_MAX, TYPES_MAX, Names, event_types, merged


class Record(NamedTuple):
    """A record of the events topic."""

    offset: int
    timestamp: int
    value: bytes
    timestamp_type: int = 1
    key: bytes | None = None


KINDS = {bool: "b", int: "n", float: "n", str: "s", list: "l", dict: "o"}
values: st.SearchStrategy[Any] = st.one_of(
    st.booleans(), st.integers(), st.text(max_size=3), st.just([]), st.just({})
)
events = st.lists(
    st.tuples(
        st.sampled_from(["a", "1:b", "ab"]),
        st.dictionaries(st.sampled_from(["x", "b", "y:1"]), values, max_size=3),
    ),
    max_size=LOOKS_MAX,
)


def record(offset: int, event_type: str, properties: dict[str, Any]) -> Record:
    """A record of an event."""
    body = {
        "transaction_id": "t",
        "customer_id": "c",
        "event_type": event_type,
        "timestamp": "2026-03-01T00:00:00Z",
        "properties": properties,
    }
    return Record(offset, 1_000 + offset, json.dumps(body).encode())


def taught(records: list[Record], cut: int) -> Names:
    """What is known after two flushes."""
    names = Names()
    for part in (records[:cut], records[cut:]):
        first: dict[str, int] = {}
        for each in part:
            first.setdefault(json.loads(each.value)["event_type"], each.offset)
        if part:
            names.keep(names.look(part, first))
    return names


@given(events, st.integers(0, LOOKS_MAX))
def test_small_batches_teach_the_same_however_they_are_cut(
    found: list[tuple[str, dict[str, Any]]], cut: int
) -> None:
    """Every type with its first append time, every property with every kind it had."""
    records = [record(offset, *each) for offset, each in enumerate(found)]
    expected: dict[str, dict[str, set[str]]] = {}
    for event_type, properties in found:
        held = expected.setdefault(event_type, {})
        for key, value in properties.items():
            held.setdefault(key, set()).add(KINDS[type(value)])

    known = event_types(taught(records, cut).held)

    assert {
        name: {key: set(kinds) for key, kinds in seen.properties.items()}
        for name, seen in known.items()
    } == expected
    stamps = [each.timestamp for each in records]
    for name, seen in known.items():
        assert seen.first_ms == min(
            stamp for stamp, (type_, _) in zip(stamps, found, strict=True) if type_ == name
        )
    assert Names(dict(taught(records, cut).held)).held == taught(records, 0).held


def test_a_new_type_is_seen_wherever_it_lies_in_a_large_batch() -> None:
    """Of many records some are looked at, and the first of every new type."""
    records = [record(offset, "common", {"a": 1}) for offset in range(10 * LOOKS_MAX)]
    rare = len(records) - 3
    records[rare] = record(rare, "rare", {"b": "x"})

    known = event_types(Names().look(records, {"common": 0, "rare": rare}))

    assert known["rare"].properties == {"b": "s"}
    assert known["common"].properties == {"a": "n"}


def test_what_is_learned_is_bounded() -> None:
    """Types, properties and lengths have bounds; what is over them is not learned."""
    wide = record(0, "wide", {f"p{number}": 1 for number in range(PROPERTIES_MAX + 50)})
    long = record(1, "x" * 300, {})
    names = taught([wide, long], 1)
    for number in range(TYPES_MAX + 50):
        names.keep(names.look([record(number + 2, f"t{number}", {})], {f"t{number}": number + 2}))

    known = event_types(names.held)

    assert len(known["wide"].properties) == PROPERTIES_MAX
    assert len(known) == TYPES_MAX
    assert "x" * 300 not in known


def test_partitions_are_merged() -> None:
    """The earliest time, and every kind that any partition saw."""
    parts = [
        event_types(taught([record(offset, "a", {"x": value})], 1).held)
        for offset, value in ((5, 1), (2, "s"))
    ]

    assert merged(parts)["a"].first_ms == 1_002
    assert merged(parts)["a"].properties == {"x": "ns"}
