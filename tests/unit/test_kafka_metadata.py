"""A client whose brokers are all away asks for metadata some times a second, not all the time."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.metadata import MetadataResponse_v0

from pipeline.edges import kafka_metadata
from pipeline.edges.kafka_metadata import AT_ONCE, WITHIN_S

TRIED_S = 2.2


@asynccontextmanager
async def client_of_one_broker() -> AsyncIterator[Any]:
    """A client that knows one broker, where nobody listens, and a partition without a leader."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # held, and not listened at: connections are refused
        port = nobody.getsockname()[1]
        client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}")
        partitions: list[Any] = [(5, 0, -1, [], [])]
        told = MetadataResponse_v0([(1, "127.0.0.1", port)], [(0, "events", partitions)])
        client.cluster.update_metadata(told)
        client._sync_task = asyncio.create_task(client._md_synchronizer())
        try:
            yield client
        finally:
            client._sync_task.cancel()


async def asked(client: Any) -> int:
    """How many updates fail for somebody who asks again as soon as one has."""
    count, ends = 0, time.monotonic() + TRIED_S
    while time.monotonic() < ends:
        assert await client.force_metadata_update() is False
        count += 1
    return count


async def test_a_client_without_a_broker_does_not_keep_a_core_busy() -> None:
    """What aiokafka's fetcher and sender do while a partition has no leader."""
    async with client_of_one_broker() as client:
        count = await asked(client)

    assert AT_ONCE <= count <= AT_ONCE * (TRIED_S / WITHIN_S + 2)


async def test_the_first_updates_wait_for_nothing() -> None:
    """Who asks now and then, as every command does, is not held up."""
    async with client_of_one_broker() as client:
        began = time.monotonic()
        for _ in range(AT_ONCE):
            await client.force_metadata_update()
        took_s = time.monotonic() - began

    assert took_s < WITHIN_S / 2
    assert AIOKafkaClient._metadata_update is kafka_metadata._update
