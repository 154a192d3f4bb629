"""Bodies that are read through a model: the model says the shape, read() says what is wrong.

Rule 1: parse_json() reads the text, so that numbers are exact; a model sees what it made, and
changes nothing of it.
Rule 2: what is wrong is told all at once, in one order: of an object its unknown members, then the
missing ones, then wrong types, then broken rules; after that what is wrong inside its members. (Of
an object inside another one wrong types come before missing members.)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from definitions.errors import DefinitionError, Problem
from definitions.formats.bodies import (
    BOOLEAN,
    LIST,
    OBJECT,
    TEXT,
    TEXTS,
    Kind,
    escaped,
    unknown_member,
)

from .errors import PROBLEMS_MAX

VALUES_MAX: Final = 50_000  # members and elements of a body that asks, at every level
_UNKNOWN: Final = "extra_forbidden"
_MISSING: Final = "missing"
_NO_OBJECT: Final = "model_type"
# pydantic's word for a wrong type → ours
KINDS: Final[Mapping[str, Kind]] = {
    "string_type": TEXT,
    "bool_type": BOOLEAN,
    "list_type": LIST,
    "dict_type": OBJECT,
    "texts_type": TEXTS,
}
# What is told first: of the body itself, and of the objects in it.
_OUTER: Final = ("unknown", "missing", "type", "rule")
_INNER: Final = ("unknown", "type", "missing", "rule")


class Fault(NamedTuple):
    """One thing wrong. kind: pydantic's word for it, or a rule of docs/formats.md 8."""

    kind: str
    at: tuple[str | int, ...]
    message: str = ""


class Body(BaseModel):
    """A body that we take.

    ahead: what is told ("type", "rule") → the body's members that come first in it, where that is
    not the order in which they are declared.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    ahead: ClassVar[Mapping[str, Sequence[str]]] = {}

    @classmethod
    def across(cls, body: Mapping[str, Any]) -> Iterable[Fault]:  # noqa: ARG003  there is none
        """What is wrong between members of an object as it came, whatever else is wrong in it."""
        return ()


B = TypeVar("B", bound=Body)


def read(model: type[B], body: Any, system: str) -> B:
    """Return a body as its model.

    system: the letter of its rules (docs/formats.md 8).

    Raises:
        DefinitionError: every broken rule with its pointer.
    """
    _check_size(body)
    made, faults = None, []
    try:
        made = model.model_validate(body)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        faults = [Fault(each["type"], each["loc"], each["msg"]) for each in wrong]
    if isinstance(body, dict):
        faults += model.across(body)
    if faults:
        first = islice(_ordered(faults, model.ahead), PROBLEMS_MAX)
        told = [_problem(each, system) for each in first]
        raise DefinitionError(told, len(faults) - len(told))
    assert made is not None
    return made


def _check_size(body: Any) -> None:
    """Refuse a body of very many values: each may be wrong, and all that is wrong is told.

    Raises:
        DefinitionError: LIMIT-ITEMS.
    """
    waiting, left = [body], VALUES_MAX
    while waiting:
        held = waiting.pop()
        if isinstance(held, dict | list):
            left -= len(held)
            if left < 0:
                message = f"the body has more than {VALUES_MAX:,} members and elements"
                raise DefinitionError([Problem("LIMIT-ITEMS", "", message)])
            waiting += held.values() if isinstance(held, dict) else held


def refuses(*faults: tuple[str, str]) -> ValidationError:
    """What a member's own check raises. faults: each a kind or a rule, and its message."""
    lines: list[InitErrorDetails] = [
        {"type": PydanticCustomError(kind, message), "input": None} for kind, message in faults
    ]
    return ValidationError.from_exception_data("", lines)


def texts(value: Any) -> Any:
    """Check a list of strings as one thing: its elements have no problems of their own."""
    if not TEXTS.holds(value):
        raise refuses(("texts_type", ""))
    return value


def _ordered(
    faults: Iterable[Fault], ahead: Mapping[str, Sequence[str]], depth: int = 0
) -> Iterator[Fault]:
    """Of an object first what is its own, then what is inside its members, each after the other.

    faults: as pydantic finds them, so that those inside one member are together.
    """
    own: list[Fault] = []
    inside: list[Fault] = []
    for fault in faults:
        holder = len(fault.at) - (fault.kind != _NO_OBJECT)
        (own if holder <= depth else inside).append(fault)
    sorts = _INNER if depth else _OUTER

    def place(fault: Fault) -> tuple[int, int]:
        sort, name = _sort(fault.kind), fault.at[-1] if fault.at else ""
        first = [*ahead.get(sort, ())]
        return sorts.index(sort), first.index(name) if name in first else len(first)

    yield from sorted(own, key=place)
    for _, members in groupby(inside, key=lambda fault: fault.at[depth]):
        yield from _ordered(members, {}, depth + 1)


def _sort(kind: str) -> str:
    if kind in KINDS or kind == _NO_OBJECT:
        return "type"
    return {_UNKNOWN: "unknown", _MISSING: "missing"}.get(kind, "rule")


def _problem(fault: Fault, system: str) -> Problem:
    pointer = "".join(f"/{escaped(str(name))}" for name in fault.at)
    name = str(fault.at[-1]) if fault.at else ""
    if fault.kind == _UNKNOWN:
        return Problem(f"{system}-UNKNOWN", pointer, unknown_member(name))
    if fault.kind == _MISSING:
        return Problem(f"{system}-REQ", pointer, f"{name} is required")
    if fault.kind == _NO_OBJECT:
        return Problem(f"{system}-TYPE", pointer, "an object is due")
    if fault.kind in KINDS:
        return Problem(f"{system}-TYPE", pointer, f"{name} is {KINDS[fault.kind].text}")
    return Problem(fault.kind, pointer, fault.message)
