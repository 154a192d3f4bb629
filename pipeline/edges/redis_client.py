"""The connection to Redis, and its errors as ours: later, or never (docs/reliability.md)."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import redis.asyncio as aredis
from redis import exceptions as rex
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ..errors import Halt, StoreUnavailable, UsageError

NoScriptError = rex.NoScriptError
_TIMEOUT_S: Final = 10.0
# What Redis says when it will do better later; any other refusal is for people. Inside a script
# 6.2 wraps the word: "Error running script (…): @user_script:46: -OOM command not allowed".
_LATER: Final = re.compile(
    r"(^|[ -])(OOM|LOADING|BUSY|READONLY|MISCONF|MASTERDOWN|TRYAGAIN|CLUSTERDOWN|NOREPLICAS)\b"
)
_LATER_TYPES: Final = (rex.OutOfMemoryError, rex.ReadOnlyError, rex.BusyLoadingError)


def connect(url: str) -> Any:
    """Return a client; redis-py types answers by a setting of the client that no type shows.

    One repetition at once, for a pooled connection that died unnoticed: our callers do the rest.
    Repeating is safe: a commit that was applied already says so.

    Raises:
        UsageError: no URL of a Redis.
    """
    if url.startswith("redis+cluster"):
        raise UsageError("redis+cluster:// is not there yet: give one Redis (redis://…)")
    try:
        return aredis.Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
        )
    except ValueError as error:
        raise UsageError(f"RECOUNT_REDIS: {error}") from error


@asynccontextmanager
async def guard(client: Any) -> AsyncIterator[None]:
    """Translate the client's errors into ours."""
    try:
        yield
    except rex.AuthenticationError as error:
        raise Halt(f"Redis refused the login: {error}; correct RECOUNT_REDIS") from error
    except _LATER_TYPES as error:
        await _leave(client, error)
        raise StoreUnavailable(f"Redis refuses for now: {error}") from error
    except (rex.ConnectionError, rex.TimeoutError, OSError) as error:
        raise StoreUnavailable(f"Redis does not answer: {error}") from error
    except rex.ResponseError as error:
        text = str(error)
        if _LATER.search(text[:200]):
            raise StoreUnavailable(f"Redis refuses for now: {text}") from error
        raise Halt(f"Redis refused a command: {text}") from error


async def _leave(client: Any, error: Exception) -> None:
    """Drop the connections to a Redis that became a replica: the address may lead elsewhere."""
    if isinstance(error, rex.ReadOnlyError):
        await client.connection_pool.disconnect(inuse_connections=False)
