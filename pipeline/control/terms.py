"""What a deployment says about names of the formats, as JSON: a member of its identity record."""

import re
from collections.abc import Mapping
from typing import Any, Final

from definitions.formats.bodies import DEFAULT_TERMS, Terms

from ..errors import UsageError

_DAY: Final = re.compile(r"([+-])([0-9]{2}):([0-9]{2})")
_MEMBERS: Final = {"klaviyo": {"campaigns", "metrics", "strict"}, "statsig": {"day", "sources"}}


def terms_of(config: Mapping[str, Any] | None) -> Terms:
    """Return the terms of a checked configuration; the defaults where there is none."""
    config = config or {}
    klaviyo, statsig = config.get("klaviyo", {}), config.get("statsig", {})
    day = statsig.get("day")
    return Terms(
        klaviyo_metrics=klaviyo.get("metrics", {}),
        klaviyo_strict=klaviyo.get("strict", False),
        klaviyo_campaigns=klaviyo.get("campaigns", {}),
        statsig_sources=statsig.get("sources", {}),
        statsig_day_minutes=DEFAULT_TERMS.statsig_day_minutes if day is None else _minutes(day),
    )


def check_config(config: object) -> dict[str, Any]:
    """Return a configuration that is as docs/operations.md says.

    Raises:
        UsageError: what is wrong, and where.
    """
    if not isinstance(config, dict):
        raise UsageError("--config must be an object with the members klaviyo and statsig")
    for system, body in config.items():
        if system not in _MEMBERS or not isinstance(body, dict) or set(body) - _MEMBERS[system]:
            known = "; ".join(f"{name}: {', '.join(sorted(_MEMBERS[name]))}" for name in _MEMBERS)
            raise UsageError(
                f"--config: {system!r} is unknown, or has an unknown member; known: {known}"
            )
    for path in (("klaviyo", "metrics"), ("klaviyo", "campaigns"), ("statsig", "sources")):
        names = config.get(path[0], {}).get(path[1], {})
        if not isinstance(names, dict) or set(map(type, names.values())) - {str}:
            raise UsageError(f"--config: {'.'.join(path)} must map strings to strings")
    if not isinstance(config.get("klaviyo", {}).get("strict", False), bool):
        raise UsageError("--config: klaviyo.strict must be true or false")
    if "day" in config.get("statsig", {}):
        _minutes(config["statsig"]["day"])
    return config


def _minutes(day: object) -> int:
    match = _DAY.fullmatch(day) if isinstance(day, str) else None
    minutes = None if match is None else int(match[2]) * 60 + int(match[3])
    if match is None or minutes is None or minutes > 14 * 60 or minutes % 15:
        raise UsageError("--config: statsig.day must be an offset in quarter hours: -08:00")
    return minutes if match[1] == "+" else -minutes
