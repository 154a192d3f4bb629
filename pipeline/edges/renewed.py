"""Clients of Kafka that are made anew once they failed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Final, Generic, TypeVar

from ..errors import LogUnavailable, PipelineError

C = TypeVar("C")
_CLOSE_S_MAX: Final = 30.0  # of a client: what is on its way is given up by then


class Renewed(Generic[C]):
    """A client, made when it is used first, and anew after it has failed.

    aiokafka's can stay broken after a failure for as long as it lives: whoever repeated with it
    would repeat for ever. Its producer may not recover from an error. Its consumer asks for
    offsets within the same limit as the connection has for an answer, and whoever waits for
    another reason may give up sooner: then nobody closes a connection that is dead without a
    word, and each further question waits on it in vain. One that failed is closed beside the work
    that goes on.

    patience_s: who was stopped after having waited so long for the client has seen it fail. None:
    only an error is a failure.
    """

    def __init__(
        self,
        make: Callable[[], AbstractAsyncContextManager[C]],
        *,
        patience_s: float | None = None,
    ) -> None:
        self._make = make
        self._patience_s = patience_s
        self._client: C | None = None
        self._stack = AsyncExitStack()
        self._making = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def ready(self) -> C:
        """Return a client that has not failed.

        Raises:
            LogUnavailable: Kafka does not answer.
        """
        async with self._making:
            if self._client is None:
                self._client = await self._stack.enter_async_context(self._make())
            return self._client

    @asynccontextmanager
    async def used(self) -> AsyncIterator[C]:
        """A client; its failure while it is used is the end of it."""
        client = await self.ready()
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            yield client
        except PipelineError:
            self._drop(client)
            raise
        except asyncio.CancelledError:
            if self._patience_s is not None and clock() - began > self._patience_s:
                self._drop(client)
            raise

    def _drop(self, client: C | None) -> None:
        if client is not self._client:
            return  # another user has dropped it already
        stack, self._stack, self._client = self._stack, AsyncExitStack(), None
        task = asyncio.create_task(_closed(stack))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close every client, within a bound."""
        self._drop(self._client)
        await asyncio.gather(*self._closing)


async def _closed(stack: AsyncExitStack) -> None:
    with suppress(TimeoutError, LogUnavailable):
        async with asyncio.timeout(_CLOSE_S_MAX):
            await stack.aclose()
