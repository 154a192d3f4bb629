"""A metric that was changed within a period: each part by what was counted then, and later too."""

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from definitions.metric import Definition
from pipeline.control.members import digest_of
from pipeline.core.windows import Window
from pipeline.errors import UsageError
from pipeline.periods.shapes import ClosedAs
from pipeline.reads.pieces import pieces_of, sets_of
from pipeline.reads.query import Query, definition_of

from ..billing import Job
from ..world import NOW, World, body, definition_record, event, parse

DAY = NOW.replace(hour=0, minute=0)


def made(kind: str, *sets: list[str], reads: str = "vg") -> Definition:
    """A definition with these group keys, of events that have these properties."""
    filters = [{"name": name, "exists": True} for name in reads]
    return parse(body(kind, "m", group_keys=list(sets), property_filters=filters))


SUM, FEWER = made("SUM", ["g"]), made("SUM", ["g"], reads="vgh")
COUNT, GROUPED = made("COUNT"), made("COUNT", ["g"])
BOTH = made("COUNT", ["h", "g"], ["h"], reads="vgh")


def at(hour: int) -> datetime:
    """An hour of the day."""
    return DAY + timedelta(hours=hour)


def span(first: int, last: int) -> Window:
    """From one hour to another one."""
    return Window(at(first), at(last))


def add(world: World, number: int, definition: Definition, hour: int) -> None:
    """Another version of `m`, from an hour on."""
    starts = f"{at(hour):%Y-%m-%dT%H:%M:%SZ}"
    record = definition_record("m", "m", definition, effective_from=starts) | {"version": number}
    record["digest"] = digest_of(record)
    world.control.apply(world.control.next, json.dumps(record).encode())
    assert not world.control.ignored, world.control.ignored
    world.definitions.changes += 1


def changed(*versions: tuple[int, Definition]) -> World:
    """A world whose metric was changed at these hours."""
    world = World(metrics={"m": SUM})
    for number, (hour, definition) in enumerate(versions, 2):
        add(world, number, definition, hour)
    return world


DAYLONG = span(0, 24)
CASES: list[tuple[list[tuple[int, Definition]], tuple[str, ...] | None, list[Window]]] = [
    ([], None, [DAYLONG]),
    ([(6, FEWER)], None, [DAYLONG]),  # values add up
    ([(6, FEWER)], ("g",), [DAYLONG]),
    ([(6, COUNT)], None, [span(0, 6), span(6, 24)]),
    ([(6, COUNT)], ("g",), [span(0, 6)]),
    ([(6, COUNT), (9, GROUPED)], None, [span(0, 6), span(6, 9), span(9, 24)]),
    ([(6, COUNT), (9, GROUPED)], ("g",), [span(0, 6), span(9, 24)]),
    ([(6, BOTH)], ("h", "g"), [span(6, 24)]),
    ([(6, BOTH)], ("g", "h"), [span(6, 24)]),
    ([(6, COUNT), (9, SUM)], None, [span(0, 6), span(6, 9), span(9, 24)]),
    ([(26, COUNT)], None, [DAYLONG]),  # after the window
    ([(26, COUNT)], ("g",), [DAYLONG]),
    ([(24, COUNT)], None, [DAYLONG]),
]


@pytest.mark.parametrize(("versions", "key", "wanted"), CASES)
def test_a_window_is_cut_where_something_else_is_counted(
    versions: list[tuple[int, Definition]], key: tuple[str, ...] | None, wanted: list[Window]
) -> None:
    """Only there; where a version has no such groups, there is no piece."""
    metric = changed(*versions).control.metrics["m"]

    assert pieces_of(metric, key, DAYLONG) == wanted


def test_the_group_keys_of_a_period_are_those_of_its_versions() -> None:
    """Each once, in whatever order it is named; what comes later has no part in it."""
    metric = changed((6, BOTH), (9, COUNT), (30, GROUPED)).control.metrics["m"]

    assert sets_of(metric, DAYLONG) == [("g",), ("h", "g"), ("h",)]
    assert sets_of(metric, span(9, 24)) == []
    assert sets_of(metric, span(24, 48)) == [("g",)]


def grown(world: World, numbers: range) -> None:
    """Events, some in each hour of half a day."""
    world.append(
        event(
            number,
            timestamp=f"2026-03-01T{number % 12:02d}:30:00Z",
            properties={"v": number, "g": "xy"[number // 12 % 2], "h": "z"},
        )
        for number in numbers
    )
    asyncio.run(world.apply())


def told(job: Job, number: int | None = None) -> dict[tuple[int, int, str], str | None]:
    """First hour, last hour and group of each row → its value."""

    def hour(moment: datetime) -> int:
        return (moment - DAY) // timedelta(hours=1)

    return {
        (hour(row.window_start), hour(row.window_end), (row.group or "")): row.value
        for row in job.rows(number)
    }


def recounted(numbers: range) -> dict[tuple[int, int, str], str | None]:
    """The rows of SUM by g until six, COUNT until nine, then COUNT by h and g."""
    found: dict[tuple[int, int, str], int] = {}

    def count(key: tuple[int, int, str], value: int) -> None:
        found[key] = found.get(key, 0) + value

    for number in numbers:
        hour, group = number % 12, "xy"[number // 12 % 2]
        if hour < 6:
            count((0, 6, ""), number)
            count((0, 6, f'{{"g":"{group}"}}'), number)
        elif hour < 9:
            count((6, 9, ""), 1)
        else:
            count((9, 24, ""), 1)
            count((9, 24, f'{{"g":"{group}","h":"z"}}'), 1)
            count((9, 24, '{"h":"z"}'), 1)
    return {key: str(value) for key, value in found.items()}


@pytest.mark.parametrize("window", ["none", "day"])
def test_a_period_in_which_a_metric_was_changed_is_closed(tmp_path: Path, window: str) -> None:
    """Rows tell which hours they are of; a recount agrees, also once the metric is another one."""
    world = changed((6, COUNT), (9, BOTH))
    grown(world, range(60))
    job = Job(world, tmp_path)
    job.close(ClosedAs(format="jsonl", window_size=window))

    assert told(job) == recounted(range(60))
    assert {(row.window_start, row.version) for row in job.rows() if (row.group or "") == ""} == {
        (at(0), 1),
        (at(6), 2),
        (at(9), 3),
    }
    assert job.verified().lines == []

    add(world, 4, SUM, 500)  # without the group key of the closed rows, with another one
    grown(world, range(60, 73))
    assert job.revise()["changed"] == len(
        recounted(range(73)).items() - recounted(range(60)).items()
    )
    assert told(job) == recounted(range(73))
    assert told(job, 1) == recounted(range(60))
    assert job.verified().lines == []
    assert job.revise()["changed"] == 0


def test_one_metric_alone_says_where_it_was_changed() -> None:
    """A question about it gets one value for each window, or the reason why there is none."""
    world = changed((6, COUNT))
    grown(world, range(24))
    query = Query.of(
        world.control.metrics["m"], starting_on=at(0), ending_before=at(24), window_size="none"
    )
    with pytest.raises(UsageError, match="counts something else from 2026-03-01 06:00"):
        definition_of(query, DAYLONG)
