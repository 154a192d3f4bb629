"""A connection that was closed ends, also where its client never reads what is left."""

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from pipeline.doors.http import connections
from pipeline.doors.http.connections import PatientProtocol


class _Unread(asyncio.Transport):
    """A transport with some bytes, below the high-water mark, that nobody reads."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.9", 1), "sockname": ("127.0.0.1", 2)})
        self.closing, self.aborted = False, asyncio.Event()

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True  # and waits for its buffer

    def abort(self) -> None:
        self.aborted.set()

    def write(self, data: Any) -> None:
        """Keep it."""


@pytest.mark.parametrize("cause", ["idle", "slow headers"])
async def test_a_closed_connection_is_aborted(monkeypatch: pytest.MonkeyPatch, cause: str) -> None:
    """Idle for too long, or slow with its headers: what is unread holds it WRITE_S_MAX longer."""
    monkeypatch.setattr(connections, "WRITE_S_MAX", 0.05)
    monkeypatch.setattr(connections, "HEADER_S_MAX", 0.05 if cause == "slow headers" else 60.0)
    config = uvicorn.Config(lambda: None, http=PatientProtocol, lifespan="off")
    config.load()
    protocol, transport = PatientProtocol(config, ServerState(), {}), _Unread()
    protocol.connection_made(transport)

    if cause == "idle":
        protocol.timeout_keep_alive_handler()
    async with asyncio.timeout(5):
        await transport.aborted.wait()

    assert transport.closing
    protocol.connection_lost(None)
