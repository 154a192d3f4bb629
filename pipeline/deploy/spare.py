"""The copy of the control log, read while Kafka is still waited for.

A reader waits for Kafka's first answer, and reading the definitions of a large deployment takes as
long again. Where Kafka is slow to answer both are done at once, step by step in turn.
"""

import asyncio
from contextlib import suppress
from typing import Final, Self

from ..control.kept import copied
from ..control.records import ControlState
from ..control.seal import Seals
from ..edges.redis import RedisStore
from ..errors import LogUnavailable
from .checks import store_id_in
from .place import Place

_PROMPT_S: Final = 0.2  # a Kafka that is near has answered by then


class Spare:
    """What a deployment is opened with if Kafka is away. Use as an async context manager."""

    def __init__(self, place: Place, topic: str, store: RedisStore) -> None:
        self._store = store
        self._seals = Seals(topic, place.control_secrets)
        self._away = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def instead(self, of: LogUnavailable) -> ControlState:
        """Return what the copy says. of: why Kafka was not reached.

        Raises:
            LogUnavailable: there is no copy, or no deployment. StoreUnavailable: as copied().
        """
        self._away.set()
        try:
            found = await self._task
        except LogUnavailable as lacks:
            raise LogUnavailable(f"{of}; and {lacks}") from of
        if found is None:
            raise of
        return found

    async def _read(self) -> ControlState | None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._away.wait(), _PROMPT_S)
        held = await self._store.identity()
        store_id = None if held is None else store_id_in(held)
        if not isinstance(store_id, str):
            return None  # there is nothing here to be read
        return await copied(self._store, self._seals, store_id)
