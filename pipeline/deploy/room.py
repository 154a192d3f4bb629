"""Whether Redis has room for a second epoch beside the one that readers see."""

from collections.abc import Sequence
from typing import Final

from ..core.limits import MEMORY_SHARE_MAX
from ..edges.redis_epochs import RedisEpochs
from ..errors import UsageError

_MORE: Final = 1.1  # the tables of Redis itself, and what arrives meanwhile


async def check_room(epochs: RedisEpochs, partitions: Sequence[int], at_once: int) -> None:
    """Refuse what would take Redis beyond 80 % of its maxmemory.

    Args:
        at_once: How many partitions are built at a time: then their old epochs are dropped.

    Raises:
        UsageError: with the figures.
    """
    limits = {number: await epochs.room(number) for number in partitions}
    if not any(limit for _, limit in limits.values()):
        return
    sizes = {number: await epochs.size(number) for number in partitions}
    needed = int(_MORE * sum(sorted(sizes.values())[-at_once:]))
    for number, (used, limit) in limits.items():
        if limit and used + needed > MEMORY_SHARE_MAX * limit:
            raise UsageError(
                f"Redis has no room for a second epoch: it uses {used:,} bytes of {limit:,} "
                f"(maxmemory); the epoch of partition {number} takes {sizes[number]:,}, and those "
                f"that are built at a time need {needed:,} more, which is beyond "
                f"{100 * MEMORY_SHARE_MAX:.0f} %. Raise maxmemory to at least "
                f"{int((used + needed) / MEMORY_SHARE_MAX) + 1:,}, or run `recount rebuild "
                "--in-place`, which needs no room: readers wait meanwhile"
            )
