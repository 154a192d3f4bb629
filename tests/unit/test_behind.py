"""The events behind a number: each that counts and no other, and their recount is the number."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from pipeline.edges.clock import SetClock
from pipeline.errors import UsageError
from pipeline.reads.behind import Behind, Recounted
from pipeline.reads.query import Query
from pipeline.reads.usage import Reader

from ..world import NOW, World, event

HOUR = timedelta(hours=1)
STARTS = NOW.replace(hour=4)
Answer = tuple[list[dict[str, Any]], Recounted]


def world() -> World:
    """A day of two customers: repeats, values that cannot be read, events that do not match."""
    made = World()
    for number in range(40):
        own = number - number % 5 // 4  # every fifth repeats the one before
        made.append(
            [
                event(
                    own,
                    customer_id="cd"[own % 2],
                    event_type="other" if own % 11 == 0 else "use",
                    timestamp=f"2026-03-01T{own % 12:02d}:30:00Z",
                    properties={"v": "x" if own % 7 == 0 else f"{own}.5", "g": "xyz"[own % 3]},
                )
            ],
            at_ms=made_at(number),
        )
    asyncio.run(made.apply([10, 20, 30]))
    return made


def made_at(number: int) -> int:
    """When a record was appended: from the day before on, so that a part of the log is enough."""
    began = int((NOW - timedelta(hours=12)).timestamp())
    return (began + number * 1_800) * 1000


def asked(made: World, kind: str, **more: Any) -> Answer:
    """The events behind a number, or a page of them."""
    paging = {name: more.pop(name) for name in ("after", "limit") if name in more}
    clock = SetClock(NOW + timedelta(days=3))
    reader = Reader(made.identity, made.store, made.log, clock, HOUR)
    query = Query.of(
        made.control.metrics[kind],
        **{
            "customer": "c",
            "starting_on": STARTS,
            "ending_before": STARTS + 6 * HOUR,
            **more,
        },
    )
    behind = Behind(made.identity, made.control, made.store, made.log, reader)

    async def work() -> Answer:
        lines: list[dict[str, Any]] = []
        async for batch in behind.events(query, lambda _: None, lambda _: None, **paging):
            if isinstance(batch, Recounted):
                return lines, batch
            lines += batch
        raise AssertionError

    return asyncio.run(work())


@pytest.mark.parametrize("kind", ["COUNT", "SUM", "MAX", "LATEST", "UNIQUE"])
def test_the_recount_of_the_events_is_the_number(kind: str) -> None:
    """Of the total and of each group: the same events as a plain look through the log finds."""
    made = world()
    for group in (None, "x", "y", "z", "none"):
        more = {} if group is None else {"group_key": ["g"], "group_filters": {"g": {group}}}
        lines, end = asked(made, kind, **more)

        assert end.value == end.usage
        assert end.events == len(lines)
        due = [
            number
            for number in range(40)
            if number % 5 != 4  # a repeat
            and number % 2 == 0
            and number % 11
            and 4 <= number % 12 < 10
            and group in {None, "xyz"[number % 3]}
        ]
        assert [line["transaction_id"] for line in lines] == [f"t{number}" for number in due]
        assert [line["offset"] for line in lines] == due
    lines, end = asked(made, "SUM")
    adding = [float(line["contributes"]) for line in lines if not line.get("unreadable")]
    assert end.usage is not None
    assert sum(adding) == float(end.usage)
    assert any(line.get("unreadable") for line in lines)


def test_pages_are_the_whole() -> None:
    """Two at a time, each behind the last one, it is the same list; only a whole one recounts."""
    made = world()
    whole, end = asked(made, "COUNT")
    assert end.line("t")["equal"] is True
    found: list[dict[str, Any]] = []
    after = None
    for _ in range(len(whole) + 2):
        lines, page = asked(made, "COUNT", limit=2, after=after)
        found += lines
        after = page.after
        if after is None:
            break
        assert "equal" not in page.line("t")
        assert page.line("t")["after"] == f"0@{lines[-1]['offset']}"
    assert found == whole


def test_a_number_without_a_customer_has_no_events() -> None:
    """A metric whose customers are many, or a period of no window, is refused with the reason."""
    made = world()
    with pytest.raises(UsageError, match="no value in this period"):
        asked(made, "SUM", ending_before=STARTS)
