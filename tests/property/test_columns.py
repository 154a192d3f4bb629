"""Python's fold adds whole columns: only speed may depend on which events stand together."""

from collections.abc import Sequence
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from definitions.metric import (
    Aggregation,
    Condition,
    EventSelector,
    Field,
    Measure,
    MetricVersion,
    Scope,
)
from pipeline.core.fold import fold as core_fold

from ..world import event
from .test_native import CONDITIONS, METRICS, STREAMS, plans, records_of, version_of

V = Field(source="property", key="v")
HOURS = ["2026-03-01T11:30:00Z", "2026-03-01T11:40:00Z", "2026-03-01T10:30:00Z"]
# Values of one kind, as most columns have, and single ones that make a column odd.
KINDS = [
    st.integers(0, 9),
    st.integers(0, 9).map(str),
    st.decimals(-9, 9, places=1).map(float),
    st.sampled_from(["", "007", "\u0661", "7 ", "-7", "1" * 64, "1" * 65, "x", "x" * 300]),
    st.sampled_from(["7", "42", "\u0661"]),
    st.sampled_from(["7", "42", ""]),
    st.sampled_from([10**64, 1e64]),  # equal, and only the second one can be read
    st.sampled_from([True, False, None, 1, 1.0, "1", "true", [1], {}]),
    st.sampled_from([10**18 - 1, 10**18, -(10**18), 10**63, 10**64, 1e63, 1e64]),
]
COLUMNS = st.sampled_from(KINDS).flatmap(
    lambda usual: (
        st.lists(st.one_of(usual, usual, usual, *KINDS), min_size=2, max_size=12)
        | st.lists(usual, min_size=2, max_size=12)
    )
)
OF_V = CONDITIONS.map(lambda drawn: drawn.model_copy(update={"field": V}))


@st.composite
def versions(draw: st.DrawFn) -> tuple[MetricVersion, ...]:
    """Versions that begin with the same condition, one with another one after it."""
    first, second = draw(OF_V), draw(OF_V)
    return tuple(
        version_of(
            f"m{number}",
            measure_of(draw, asked),
            scope=draw(st.sampled_from(list(Scope))),
            dimensions=draw(st.sampled_from([(), (("v",),)])),
        )
        for number, asked in enumerate([(), (first,), (first, second)])
    )


def measure_of(draw: st.DrawFn, where: tuple[Condition, ...]) -> Measure:
    """A measure of v, of any kind."""
    kind = draw(st.sampled_from(list(Aggregation)))
    return Measure(
        name="m",
        events=EventSelector(include=None, exclude=None),
        where=where,
        aggregation=kind,
        field=None if kind is Aggregation.COUNT else V,
        numeric_text=draw(st.booleans()),
        unit=draw(st.none() | st.just(V)),
    )


def alone_and_together(
    lines: Sequence[tuple[bytes | None, int]], metrics: Sequence[MetricVersion]
) -> None:
    """Fold records one by one, and in slices: every plan is the same."""
    records = records_of(lines)
    with patch.object(core_fold, "SLICE", 1):
        alone = plans(records, metrics, native=False)
    with patch.object(core_fold, "SLICE", 7):
        some = plans(records, metrics, native=False)

    assert plans(records, metrics, native=False) == alone == some


@given(COLUMNS, versions())
def test_values_of_any_kinds_are_each_read_by_itself(
    values: list[object], metrics: tuple[MetricVersion, ...]
) -> None:
    """What a value matches, adds and is called does not follow from its neighbours."""
    lines = [
        (event(number, timestamp=HOURS[number % 3], properties={"v": value}), 0)
        for number, value in enumerate(values)
    ]
    alone_and_together([*lines, (event("none", properties={}), 0)], metrics)


@given(STREAMS, METRICS)
def test_slices_cannot_be_seen(
    stream: list[tuple[bytes | None, int]], metrics: tuple[MetricVersion, ...]
) -> None:
    """Of any stream under any metrics, events together change what they change one by one."""
    alone_and_together(stream, metrics)
