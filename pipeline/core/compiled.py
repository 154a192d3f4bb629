"""The module that native/ is built into, where it is installed."""

from types import ModuleType
from typing import Final

PROTOCOL: Final = 5  # what both sides agree on: native/src/lib.rs has the same number


def find() -> ModuleType | None:
    """Return the module; None where it is not installed, or is of another release."""
    try:
        import recount_native  # noqa: PLC0415  it may be missing
    except ImportError:
        return None
    found: ModuleType = recount_native
    return found if getattr(found, "PROTOCOL", None) == PROTOCOL else None


MODULE: Final = find()
