"""Whoever leaves a send takes along what was not on its way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pipeline.edges import kafka_sender
from pipeline.edges.kafka_client import KafkaAddress


class _Batch:
    def __init__(self) -> None:
        self.values: list[bytes] = []

    def append(self, *, value: bytes, **_: Any) -> object:
        self.values.append(value)
        return self


class _Silent:
    """A producer whose broker answers once the gate is open."""

    place = "nowhere:1"

    def __init__(self) -> None:
        self.gate, self.began, self.sent = asyncio.Event(), asyncio.Event(), list[bytes]()

    def create_batch(self) -> _Batch:
        return _Batch()

    async def send_batch(self, batch: _Batch, *_: Any, **__: Any) -> Any:
        self.began.set()
        await self.gate.wait()
        self.sent += batch.values
        return asyncio.sleep(0)


class _Producing:
    def __init__(self, client: _Silent) -> None:
        self._client = client

    @asynccontextmanager
    async def used(self) -> AsyncIterator[_Silent]:
        yield self._client

    async def close(self) -> None:
        """Nothing to close."""


async def test_what_was_refused_is_never_sent_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,001 sends only the one on its way and the one that still waits reach the log."""
    client = _Silent()
    monkeypatch.setattr(kafka_sender, "Producing", lambda *_, **__: _Producing(client))
    made = kafka_sender.Sender(KafkaAddress("nowhere:1", {}), "events")
    under_way = asyncio.create_task(made.send({0: [(b"k", b"first")]}))
    await client.began.wait()
    leaving = [asyncio.create_task(made.send({0: [(b"k", b"%d" % n)]})) for n in range(999)]
    staying = asyncio.create_task(made.send({0: [(b"k", b"last")]}))
    await asyncio.sleep(0)

    for each in leaving:
        each.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    client.gate.set()
    await asyncio.gather(under_way, staying)
    await made.close()

    assert client.sent == [b"first", b"last"]
