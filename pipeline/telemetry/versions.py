"""What runs here: this release, what it judges by, and the libraries that matter."""

import platform
from importlib import metadata, util
from typing import Final

from ..core.deployment import FORMAT_VERSION, RULES

LIBRARIES: Final = ("aiokafka", "confluent-kafka", "redis", "fastapi", "uvicorn", "pydantic")


def has_native() -> bool:
    """Whether native/ is built on this machine."""
    return util.find_spec("recount_native") is not None


def release() -> dict[str, str | int | bool]:
    """What a line of a log says of a process that starts."""
    return {
        "recount": metadata.version("recount"),
        "rules": RULES,
        "format": FORMAT_VERSION,
        "native": has_native(),
        "python": platform.python_version(),
    }


def libraries() -> dict[str, str]:
    """Their versions."""
    return {name: metadata.version(name) for name in LIBRARIES}
