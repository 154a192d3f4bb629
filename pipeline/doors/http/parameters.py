"""Query parameters: each within bounds, once, and none that would choose rows and is not known."""

import re
from typing import Final

from fastapi import Request
from fastapi.routing import APIRoute

from .errors import Refused

_DIGITS_MAX: Final = 9
# What asks for some of the rows, or for another order. A list that does not know such a parameter
# must not answer as if it had obeyed it.
_CHOOSES: Final = re.compile(
    r"(?:filters?|sort|page|page_size|page_cursor|limit|offset|cursor|next_page)(?:\[.*\])?",
    re.DOTALL,
)
_REPEATABLE: Final = frozenset({"tags", "group_key", "group_filter", "subject", "groupBy"})


def number_in(request: Request, name: str, default: int, most: int) -> int:
    """Return a query parameter that is a number from 1 to most."""
    text = request.query_params.get(name)
    if text is None:
        return default
    digits = text.lstrip("0")
    plain = text.isascii() and text.isdigit() and len(digits) <= _DIGITS_MAX
    if not plain or not 1 <= int(digits or "0") <= most:
        raise Refused(400, f"{name} is a number from 1 to {most}", parameter=name)
    return int(digits)


def refuse_strange(request: Request) -> None:
    """Refuse a parameter that chooses rows and that this call does not have, or one that repeats.

    Raises:
        Refused: with the parameter's name.
    """
    declared = _declared(request)
    for name in dict.fromkeys(request.query_params.keys()):
        if name not in declared and _CHOOSES.fullmatch(name):
            has = ", ".join(sorted(declared)) or "none"
            message = f"this call has no parameter {name[:100]!r} (it has: {has}); leave it out"
            raise Refused(400, message, parameter=name[:100])
        if name not in _REPEATABLE and len(request.query_params.getlist(name)) > 1:
            message = f"{name[:100]} is given more than once; give it once"
            raise Refused(400, message, parameter=name[:100])


def _declared(request: Request) -> frozenset[str]:
    """The query parameters that the OpenAPI page tells of for this call."""
    route = request.scope.get("route")
    told = (getattr(route, "openapi_extra", None) or {}).get("parameters", ())
    read = (
        (each.alias for each in route.dependant.query_params)
        if isinstance(route, APIRoute)
        else ()
    )
    return frozenset([*read, *(each["name"] for each in told)])
