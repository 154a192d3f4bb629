"""Where cells are not right yet, because a correction has reached them; and its canonical text."""

import json
from collections.abc import Mapping
from typing import NamedTuple


class Buckets(NamedTuple):
    """The first and the last base bucket of some cells."""

    first: int
    last: int

    def with_(self, other: "Buckets") -> "Buckets":
        """The span of both."""
        return Buckets(min(self.first, other.first), max(self.last, other.last))


Stale = Mapping[str, Buckets]  # version → where some of its cells are not right yet


def joined_stale(left: Stale, right: Stale) -> dict[str, Buckets]:
    """The spans of both, by version."""
    both = {each: left[each].with_(right[each]) for each in left.keys() & right.keys()}
    return {**left, **right, **both}


def stale_text(stale: Stale) -> str:
    """Return the canonical text of what is stale; empty where nothing is."""
    return json.dumps(stale, sort_keys=True, separators=(",", ":")) if stale else ""


def stale_in_text(text: str) -> dict[str, Buckets]:
    """Read a stored text. Raises ValueError: it is not ours."""
    if not text:
        return {}
    try:
        stale = {version: Buckets(*span) for version, span in json.loads(text).items()}
    except (AttributeError, TypeError) as error:
        raise ValueError(f"not what is stale: {text[:80]!r}") from error
    if stale_text(stale) != text:
        raise ValueError(f"not what is stale: {text[:80]!r}")
    return stale
