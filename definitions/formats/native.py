"""What the adapters share: reading native JSON text, and collecting every problem of it."""

import json
from decimal import Decimal
from typing import Any, NoReturn

from ..errors import DefinitionError, Problem


def parse_json(text: str) -> Any:
    """Read a native body; fractions stay decimals.

    Raises:
        DefinitionError: not JSON (rule JSON), naming the place. The operator's fault.
    """
    try:
        body = json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
        json.dumps(body, default=str, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DefinitionError([Problem("JSON", "", f"lone surrogate: {error.reason}")]) from error
    except RecursionError as error:
        raise DefinitionError([Problem("JSON", "", "nested too deeply")]) from error
    except ValueError as error:
        raise DefinitionError([Problem("JSON", "", f"not JSON: {error}")]) from error
    return body


def _refuse_constant(token: str) -> NoReturn:
    raise ValueError(f"{token} is not a JSON number")


class Problems:
    """Every problem of one body, in the order found."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, rule: str, pointer: str, message: str) -> None:
        """Note a broken rule at a JSON pointer."""
        self.found.append(Problem(rule, pointer, message))

    def members(self, body: dict[str, Any], known: set[str], pointer: str, rule: str) -> None:
        """Note every member that is not known: dropping it would lose data (C08)."""
        for name in body:
            if name not in known:
                escaped = name.replace("~", "~0").replace("/", "~1")
                self.add(rule, f"{pointer}/{escaped}", f"unknown member {name!r}; remove it")

    def raise_if_any(self) -> None:
        """Raise DefinitionError with everything found, or return."""
        if self.found:
            raise DefinitionError(self.found)


def is_text_list(value: object) -> bool:
    """Whether a value is a list of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
