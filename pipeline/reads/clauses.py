"""Which clauses of a definition keep events out, and how many. Pure.

Rule: a measure's conditions are asked only of events whose type it looks at. There each condition
is asked, also where another one failed already.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as made
from decimal import Decimal
from typing import Any, Final

from definitions.explain import name_of
from definitions.metric import Measure
from definitions.values import canonical

from ..recount.compiled import ActiveMeasure
from ..recount.events import Plain
from ..recount.matching import ABSENT, look_up

SEEN_MAX: Final = 5  # values of a clause that are shown
_CHARS_MAX: Final = 64


@dataclass(slots=True)
class Excluding:
    """A clause, and the events that it keeps out.

    alone: those that no other clause of the measure keeps out; None of the clause of event types,
    before which no other one is asked. missing: those that lack the member. seen: the first
    different values of the others.
    """

    measure: str
    field: str
    operator: str
    wanted: tuple[Any, ...]
    excluded: int = 0
    alone: int | None = 0
    missing: int = 0
    seen: list[str] = made(default_factory=list)

    def note(self, value: Any, *, alone: bool) -> None:
        """Take an event that is kept out."""
        self.excluded += 1
        if self.alone is not None:
            self.alone += alone
        if value is ABSENT:
            self.missing += 1
        elif len(self.seen) < SEEN_MAX and (text := _shown(value)) not in self.seen:
            self.seen.append(text)


class MeasureClauses:
    """The clauses of one measure."""

    def __init__(self, measure: Measure, active: ActiveMeasure) -> None:
        self._takes = active.takes
        is_in = measure.events.include is not None
        types = measure.events.include if is_in else measure.events.exclude
        wanted = tuple(sorted(types or ()))
        self._type = Excluding(
            measure.name, "event_type", "in" if is_in else "not_in", wanted, alone=None
        )
        self._conditions: list[tuple[Callable[[Plain], bool], Any, Excluding]] = [
            (
                test,
                condition.field,
                Excluding(
                    measure.name,
                    name_of(condition.field),
                    str(condition.operator),
                    condition.operands,
                ),
            )
            for test, condition in zip(active.tests, measure.where, strict=True)
        ]

    def holds(self, event: Plain) -> bool:
        """Whether the measure counts an event; those that it does not are noted."""
        if not self._takes(event.event_type):
            self._type.note(event.event_type, alone=False)
            return False
        failing = [each for each in self._conditions if not each[0](event)]
        for _, where, clause in failing:
            clause.note(look_up(where, event), alone=len(failing) == 1)
        return not failing

    @property
    def excluding(self) -> list[Excluding]:
        """The clauses that kept events out."""
        every = [self._type, *(clause for _, _, clause in self._conditions)]
        return [clause for clause in every if clause.excluded]


def most_excluding(measures: Sequence[MeasureClauses], most: int) -> list[Excluding]:
    """The clauses that kept out most events, those first that kept out more."""
    found = [clause for measure in measures for clause in measure.excluding]
    return sorted(found, key=lambda clause: -clause.excluded)[:most]


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return canonical(value)
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = str(value)
    return text if len(text) <= _CHARS_MAX else f"{text[:_CHARS_MAX]}…"
