"""Native text ↔ neutral model, one module per system, without loss."""

import json
from collections.abc import Callable
from typing import Any, Final

from ..metric import Definition, Origin
from . import klaviyo, metronome, statsig
from .native import DEFAULT_TERMS, Terms

# system → what makes a name and a definition of a native create body
FORMATS: Final[dict[str, Callable[[str, Terms], tuple[str, Definition]]]] = {
    "klaviyo": klaviyo.parse,
    "metronome": metronome.parse,
    "statsig": statsig.parse,
}


def parse(format_: str, text: str, terms: Terms = DEFAULT_TERMS) -> tuple[str, Definition]:
    """Return the name and the neutral definition of a native create body.

    Raises:
        DefinitionError: every broken rule with its pointer. The operator's fault.
    """
    return FORMATS[format_](text, terms)


def native_body(origin: Origin, name: str) -> dict[str, Any]:
    """Return a native body under the metric's present name (a rename is no new version)."""
    body: dict[str, Any] = json.loads(origin.text)
    if origin.format == "klaviyo":
        body["data"]["attributes"]["name"] = name
    else:
        body["name"] = name
    return body
