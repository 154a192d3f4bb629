"""What groups and units are called: bounded, and never two values by one name (V-8)."""

import asyncio
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.cells import GROUP_BYTES_MAX, group_name, group_of
from pipeline.core.compiled import MODULE
from pipeline.recount.matching import group_of as group_of_the_audit

from ..property.test_formats import audited
from ..recount import group as group_of_the_oracle
from ..world import World, body, event, parse
from .test_reads import ask, question

LONG = st.builds(
    lambda letter, count, end: letter * count + end,
    st.sampled_from(["x", "é", "€", "\U0001f600"]),
    st.integers(60, 260),
    st.text(max_size=3),
)


@given(st.one_of(st.text(), LONG))
def test_names_are_bounded_and_all_name_alike(text: str) -> None:
    """Worker, audit and oracle call a group alike; a short value is its own name."""
    name = group_of(text)

    assert name is not None
    assert name == group_name(text) == group_of_the_audit(text) == group_of_the_oracle(text)
    size = len(text.encode())
    assert (name == text) == (size <= GROUP_BYTES_MAX)
    assert len(name.encode()) <= GROUP_BYTES_MAX + 27


@given(LONG, LONG)
def test_two_values_have_two_names(one: str, other: str) -> None:
    """Also where only their ends differ, and where one is the other's name."""
    assert (group_name(one) == group_name(other)) == (one == other)
    assert group_name(group_name(one)) != group_name(one) or len(one.encode()) <= GROUP_BYTES_MAX


def test_long_groups_are_counted_and_recounted() -> None:
    """Values that differ in their last character alone are two groups, to native/ and Python."""
    grouped = {"group_keys": [["g"]], "property_filters": [{"name": "g", "exists": True}]}
    metric = parse(body("count", "n", **grouped))
    groups = ["short", "g" * 256, "g" * 257, "g" * 256 + "h", "g" * 1_000]
    lines = [
        json.dumps(
            {
                "transaction_id": f"t{number}",
                "customer_id": "c",
                "event_type": "use",
                "timestamp": "2026-03-01T11:30:00Z",
                "properties": {"g": groups[number % len(groups)]},
            }
        ).encode()
        for number in range(10)
    ]
    found = []
    for native in (MODULE, None):
        world = World(metrics={"n": metric}, native=native)
        world.append(lines)
        asyncio.run(world.apply())
        cells = asyncio.run(world.book()).cells
        found.append({cell.groups[0]: text for cell, text in cells.items() if cell.groups})

    assert found[0] == found[1] == {group_name(each): "2" for each in groups}
    assert len(found[0]) == len(groups)
    assert audited(metric, lines) == []


def test_a_filter_on_a_long_group_takes_its_value_or_its_name() -> None:
    """A group of more than 256 bytes is found by what the events have, and by what rows say."""
    long, other = "g" * 300, "g" * 301
    world = World()
    world.append(
        [event(1, properties={"v": 1, "g": long}), event(2, properties={"v": 2, "g": other})]
    )
    asyncio.run(world.apply())
    grouped: dict[str, Any] = {"group_key": ("g",)}
    *rows, _ = ask(world, question(world, **grouped))
    assert sorted(row["value"] for row in rows) == ["1", "2"]

    for wanted in (long, group_name(long)):
        filters = {"g": frozenset({wanted})}
        *rows, _ = ask(world, question(world, **grouped, group_filters=filters))
        assert [(row["value"], row["group"]["g"]) for row in rows] == [("1", group_name(long))]
