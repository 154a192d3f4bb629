"""The topics by which definitions are changed by records alone (docs/control-log.md).

No number is on them and no identity names them: one that is lost is made anew, empty. A deployment
that was made before there were any gets them by the next `recount init`.
"""

import asyncio
from typing import Final

from ..edges.kafka import DEAD_LETTER_BYTES_MAX, RECORD_BYTES_MAX
from ..edges.kafka_client import KafkaAdmin
from ..edges.kafka_names import request_names
from .checks import COPIES_SAFE, IN_SYNC, IN_SYNC_MIN

FOREVER: Final = "-1"
# role → its policy and the size of its records. Requests are kept: one that nobody has taken yet
# must not vanish. Of results the last of each request_id is kept, so the last of all is too.
_TOPICS: Final = {
    "requests": ("delete", RECORD_BYTES_MAX),
    "results": ("compact", RECORD_BYTES_MAX),
    "catalogue": ("compact", 2 * DEAD_LETTER_BYTES_MAX),
}


def safe_config(copies: int, *, allow_single_copy: bool) -> dict[str, str]:
    """Return what every topic of ours has: times of the append, all of it kept, no copy alone."""
    config = {
        "message.timestamp.type": "LogAppendTime",
        "unclean.leader.election.enable": "false",
        "retention.ms": FOREVER,
    }
    if copies >= COPIES_SAFE and not allow_single_copy:
        config[IN_SYNC] = str(IN_SYNC_MIN)
    return config


async def make_request_topics(
    admin: KafkaAdmin, name: str, *, copies: int, allow_single_copy: bool
) -> None:
    """Make those that are not there yet, with as many copies as the deployment's others have."""
    names = request_names(name)
    there = await admin.describe([*names.values()])
    config = safe_config(copies, allow_single_copy=allow_single_copy)

    async def make(role: str, topic: str) -> None:
        policy, bytes_max = _TOPICS[role]
        own = {"cleanup.policy": policy, "max.message.bytes": str(bytes_max)}
        await admin.create(topic, partitions=1, replication=copies, config={**config, **own})

    missing = {role: topic for role, topic in names.items() if topic not in there}
    await asyncio.gather(*(make(role, topic) for role, topic in missing.items()))
