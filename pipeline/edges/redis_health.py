"""What each Redis says of itself: version, persistence, memory, clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .redis_client import Node, ResponseError, guard, is_refused
from .redis_nodes import Nodes


@dataclass(frozen=True, slots=True)
class RedisHealth:
    """One node, from INFO alone. None: our user may not ask, or this Redis does not say it.

    appends: whether it keeps an append-only file. failing: what it could not write last.
    limit: maxmemory, 0 is none. time: its clock.
    """

    place: str
    version: str | None = None
    appends: bool | None = None
    failing: str | None = None
    used: int | None = None
    limit: int | None = None
    time: datetime | None = None


async def health_of(nodes: Nodes) -> list[RedisHealth]:
    """Ask every node.

    Raises:
        StoreUnavailable, Halt: see guard().
    """
    return [await _health(node) for node in await nodes.every()]


async def _health(node: Node) -> RedisHealth:
    async with guard(node):
        try:
            told = {
                name: value
                for part in ("server", "persistence", "memory")
                for name, value in (await node.client.info(part)).items()
            }
        except ResponseError as error:
            if not is_refused(error):
                raise
            return RedisHealth(node.place)
    time_us, aof = told.get("server_time_usec"), told.get("aof_enabled")
    return RedisHealth(
        node.place,
        str(told["redis_version"]) if "redis_version" in told else None,
        None if aof is None else bool(aof),
        _failing(told),
        told.get("used_memory"),
        told.get("maxmemory"),
        None if time_us is None else datetime.fromtimestamp(int(time_us) / 1e6, UTC),
    )


def _failing(told: Mapping[str, Any]) -> str | None:
    names = ("aof_last_write_status", "rdb_last_bgsave_status", "aof_last_bgrewrite_status")
    bad = [f"{name} is {told[name]}" for name in names if told.get(name, "ok") != "ok"]
    return ", ".join(bad) or None
