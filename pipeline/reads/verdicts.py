"""The store's kept verdicts, for a recount of a log whose beginning is gone.

Rule 1: they are read after the books of a pass. A commit pushes its verdicts with its cells, so
those of everything that a book holds are there.
Rule 2: a list is of one epoch. Where a rebuild has switched meanwhile, it is read again.
"""

from typing import Final

from ..control.entities import DeploymentRecord
from ..core.state import Trimmed
from ..core.verdicts import Offsets, duplicates_in
from ..core.voids import Voids, voids_in
from ..deploy.checks import check_state
from ..errors import StoreUnavailable
from ..ports import RollupStore

_TRIES_MAX: Final = 5


class WentBack(Exception):
    """Redis stands before where it stood: it lost writes. What was read so far is void."""


class KeptVerdicts:
    """Offsets that the store says were duplicates. It is a container of offsets."""

    def __init__(self, offsets: Offsets, trimmed: Trimmed) -> None:
        self._offsets = offsets
        self._trimmed = trimmed

    def __contains__(self, offset: object) -> bool:
        if not isinstance(offset, int):
            return False
        at = int(self._offsets.searchsorted(offset))
        return at < len(self._offsets) and int(self._offsets[at]) == offset

    def between(self, low: int, high: int) -> int:
        """How many lie in [low, high)."""
        first, last = self._offsets.searchsorted([low, high])
        return int(last - first)

    def below(self, offset: int) -> int:
        """How many were ever kept below an offset, those let go included."""
        return self.between(0, offset) + self._trimmed.records


async def read_corrections(
    store: RollupStore, identity: DeploymentRecord, partition: int
) -> Voids:
    """Read which records were taken back, by corrections that are applied in a partition.

    Raises:
        WentBack: it changed whenever it was read.
    """
    for _ in range(_TRIES_MAX):
        before = check_state(await store.state(partition), identity, partition)
        if not before.counters["corrected"]:
            return Voids()
        elements = await store.load_voids(partition)
        after = check_state(await store.state(partition), identity, partition)
        if (after.voids_trimmed, after.epoch) == (before.voids_trimmed, before.epoch):
            return voids_in(elements, after.voids_trimmed)
    raise WentBack


async def corrections_of(store: RollupStore, identity: DeploymentRecord, partition: int) -> Voids:
    """The same for whoever does not begin again.

    Raises:
        StoreUnavailable: it changed whenever it was read.
    """
    try:
        return await read_corrections(store, identity, partition)
    except WentBack as error:
        raise StoreUnavailable("Redis changed whenever it was read; ask again") from error


async def read_verdicts(
    store: RollupStore, identity: DeploymentRecord, partition: int
) -> KeptVerdicts:
    """Read what a partition holds.

    Raises:
        WentBack: it was trimmed whenever it was read.
    """

    async def trimmed() -> tuple[Trimmed, int]:
        state = check_state(await store.state(partition), identity, partition)
        return state.trimmed, state.epoch

    before = await trimmed()
    for _ in range(_TRIES_MAX):
        elements = await store.load_duplicates(partition)
        after = await trimmed()
        if after == before:
            return KeptVerdicts(duplicates_in(elements, after[0]), after[0])
        before = after
    raise WentBack
