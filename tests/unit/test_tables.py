"""Tables, cards, bars and CSV: nothing is cut, nothing acts."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.drawing import drawn
from pipeline.cli.output import show_csv
from pipeline.cli.tables import show_tables
from pipeline.errors import harmless

VALUES = st.one_of(
    st.integers(),
    st.booleans(),
    st.none(),
    st.text(max_size=40),
    st.just("2026-11-01T00:00:00.123456Z"),
    st.just("0b1c8a3e-6f0f-4b1e-9a7c-2f6f5f3a8b11"),
    st.just("123456789012345678901234567890.123456789"),
)
LINES = st.lists(
    st.dictionaries(st.sampled_from([f"member_{at}" for at in range(14)]), VALUES, min_size=1),
    min_size=1,
    max_size=4,
)


def shown(lines: list[dict[str, Any]], width: int, capsys: pytest.CaptureFixture[str]) -> str:
    """What is printed of lines."""
    show_tables(lines, width)
    return capsys.readouterr().out


@given(lines=LINES, width=st.sampled_from([20, 80, 200]))
def test_no_value_is_cut_at_any_width(lines: list[dict[str, Any]], width: int) -> None:
    """Every number, date and id stands whole on one line, in a table or in a card."""
    with pytest.MonkeyPatch.context() as patch:
        out = io.StringIO()
        patch.setattr("sys.stdout", out)
        show_tables(lines, width)
    printed = out.getvalue()

    for line in lines:
        for value in line.values():
            if isinstance(value, int) and not isinstance(value, bool):
                assert str(value) in printed
            elif isinstance(value, str):
                assert harmless(value) in printed


def test_lines_that_fit_are_a_table_and_others_are_cards(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Columns that say nothing are left out; a card leaves out what says nothing in it."""
    lines = [
        {"partition": 0, "counted": 5, "rejected_by_reason": {}, "owner": None},
        {"partition": 10, "counted": 6, "rejected_by_reason": {}, "owner": "a" * 60},
    ]
    narrow, wide = shown(lines, 80, capsys), shown(lines, 200, capsys)

    assert "rejected_by_reason" not in narrow + wide
    assert len(wide.splitlines()) == 6
    assert narrow == (
        f"partition  0\ncounted    5\n\npartition  10\ncounted    6\nowner      {'a' * 60}\n\n"
    )
    assert all(len(line) <= 80 for line in narrow.splitlines())


def test_usage_is_drawn_with_exact_values() -> None:
    """The longest bar fills the room, 0 has none, and no value is cut."""
    lines: list[dict[str, Any]] = [
        {"starting_on": "2026-11-01T00:00:00Z", "group": None, "value": "4"},
        {"starting_on": "2026-11-02T00:00:00Z", "group": None, "value": "-1"},
        {"starting_on": "2026-11-03T00:00:00Z", "group": None, "value": "0"},
        {"starting_on": "2026-11-04T00:00:00Z", "group": None, "value": None},
        {"as_of": {}},
    ]
    full, quarter, nothing, none = drawn(lines, 44)

    assert full == "2026-11-01T00:00:00Z  4 " + "█" * 19
    assert quarter == "2026-11-02T00:00:00Z -1 " + "█" * 4 + "▊"
    assert (nothing, none) == ("2026-11-03T00:00:00Z  0", "2026-11-04T00:00:00Z  -")
    assert next(iter(drawn(lines, 44, plain=True))).endswith("#" * 19)
    assert [*drawn([{"as_of": {}}], 80)] == []


def test_a_drawn_group_does_not_act() -> None:
    """A name of a stranger's is spelt."""
    line = {"starting_on": "T", "group": {"g": "\x1b[2J"}, "customer_id": "c", "value": "1" * 50}

    (told,) = drawn([line], 20)

    assert told == f"c T g=\\u001b[2J {'1' * 50} {'█' * 10}"


def test_csv_of_one_metric_computes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A text that begins like a formula is a text; numbers are exact; the end goes to stderr."""
    lines: list[dict[str, Any]] = [
        {
            "customer_id": "=1+1",
            "starting_on": "2026-11-01T00:00:00Z",
            "group": {"@SUM(A1)": "-2+3", "b": None},
            "value": "-12345678901234567890.5",
            "complete": True,
        },
        {"as_of": {"unapplied": 0}},
    ]
    show_csv(lines)

    told = capsys.readouterr()
    assert [*csv.reader(io.StringIO(told.out))] == [
        ["customer_id", "starting_on", "value", "complete", "group @SUM(A1)", "group b"],
        ["'=1+1", "2026-11-01T00:00:00Z", "-12345678901234567890.5", "true", "'-2+3", ""],
    ]
    assert told.err == '{"as_of": {"unapplied": 0}}\n'
