"""How many records are folded at once: as many as a time allows."""

from typing import Final

_SLICE_MIN: Final = 100
_SHORT: Final = 0.4  # of the longest time: what takes less may be twice as large


class SliceSize:
    """Fits itself to how long folding takes. records: how many to take next."""

    def __init__(self, *, most: int, fold_s_max: float) -> None:
        self.records = 1_000
        self._most = most
        self._fold_s_max = fold_s_max

    def fit(self, folded_s: float) -> None:
        """Take note of a slice: larger ones share a commit, smaller ones end sooner.

        Args:
            folded_s: How long folding took; what others do meanwhile must not count.
        """
        if folded_s > self._fold_s_max:
            self.records = max(self.records // 2, _SLICE_MIN)
        elif folded_s < self._fold_s_max * _SHORT:
            self.records = min(self.records * 2, self._most)
