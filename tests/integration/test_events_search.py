"""`recount events search`: events by what they say, against what was published."""

from typing import Any

import pytest

from ..services import Recount

HOURS = 6
CUSTOMERS = ("acme", "globex", "initech")


def made(number: int) -> dict[str, Any]:
    """One of some events: its parts turn at different speeds."""
    value: Any = [number % 4, f"{number % 4}", True, None][number % 4]
    return {
        "transaction_id": f"t{number}",
        "customer_id": CUSTOMERS[number % 3],
        "event_type": "call" if number % 5 else "other",
        "timestamp": f"2026-03-01T{number % HOURS:02}:30:00Z",
        "properties": {"region": "eu" if number % 2 else "us", "v": value, "price": 2.50},
    }


EVENTS = [made(number) for number in range(60)]
DAY = ("--from", "2026-03-01T00:00:00Z", "--to", "2026-03-02T00:00:00Z")


@pytest.fixture
def filled(recount: Recount) -> Recount:
    """A deployment that has applied them, one of them twice."""
    recount.run("init", "--partitions", "2", "--max-age-days", "0")
    recount.create({"name": "Calls", "aggregation_type": "COUNT"})
    recount.publish([*EVENTS, EVENTS[7]])
    recount.catch_up()
    return recount


def found(recount: Recount, *options: str) -> tuple[list[str], dict[str, Any]]:
    """The ids of the events that are found, sorted, and the last line."""
    *lines, last = recount.run("events", "search", *options)
    return sorted(line["transaction_id"] for line in lines), last


def test_events_are_found_by_what_they_say(filled: Recount) -> None:
    """Customer, type, time and properties, each alone and together; repeats are told of."""

    def wanted(**of: Any) -> list[str]:
        return sorted(
            each["transaction_id"]
            for each in [*EVENTS, EVENTS[7]]
            if all(
                each.get(name, each["properties"].get(name)) == text for name, text in of.items()
            )
        )

    assert found(filled, *DAY) == (wanted(), {"events": 61, "more": False})
    ids, _ = found(filled, *DAY, "--customer", "acme", "--type", "call")
    assert ids == wanted(customer_id="acme", event_type="call")
    ids, _ = found(filled, *DAY, "--property", "region=eu", "--property", "price=2.5")
    assert ids == wanted(region="eu")
    assert found(filled, *DAY, "--property", "v=true")[0] == wanted(v=True)
    assert found(filled, *DAY, "--property", "v=0")[0] == wanted(v=0)
    assert found(filled, *DAY, "--property", "v=1")[0] == wanted(v="1")
    times = ("--starting-on", "2026-03-01T02:30:00Z", "--ending-before", "2026-03-01T04:30:00Z")
    assert found(filled, *times)[0] == sorted(f"t{n}" for n in range(60) if n % HOURS in {2, 3})
    assert found(filled, *DAY, "--customer", "nobody") == ([], {"events": 0, "more": False})

    *lines, last = filled.run("events", "search", *DAY, "--limit", "5")
    assert (len(lines), last) == (5, {"events": 5, "more": True})
    repeats = [
        line for line in filled.run("events", "search", *DAY) if line.get("fate") == "duplicate"
    ]
    assert [line["transaction_id"] for line in repeats] == ["t7"]
    table = filled.ended("events", "search", *DAY, "--type", "other", "--table")
    assert table.returncode == 0
    assert b"t55" in table.stdout


def test_what_cannot_be_searched_for_is_told(filled: Recount) -> None:
    """Bad options are exit 2 with their name; a metric may be called as the command is."""
    for options in (
        ("--property", "region"),
        ("--property", "=eu"),
        ("--property", "region=eu", "--property", "region=us"),
        ("--limit", "0"),
    ):
        said = filled.ended("events", "search", *DAY, *options)
        assert said.returncode == 2
        assert options[0].encode() in said.stderr
    said = filled.ended("events", "search", "--from", "yesterday", *DAY[2:])
    assert (said.returncode, b"--starting-on" in said.stderr) == (2, True)

    filled.create({"name": "search", "aggregation_type": "COUNT"})
    filled.catch_up()
    period = ("--starting-on", DAY[1], "--ending-before", DAY[3])
    lines = filled.run("events", "of", "search", "--customer", "acme", *period)
    same = filled.run("events", "Calls", "--customer", "acme", *period)
    assert [line["offset"] for line in lines[:-1]] == [line["offset"] for line in same[:-1]]
    assert lines[-1]["equal"]
