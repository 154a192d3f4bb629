"""How often aiokafka asks a cluster where its partitions are: at most some times a second.

Where no broker answers and some partition has no known leader, aiokafka's fetcher and its sender
ask again as soon as an answer has failed; a refused connection fails at once. Then a process
whose Kafka is away keeps a core busy, for as long as that lasts (aiokafka's issues 712 and 1155
are of the same kind).

Rule: importing this module changes aiokafka's client for the whole process. Nobody waits who asks
now and then; tests/unit/test_kafka_metadata.py holds aiokafka to what is relied on here.
"""

import asyncio
import time
from collections import deque
from typing import Any, Final

from aiokafka.client import AIOKafkaClient

AT_ONCE: Final = 5  # updates of a client that need not wait for one another
WITHIN_S: Final = 1.0  # in so many seconds
_own_update: Final = AIOKafkaClient._metadata_update  # noqa: SLF001  there is no other way in


async def _update(client: Any, *arguments: Any) -> Any:
    """Update a client's metadata, once there were not too many updates lately."""
    times: deque[float] = client.__dict__.setdefault("_updated_at", deque(maxlen=AT_ONCE))
    if len(times) == AT_ONCE and (waits := times[0] + WITHIN_S - time.monotonic()) > 0:
        await asyncio.sleep(waits)
    times.append(time.monotonic())
    return await _own_update(client, *arguments)


AIOKafkaClient._metadata_update = _update  # noqa: SLF001
