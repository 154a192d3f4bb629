"""The connection to Redis, and its errors as ours: later, or never (docs/reliability.md)."""

import errno
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import redis.asyncio as aredis
from redis import exceptions as rex
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from ..errors import Damage, Halt, PipelineError, StoreUnavailable, UsageError
from .redis_address import RedisAddress

NoScriptError = rex.NoScriptError
ResponseError = rex.ResponseError
_TIMEOUT_S: Final = 10.0  # of an answer
_CONNECT_S: Final = 2.0  # with one repetition, who waits hears why within five seconds
# What Redis says when it will do better later; any other refusal is for people. Inside a script
# 6.2 wraps the word: "Error running script (…): @user_script:46: -OOM command not allowed".
_LATER: Final = re.compile(
    r"(^|[ -])(OOM|LOADING|BUSY|READONLY|MISCONF|MASTERDOWN|TRYAGAIN|CLUSTERDOWN|NOREPLICAS)\b"
)
_LATER_TYPES: Final = (
    rex.OutOfMemoryError,
    rex.ReadOnlyError,
    rex.BusyLoadingError,
    rex.TryAgainError,
    rex.ClusterDownError,
)
# Of a right that is missing; inside a script 7.0 says it in words of its own.
_WRONG_TYPE: Final = "WRONGTYPE"  # somebody else's key under a name of ours
_NO_RIGHT: Final = re.compile(r"NOPERM|no permissions?|can't (run|access)", re.IGNORECASE)
_RIGHTS: Final = "give it the rights of its role (docs/operations.md, Rights on Redis)"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A Redis and the client of it. place: as people write it, host:port or a path."""

    client: Any
    place: str
    address: RedisAddress

    @property
    def host(self) -> tuple[str, int]:
        """Name and port."""
        return self.address.hosts[0]

    @property
    def is_tls(self) -> bool:
        """Whether connections speak TLS."""
        return self.address.is_tls


class Moved(StoreUnavailable):
    """A key lies on another node of the cluster. host: who said or says so, or has it."""

    def __init__(self, text: str, host: tuple[str, int]) -> None:
        super().__init__(text)
        self.host = host


def connect(address: RedisAddress) -> Node:
    """Return a client; redis-py types answers by a setting of the client that no type shows.

    One repetition at once, for a pooled connection that died unnoticed: our callers do the rest.
    Repeating is safe: a commit that was applied already says so.
    """
    options: dict[str, Any] = {
        "socket_timeout": _TIMEOUT_S,
        "socket_connect_timeout": _CONNECT_S,
        "retry": Retry(NoBackoff(), 1),
        # What a user with few rights may not do, and what nobody here reads.
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **address.options,
    }
    if address.path:
        place, options["path"] = address.path, address.path
        options["connection_class"] = UnixDomainSocketConnection
    else:
        options["host"], options["port"] = host, port = address.hosts[0]
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if address.is_tls:
            options["connection_class"] = SSLConnection
    client = aredis.Redis.from_pool(aredis.ConnectionPool(**options))
    return Node(client, place, address)


def is_refused(error: Exception) -> bool:
    """Whether a command is one that this Redis does not have, or this user may not use."""
    text = str(error)
    return _lacks_right(error) or "unknown command" in text.lower()


def _lacks_right(error: Exception) -> bool:
    return isinstance(error, rex.NoPermissionError) or bool(_NO_RIGHT.search(said_by(error)))


def said_by(error: Exception) -> str:
    """What Redis itself said: of a command in a pipeline the client puts the command before it."""
    return str(error).rpartition(" of pipeline caused error: ")[2].lstrip("('\"")


@asynccontextmanager
async def guard(node: Node) -> AsyncIterator[None]:
    """Translate the client's errors into ours: with the address, the cause and what to do."""
    try:
        yield
    except rex.AuthenticationError as error:
        raise Halt(
            f"Redis at {node.place} refused the login ({error}); "
            "correct user and password in RECOUNT_REDIS"
        ) from error
    except _LATER_TYPES as error:
        await _leave(node.client, error)
        raise StoreUnavailable(f"Redis at {node.place} refuses for now: {error}") from error
    except (rex.ConnectionError, rex.TimeoutError, OSError) as error:
        raise StoreUnavailable(f"Redis at {node.place} {_unreached(node, error)}") from error
    except rex.InvalidResponse as error:
        raise StoreUnavailable(
            f"What listens at {node.place} is no Redis ({error}); correct RECOUNT_REDIS"
        ) from error
    except rex.AskError as error:
        raise _elsewhere(node, error) from error
    except rex.ResponseError as error:
        text = said_by(error)
        if _LATER.search(text[:200]):
            raise StoreUnavailable(f"Redis at {node.place} refuses for now: {text}") from error
        if _lacks_right(error):
            raise Halt(
                f"Redis at {node.place} refused a command, for its user lacks a right: {text}; "
                f"{_RIGHTS}"
            ) from error
        if text.startswith(_WRONG_TYPE):
            raise Damage(
                f"Redis at {node.place} holds a key of ours that is of a foreign type: {text}; "
                "remove it, or run `recount rebuild` for its partition"
            ) from error
        raise Halt(f"Redis at {node.place} refused a command: {text}") from error


def _elsewhere(node: Node, error: rex.AskError) -> PipelineError:
    """What MOVED (the slot has another node) and ASK (it is on its way there) mean."""
    if not node.address.is_cluster:
        return in_cluster(node.place)
    if isinstance(error, rex.MovedError):
        host = (error.host or node.host[0], error.port)
        return Moved(f"Redis at {node.place} says that another node has the slot: {error}", host)
    return StoreUnavailable(f"Redis at {node.place}: the slot is just being moved ({error})")


def in_cluster(place: str) -> UsageError:
    """Say that an address is that of a part of the whole."""
    return UsageError(
        f"Redis at {place} is a node of a Redis Cluster, and others hold the rest; write "
        f"redis+cluster://{place} (with TLS rediss+cluster://) in RECOUNT_REDIS"
    )


def _unreached(node: Node, error: BaseException) -> str:
    """Why a Redis was not reached, and what to do."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _untrusted(cause)
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return "has a name that is not known; correct RECOUNT_REDIS, or the name service"
        if isinstance(cause, OSError) and cause.errno in _BY_NUMBER:
            return _BY_NUMBER[cause.errno]
    text = str(error)
    if "connecting" in text or "connect to" in text:
        also = "; or it does not speak TLS (then redis://)" if node.is_tls else ""
        return (
            f"does not answer within {_CONNECT_S:.0f} s; look for a firewall, a route and the "
            f"address in RECOUNT_REDIS{also}"
        )
    if any(isinstance(cause, rex.TimeoutError) for cause in causes):
        return f"is connected and does not answer ({text}); it is too busy, or stopped"
    if node.is_tls:
        return (
            f"closed the connection ({text}): Redis stopped, or wants a client's certificate "
            "that its CA signed (ssl_certfile=FILE and ssl_keyfile=FILE in RECOUNT_REDIS)"
        )
    return (
        f"closed the connection ({text}): Redis stopped, or speaks TLS; "
        "then write rediss:// in RECOUNT_REDIS"
    )


_BY_NUMBER: Final = {
    errno.ECONNREFUSED: "does not answer: nobody listens there; start Redis, or correct "
    "RECOUNT_REDIS",
    errno.ENOENT: "does not answer: there is no such socket; start Redis, or correct "
    "RECOUNT_REDIS",
    errno.EACCES: "does not answer: this user may not open the socket",
    errno.ENETUNREACH: "does not answer: there is no route to it; look at the network, or "
    "correct RECOUNT_REDIS",
    errno.EHOSTUNREACH: "does not answer: there is no route to it; look at the network, or "
    "correct RECOUNT_REDIS",
}


def _untrusted(error: ssl.SSLError) -> str:
    """What is wrong between two who would speak TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"has a certificate that is not accepted ({error.verify_message}); name the CA that "
            "signed it (ssl_ca_certs=FILE in RECOUNT_REDIS), or the host that it is made out to"
        )
    reason = error.reason or str(error)
    if "ALERT" in reason:
        return (
            f"does not accept our certificate ({reason}); name one that its CA signed "
            "(ssl_certfile=FILE and ssl_keyfile=FILE in RECOUNT_REDIS)"
        )
    return f"does not speak TLS ({reason}); write redis:// in RECOUNT_REDIS, or correct the port"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def _leave(client: Any, error: Exception) -> None:
    """Drop the connections to a Redis that became a replica: the address may lead elsewhere."""
    if isinstance(error, rex.ReadOnlyError):
        await client.connection_pool.disconnect(inuse_connections=False)


async def memory_of(node: Node) -> tuple[int, int]:
    """Return the bytes that a Redis uses, and its maxmemory; 0 where the user may not ask."""
    async with guard(node):
        try:
            found = await node.client.info("memory")
        except ResponseError as error:
            if not is_refused(error):
                raise
            return 0, 0
    return int(found.get("used_memory", 0)), int(found.get("maxmemory", 0))


async def policy_of(node: Node, *, in_one: bool) -> str:
    """The maxmemory-policy of a Redis, which no cluster is a part of where it is the only one.

    From INFO, which those who host Redis leave to their users more often than CONFIG.
    """
    try:
        found = await node.client.info("memory")
        if in_one and (await node.client.info("cluster")).get("cluster_enabled"):
            raise in_cluster(node.place)
    except ResponseError as error:
        if not is_refused(error):
            raise
        found = {}
    if "maxmemory_policy" not in found:
        found = {
            "maxmemory_policy": (await node.client.config_get("maxmemory-policy"))[
                "maxmemory-policy"
            ]
        }
    return str(found["maxmemory_policy"])
