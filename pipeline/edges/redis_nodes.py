"""Where the keys of a deployment lie: on one Redis, or on the masters of a Redis Cluster.

A cluster gives each of its masters some of the 16,384 slots. The keys of a partition have one hash
tag, so they lie in one slot, on one node, and what is sent there is what one Redis is sent:
scripts, MULTI, pipelines. So there is one plain client a node, and a map slot → node.

Rule 1: the map is a guess. A node that does not have a slot answers MOVED and does nothing; the
map is then read again, and the same question is asked where it leads (followed()).
Rule 2: what is in between is "later", StoreUnavailable: a slot whose keys are just being moved
(ASK, TRYAGAIN), one without a master (CLUSTERDOWN), a node that does not answer.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from ..errors import NotOpen, StoreUnavailable, UsageError
from .redis_address import redis_address
from .redis_client import Moved, Node, ResponseError, connect, guard
from .redis_keys import slot_of

P = ParamSpec("P")
T = TypeVar("T")
_LOOK_S: Final = 2.5  # for one node to say who has which slots
_MOVES_MAX: Final = 3  # how often one question follows its slot before it is "later"


@dataclass(frozen=True, slots=True)
class _Map:
    """Who has which slots. ranges: (first, last, master), in order; places: all nodes of it."""

    ranges: tuple[tuple[int, int, str], ...]
    places: frozenset[tuple[str, int]]

    def at(self, slot: int) -> str | None:
        """The master of a slot."""
        found = bisect_right(self.ranges, slot, key=lambda each: each[0]) - 1
        if found < 0 or self.ranges[found][1] < slot:
            return None
        return self.ranges[found][2]


class Nodes:
    """The Redis of a URL, whole: every client of it."""

    def __init__(self, url: str) -> None:
        self._address = redis_address(url)
        self._one = None if self._address.is_cluster else connect(self._address)
        self._clients: dict[str, Node] = {}
        # Whom to ask for the map, first those who answered last.
        self._sources = dict.fromkeys(self._address.hosts)
        self._map: _Map | None = None
        self._looking = asyncio.Lock()

    @property
    def is_cluster(self) -> bool:
        """Whether there is a map at all."""
        return self._one is None

    @asynccontextmanager
    async def at(self, key: str) -> AsyncIterator[Any]:
        """The client of the node that holds a key; what goes wrong is told as ours.

        Raises:
            Moved: the key lies elsewhere, and the map says so now.
        """
        if self._one is not None:
            async with guard(self._one):
                yield self._one.client
            return
        slot = slot_of(key)
        held = self._map or await self._look(None)
        node = self._node_of(held, slot)
        try:
            async with guard(node):
                yield node.client
        except NotOpen:
            raise
        except StoreUnavailable as error:
            named = error.host if isinstance(error, Moved) else None
            found: _Map | None = None
            with suppress(StoreUnavailable):
                found = await self._look(held, first=named, last=node.host)
            if found and not named and found.at(slot) not in {node.place, None}:
                raise Moved(str(error), node.host) from error
            raise

    async def node_at(self, key: str) -> Node:
        """The node that holds a key."""
        if self._one is not None:
            return self._one
        return self._node_of(self._map or await self._look(None), slot_of(key))

    async def every(self) -> list[Node]:
        """Every node that holds keys of its own, by a map that is new."""
        if self._one is not None:
            return [self._one]
        found = await self._look(self._map)
        return [self._clients[place] for place in sorted({place for _, _, place in found.ranges})]

    async def grouped(self, keys: Mapping[T, str]) -> list[list[T]]:
        """Share things out by the node that holds the key of each."""
        if self._one is not None:
            return [list(keys)]
        held, groups = self._map or await self._look(None), dict[str, list[T]]()
        for thing, key in keys.items():
            groups.setdefault(self._node_of(held, slot_of(key)).place, []).append(thing)
        return list(groups.values())

    async def close(self) -> None:
        """Give the connections back."""
        for node in (*self._clients.values(), *([self._one] if self._one else ())):
            await node.client.aclose()

    # -- the map ---------------------------------------------------------------------------------

    def _node_of(self, held: _Map, slot: int) -> Node:
        place = held.at(slot)
        if place is None or place not in self._clients:
            self._map = None  # asked for again by whoever comes next
            raise StoreUnavailable(
                f"no master of the Redis Cluster has slot {slot}: one is down, or slots were not "
                "given out; look at `redis-cli --cluster check`"
            )
        return self._clients[place]

    async def _look(
        self,
        held: _Map | None,
        *,
        first: tuple[str, int] | None = None,
        last: tuple[str, int] | None = None,
    ) -> _Map:
        """Read the map again, unless somebody did since `held` was the map.

        Args:
            first: Who surely knows. last: who did not answer.

        Raises:
            StoreUnavailable: nobody knows; what the last of them said.
        """
        async with self._looking:
            if self._map is not None and self._map is not held:
                return self._map
            order = [host for host in self._sources if host != last]
            order = [*([first] if first else ()), *(host for host in order if host != first)]
            wrong: StoreUnavailable | None = None
            for host in [*order, *([last] if last else ())]:
                try:
                    self._map = await self._asked(host)
                except StoreUnavailable as error:
                    wrong = error
                    self._sources.pop(host, None)
                    self._sources[host] = None
                else:
                    await self._keep(self._map, host)
                    return self._map
            assert wrong is not None
            raise wrong

    async def _asked(self, host: tuple[str, int]) -> _Map:
        """What one node says of the slots."""
        node = self._client(host)
        try:
            async with asyncio.timeout(_LOOK_S):
                found = await _slots(node)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"Redis at {node.place} does not answer within {_LOOK_S} s"
            ) from error
        if not found:
            raise StoreUnavailable(
                f"Redis at {node.place} is a node of a Redis Cluster that has given out no slots; "
                "look at `redis-cli --cluster check`"
            )
        ranges, places = [], set[tuple[str, int]]()
        for low, high, master, *replicas in found:
            hosts = [_host_of(each, host) for each in (master, *replicas)]
            places.update(hosts)
            ranges.append((low, high, self._client(hosts[0]).place))
        return _Map(tuple(sorted(ranges)), frozenset(places))

    async def _keep(self, found: _Map, told: tuple[str, int]) -> None:
        """Keep clients and sources of this map, and of the addresses that were given."""
        given = self._address.hosts
        known = dict.fromkeys((told, *self._sources, *sorted(found.places)))
        self._sources = {host: None for host in known if host in found.places or host in given}
        for place, node in [*self._clients.items()]:
            if node.host not in self._sources:
                del self._clients[place]
                await node.client.connection_pool.disconnect(inuse_connections=False)

    def _client(self, host: tuple[str, int]) -> Node:
        made = self._clients.get(_place(host))
        if made is None:
            made = connect(replace(self._address, hosts=(host,)))
            self._clients[made.place] = made
        return made


async def _slots(node: Node) -> Iterable[Any]:
    async with guard(node):
        try:
            found: Iterable[Any] = await node.client.execute_command("CLUSTER", "SLOTS")
        except ResponseError as error:
            if "cluster support disabled" in str(error):
                raise UsageError(
                    f"Redis at {node.place} is no node of a Redis Cluster; write redis:// or "
                    "rediss:// in RECOUNT_REDIS"
                ) from error
            raise
    return found


def _host_of(told: Any, asked: tuple[str, int]) -> tuple[str, int]:
    """Host and port of a node; one that does not know its own name has that it was asked at."""
    name, port = told[0], int(told[1])
    return (name.decode() if name else asked[0]), port


def _place(host: tuple[str, int]) -> str:
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def followed(method: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Ask again where the slot lies by now: whoever says MOVED has done nothing.

    Where a node died meanwhile the question may have been answered: all of ours may be repeated.
    """

    @wraps(method)
    async def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(_MOVES_MAX):
            with suppress(Moved):
                return await method(*args, **kwargs)
        return await method(*args, **kwargs)

    return asked
