"""Which records of a partition were duplicates, loaded when somebody asks, and kept meanwhile."""

from typing import Final

from ..core.commit import Commit
from ..core.verdicts import Offsets, add_up
from .opening import Opening

_TRIES_MAX: Final = 5
_LATE_MAX: Final = 10_000


class Duplicates:
    """The kept verdicts of one partition (core/verdicts.py)."""

    def __init__(self) -> None:
        self._loaded: tuple[int, Offsets] | None = None
        self._late: list[int] = []  # of commits since then

    async def between(self, low: int, high: int, opening: Opening) -> frozenset[int] | None:
        """Return those of [low, high), which is applied; None where the list does not add up."""
        if self._loaded is None or self._loaded[0] < high:
            self._late.clear()
            self._loaded = await self._load(opening)
        if self._loaded is None or self._loaded[0] < high:
            return None
        kept = self._loaded[1]
        first, last = kept.searchsorted([low, high])
        late = (each for each in self._late if low <= each < high)
        return frozenset(kept[first:last].tolist()).union(late)

    def applied(self, commit: Commit) -> None:
        """Take what a commit has judged, if everything before it is loaded."""
        if self._loaded is None or self._loaded[0] != commit.before.next:
            return  # what is loaded stays right for what lies below
        self._late += commit.duplicates
        if len(self._late) > _LATE_MAX:
            self.clear()
        else:
            self._loaded = commit.after.next, self._loaded[1]

    def clear(self) -> None:
        """Let go of what was loaded."""
        self._loaded = None
        self._late.clear()

    async def _load(self, opening: Opening) -> tuple[int, Offsets] | None:
        """Load the verdicts of everything below `next`, which is returned with them."""
        for _ in range(_TRIES_MAX):
            before = await opening.stored()
            _, kept = await opening.verdicts(before)
            after = await opening.stored()
            if kept is None or before.trimmed != after.trimmed:
                continue
            below = kept[: kept.searchsorted(before.next)]
            if add_up(below, before.trimmed, before.counters["duplicate"]):
                return before.next, below
        return None
