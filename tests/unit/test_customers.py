"""Customers on the control log: whole records, the last one counts, an alias has one owner."""

import json
from typing import Any

import pytest

from pipeline.control.customers import NamedCustomer, record_of
from pipeline.control.records import ControlState

AT = "2026-11-30T15:00:00Z"


def told(*records: Any) -> ControlState:
    """What a log of these records says."""
    state = ControlState()
    for offset, record in enumerate(records):
        line = {"schema_version": 1, "nonce": str(offset), **record}
        state.apply(offset, json.dumps(line).encode())
    return state


def customer(id_: str, *aliases: str, **members: Any) -> dict[str, Any]:
    """A record."""
    made = NamedCustomer(id_, f"name of {id_}", aliases, {}, "", "")
    return {**record_of(made, AT), **members}


def test_an_alias_has_one_owner() -> None:
    """The last record that names an alias has it; a customer's own id is never an alias."""
    state = told(
        customer("a", "x", "y"),
        customer("b", "y", "a"),
        customer("a", "x", "z", name="renamed", at="2026-11-30T16:00:00Z"),
    )

    assert not state.ignored
    of = state.customers.of
    assert [of(each) for each in ("x", "y", "z", "a", "b", "w")] == ["a", "b", "a", "a", "b", "w"]
    assert state.customers.held["b"].aliases == ("y", "a")
    renamed = state.customers.held["a"]
    assert (renamed.name, renamed.created_at, renamed.updated_at) == (
        "renamed",
        AT,
        "2026-11-30T16:00:00Z",
    )


def test_aliases_end() -> None:
    """What a later record leaves out stands for itself again."""
    state = told(customer("a", "x"), customer("b", "x"), customer("b"))

    assert (state.customers.of("x"), state.customers.by_alias) == ("x", {})
    assert state.customers.held["a"].aliases == ()


@pytest.mark.parametrize(
    "members",
    [
        {"ingest_aliases": "x"},
        {"ingest_aliases": [5]},
        {"ingest_aliases": ["x" * 257]},
        {"ingest_aliases": [""]},
        {"ingest_aliases": [str(number) for number in range(1_001)]},
        {"custom_fields": {"a": 5}},
        {"custom_fields": []},
        {"customer_id": ""},
        {"name": None},
        {"archived": "no"},
        {"at": "today"},
    ],
)
def test_what_is_no_customer_changes_nothing(members: dict[str, Any]) -> None:
    """It is ignored, and reported."""
    state = told(customer("a", "x"), customer("a", "y", **members))

    assert len(state.ignored) == 1
    assert state.customers.by_alias == {"x": "a"}
