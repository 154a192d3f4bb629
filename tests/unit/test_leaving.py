"""Questions of clients that have left, and large questions beyond what a server answers."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.doors.http.leaving import GivenUp
from pipeline.doors.http.service import LARGE_MAX, Service
from pipeline.errors import TooBusy

Scope = dict[str, Any]
BODY = {"type": "http.request", "body": b"{}", "more_body": False}


class Connection:
    """A client: what it sends, and when it leaves."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()
        self.sent: list[Any] = []
        self._told = False

    async def receive(self) -> Any:
        """The body, then nothing until it has left."""
        if not self._told:
            self._told = True
            return BODY
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """What it gets."""
        self.sent.append(message)


async def passed(method: str, path: str, app: Callable[..., Any], client: Connection) -> None:
    """Pass a request on."""
    scope = {"type": "http", "method": method, "path": path}
    await GivenUp(app)(scope, client.receive, client.send)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/recount/v1/usage/n"),
        ("POST", "/v1/usage"),
        ("POST", "/v1/usage/groups"),
        ("POST", "/api/metric-aggregates/"),
    ],
)
async def test_a_question_ends_with_its_client(method: str, path: str) -> None:
    """It is cancelled where it stands, and nothing is raised."""
    client, ended = Connection(), []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        if method == "POST":
            assert await receive() == BODY
        client.leaves.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with asyncio.timeout(5):
        await passed(method, path, app, client)
    assert ended == ["cancelled"]


async def test_what_writes_goes_on() -> None:
    """An ingest whose client has left is finished: all of it or nothing is on the log."""
    client, done = Connection(), []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        assert await receive() == BODY
        client.leaves.set()
        await asyncio.sleep(0)
        done.append("written")

    await passed("POST", "/v1/ingest", app, client)
    assert done == ["written"]


async def test_an_answer_and_an_error_pass() -> None:
    """A client that stays gets its answer; an error reaches whoever renders it."""
    client = Connection()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await send(await receive())

    await passed("POST", "/v1/usage", app, client)
    assert client.sent == [BODY]

    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await passed("GET", "/recount/v1/status", broken, client)


async def test_so_many_large_questions_are_answered_at_a_time() -> None:
    """One more is refused at once, and taken when another has ended."""
    service = Service.__new__(Service)
    service._large = 0
    held = [service.large() for _ in range(LARGE_MAX)]
    for each in held:
        await each.__aenter__()
    with pytest.raises(TooBusy, match="ask again later"):
        async with service.large():
            pass
    await held[0].__aexit__(None, None, None)
    async with service.large():
        pass
