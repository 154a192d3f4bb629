"""What the adapters share: reading native JSON text, and collecting every problem of it."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn

import msgspec

from ..errors import DefinitionError, Problem
from ..limits import BODY_NESTING_MAX, nested_deeper
from ..metric import Definition


@dataclass(frozen=True, slots=True)
class Terms:
    """What a deployment says about names (`recount init --config`); it is written into a version.

    klaviyo_metrics: metric id → event name; another id stands for the metric of that name, unless
    klaviyo_strict (CK18). klaviyo_campaigns: message id → the campaign it belongs to, for reports;
    another one is its own campaign. statsig_sources: metric source → event name (CS15).
    statsig_day_minutes: where Statsig's day begins, minutes east of UTC (CS19).
    statsig_metric: the definition of a metric by its own name and type, if there is one.
    """

    klaviyo_metrics: Mapping[str, str] = field(default_factory=dict)
    klaviyo_strict: bool = False
    klaviyo_campaigns: Mapping[str, str] = field(default_factory=dict)
    statsig_sources: Mapping[str, str] = field(default_factory=dict)
    statsig_day_minutes: int = -480
    statsig_metric: Callable[[str, str], Definition | None] = lambda _name, _type: None


_DUMP: Final = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode
_INTEGER_CHARS_MAX: Final = 18
_TOO_DEEP: Final = f"nested deeper than {BODY_NESTING_MAX} levels"
DEFAULT_TERMS: Final = Terms()


def parse_json(text: str) -> Any:
    """Read a native body; fractions stay decimals, and so do integers of more than 18 digits.

    Raises:
        DefinitionError: not JSON (rule JSON), naming the place. The operator's fault.
    """
    try:
        body = json.loads(
            text, parse_float=_fraction, parse_int=_integer, parse_constant=_refuse_constant
        )
        json.dumps(body, default=str, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DefinitionError([Problem("JSON", "", f"lone surrogate: {error.reason}")]) from error
    except RecursionError as error:
        raise DefinitionError([Problem("JSON", "", _TOO_DEEP)]) from error
    except ValueError as error:
        raise DefinitionError([Problem("JSON", "", f"not JSON: {error}")]) from error
    if nested_deeper(text, body, BODY_NESTING_MAX):
        raise DefinitionError([Problem("JSON", "", _TOO_DEEP)])
    return body


def dump_json(body: Any) -> str:
    """Return the JSON text of a body that parse_json() read, every number with its own digits."""
    return _DUMP(body).decode()


def _integer(token: str) -> int | Decimal:
    return int(token) if len(token) <= _INTEGER_CHARS_MAX else Decimal(token)


def _fraction(token: str) -> Decimal:
    try:
        return Decimal(token)
    except InvalidOperation as error:  # the exponent has more than 18 digits
        raise ValueError(f"the exponent of {token[:40]} is too large to be read") from error


def _refuse_constant(token: str) -> NoReturn:
    raise ValueError(f"{token} is not a JSON number")


class Problems:
    """Every problem of one body, in the order found."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, rule: str, pointer: str, message: str) -> None:
        """Note a broken rule at a JSON pointer."""
        self.found.append(Problem(rule, pointer, message))

    def members(
        self, body: dict[str, Any], known: Collection[str], pointer: str, rule: str
    ) -> None:
        """Note every member that is not known: dropping it would lose data (C08)."""
        for name in body:
            if name not in known:
                self.add(rule, f"{pointer}/{escaped(name)}", unknown_member(name))

    def kinds(
        self, body: dict[str, Any], kinds: "Mapping[str, Kind]", pointer: str, rule: str
    ) -> bool:
        """Note every given member of the wrong JSON type; return whether there was none."""
        before = len(self.found)
        for name, kind in kinds.items():
            if name in body and not kind.holds(body[name]):
                self.add(rule, f"{pointer}/{name}", f"{name} is {kind.text}")
        return len(self.found) == before

    def raise_if_any(self) -> None:
        """Raise DefinitionError with everything found, or return."""
        if self.found:
            raise DefinitionError(self.found)


def escaped(name: str) -> str:
    """Return a member's name as a part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def unknown_member(name: str) -> str:
    """Return what is said of a member that no body of its kind has."""
    return f"unknown member {name!r}; remove it"


def is_text_list(value: object) -> bool:
    """Whether a value is a list of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_number(value: object) -> bool:
    """Whether a value is a JSON number; true is none."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Kind:
    """A JSON type. text: how a sentence calls it."""

    text: str
    holds: Callable[[object], bool]


def _kind(text: str, *types: type) -> Kind:
    return Kind(text, lambda value: isinstance(value, types))


TEXT: Final = _kind("a string", str)
TEXT_OR_NULL: Final = _kind("a string or null", str, type(None))
BOOLEAN: Final = _kind("true or false", bool)
OBJECT: Final = _kind("an object", dict)
LIST: Final = _kind("a list", list)
LIST_OR_NULL: Final = _kind("a list or null", list, type(None))
TEXTS: Final = Kind("a list of strings", is_text_list)
NUMBER: Final = Kind("a number", is_number)
NUMBER_OR_NULL: Final = Kind("a number or null", lambda each: each is None or is_number(each))
