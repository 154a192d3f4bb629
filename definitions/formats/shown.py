"""What every reader assumes of a native body that was kept: checked once, where it is taken in.

Rule: this is less than parse() checks and never grows with a release: a body that some release
took is taken by every later one. What is refused here could be neither shown nor updated.
"""

from collections.abc import Mapping
from typing import Any, Final

from ..errors import DefinitionError
from ..metric import Origin
from .bodies import OBJECT, TEXT, Kind, parse_json

DEPTH_MAX: Final = 200  # parse() takes no body that needs more than 20


def _list_of(**members: Kind) -> Kind:
    """A list of objects that have these members."""
    names = ", ".join(members)
    return Kind(
        f"a list of objects with {names}",
        lambda value: (
            isinstance(value, list)
            and all(
                isinstance(each, dict)
                and all(name in each and kind.holds(each[name]) for name, kind in members.items())
                for each in value
            )
        ),
    )


_STATSIG_REQUIRED: Final = {"name": TEXT, "type": TEXT}
_STATSIG_OPTIONAL: Final = {
    "metricEvents": _list_of(name=TEXT),
    "metricComponentMetrics": _list_of(name=TEXT, type=TEXT),
    "funnelEventList": _list_of(name=TEXT),
}
_KLAVIYO_GROUPS: Final = {"metric_groups": _list_of(metric_id=TEXT)}


def check_shown(origin: Origin) -> None:
    """Check that a kept native body can be shown.

    Raises:
        ValueError: it is not JSON, too deep, or lacks what its system always shows.
    """
    try:
        body = parse_json(origin.text)
    except DefinitionError as error:
        raise ValueError(f"the native body: {error}") from error
    check_depth(body)
    if origin.format == "klaviyo":
        data = _members("", body, {"data": OBJECT})["data"]
        attributes = _members("data.", data, {"attributes": OBJECT})["attributes"]
        _members("data.attributes.", attributes, {"name": TEXT, "definition": OBJECT})
        _members("data.attributes.definition.", attributes["definition"], _KLAVIYO_GROUPS)
    elif origin.format == "statsig":
        given = _members("", body, _STATSIG_REQUIRED)
        _members("", given, {n: k for n, k in _STATSIG_OPTIONAL.items() if n in given})
    else:
        _members("", body, {"name": TEXT})


def check_depth(value: Any) -> None:
    """Refuse JSON nested so deeply that a reader further down the stack could not walk it.

    Raises:
        ValueError: more than DEPTH_MAX levels.
    """
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEPTH_MAX:
            raise ValueError(f"nested deeper than {DEPTH_MAX} levels")
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        level = [each for each in inner if isinstance(each, dict | list)]


def _members(place: str, body: Any, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ValueError(f"the native body: {place or 'it'} is not an object")  # noqa: TRY004  see check_shown
    for name, kind in kinds.items():
        if name not in body or not kind.holds(body[name]):
            raise ValueError(f"the native body: {place}{name} is not {kind.text}")
    return body
