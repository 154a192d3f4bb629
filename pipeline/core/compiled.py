"""The module that native/ is built into, where it is installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final

PROTOCOL: Final = 8  # what both sides agree on: native/src/lib.rs has the same number


def find() -> ModuleType | None:
    """Return the module; None where it is not installed, or is of another release."""
    try:
        import recount_native  # noqa: PLC0415  it may be missing
    except ImportError:
        return None
    found: ModuleType = recount_native
    return found if getattr(found, "PROTOCOL", None) == PROTOCOL else None


MODULE: Final = find()


class Broken(Exception):
    """The module failed: what it gathered is void, and so is what it wrote into an index."""


@contextmanager
def told() -> Iterator[None]:
    """Tell that the module failed.

    Raises:
        Broken: go on without it, on what is read again.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise Broken(str(error)) from error
