"""Native text ↔ neutral model, one module per system, without loss."""

import json
from collections.abc import Callable, Container
from typing import Any, Final

from ..limits import check_size, check_work
from ..metric import Definition, Origin
from . import klaviyo, metronome, statsig
from .bodies import DEFAULT_TERMS, Terms, dump_json, parse_json

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
    body = parse_json(text)
    check_size(text, body)
    name, definition = FORMATS[format_](text, terms)
    check_work(body, definition)
    return name, definition


def native_body(origin: Origin, name: str) -> dict[str, Any]:
    """Return a native body under the name a metric is registered by (a rename is no version)."""
    body: dict[str, Any] = parse_json(origin.text)
    if origin.format == "klaviyo":
        body["data"]["attributes"]["name"] = name
    elif origin.format == "statsig":
        body["name"] = name.removesuffix(f"::{body['type']}")
    else:
        body["name"] = name
    return body


def registered_name(format_: str, name: str, text: str, taken: Container[str]) -> str:
    """Return the name to register a metric by: its own, wherever that can be.

    Statsig's names are unique only together with a type: `name::type` is registered where the
    name alone is taken, or where it ends so itself.
    """
    if format_ != "statsig":
        return name
    suffix = f"::{parse_json(text)['type']}"
    return name + suffix if name in taken or name.endswith(suffix) else name


def guess(text: str) -> str:
    """Return whose body a text looks like; what is wrong with it, parse() says."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return "metronome"
    if isinstance(body, dict) and "data" in body:
        return "klaviyo"
    statsig_only = {"type", "unitTypes", "metricEvents", "warehouseNative", "funnelEventList"}
    return "statsig" if isinstance(body, dict) and statsig_only & set(body) else "metronome"


def updated(origin: Origin, name: str, text: str) -> tuple[str, str | None]:
    """Return a metric's native name after a native update body, and its new create body.

    name: the one it is registered by. The create body is None where nothing but the name changes.
    A Metronome body with a name alone is a rename; any other one is a whole new definition.

    Raises:
        DefinitionError: every broken rule of the update with its pointer.
    """
    check_size(text, parse_json(text))
    before = native_body(origin, name)
    if origin.format == "klaviyo":
        new_name, definition = klaviyo.parse_update(text)
        if definition is None:
            return new_name or name, None
        attributes = {"name": new_name or name, "definition": definition}
        before["data"]["attributes"] = attributes
        return attributes["name"], dump_json(before)
    if origin.format == "statsig":
        changes = statsig.parse_update(text)
        new_name = changes.pop("name", before["name"])
        return new_name, dump_json({**before, **changes, "name": new_name}) if changes else None
    body = parse_json(text)
    if isinstance(body, dict) and set(body) == {"name"}:
        metronome.check_name(body)
        return body["name"], None
    new_name, _ = metronome.parse(text)
    return new_name, text
