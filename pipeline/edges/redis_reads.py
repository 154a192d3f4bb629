"""Redis, as readers ask it: states, cells in one MULTI or one trip of scripts, every address."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from copy import copy
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

from ..core.cells import CELLS, CellAddress, group_number
from ..core.state import PartitionState
from ..errors import StoreUnavailable, UsageError
from ..ports import Book, Listing
from .redis_books import (
    Wanted,
    addresses_of,
    all_ours,
    among,
    book_of,
    is_wrong_type,
    ours,
    pairs_of,
    state_in,
)
from .redis_client import NoScriptError, ResponseError, is_refused, memory_of
from .redis_foreign import is_name, strays_in
from .redis_keys import Keys
from .redis_listing import names_of
from .redis_nodes import Nodes, followed
from .requests import Script

_READ: Final = Script((Path(__file__).parent / "lua" / "read.lua").read_text())
_SNAPSHOT_TRIES_MAX: Final = 50
_KEYS_AT_ONCE: Final = 64  # as many are asked for whether they are there or not
# Redis 7.0 has a command for scripts that only read, which a user without writes may use; where
# neither is allowed, every key is asked for in a MULTI.
_WAYS: Final = ("EVALSHA_RO", "EVALSHA")
KEYS_MAX: Final = 100_000  # of one atomic read: a tenth of a second of Redis
_KNOWN_MAX: Final = 20_000  # measures of a partition of which it is remembered where they lie
_HERE_MAX: Final = 2_000  # cells and elements that are decoded in the loop; more, in a thread


class RedisReads:
    """The rollups of one deployment, to be read.

    tags: what the identity record says of hash tags at present: partition → suffix.
    """

    def __init__(self, url: str, deployment: str, base_bucket_s: int = 3600) -> None:
        self.nodes = Nodes(url)
        self.deployment = deployment
        self.base_bucket_s = base_bucket_s
        self.tags: Callable[[], Mapping[int, str]] = dict
        self.is_beside = False  # whether it reads and writes what a rebuild is building
        self._epochs: dict[int, int] = {}  # by partition, as the last state that was read says
        self._groups: dict[int, dict[str, int]] = {}  # by partition, where measures lie
        self._ways = list(_WAYS)  # how read.lua may be run, as far as is known

    def keys(self, partition: int, epoch: int | None = None) -> Keys:
        """The keys of a partition; of the epoch that was read last, where none is named."""
        suffix = self.tags().get(partition, "")
        if epoch is None:
            epoch = self._epochs.get(partition, 0)
        return Keys(
            self.deployment,
            partition,
            self.base_bucket_s,
            suffix,
            epoch=epoch,
            is_beside=self.is_beside,
        )

    def beside(self) -> Self:
        """The same deployment, as a rebuild builds it beside what readers see."""
        other = copy(self)
        other.is_beside, other._epochs, other._groups = True, {}, {}  # noqa: SLF001  our own
        return other

    def _state_in(self, fields: Mapping[bytes, bytes], partition: int) -> PartitionState | None:
        """Return the state that a partition's hash holds, and note its epoch."""
        state = state_in(fields, partition)
        if state is not None:
            self._epochs[partition] = state.epoch
        return state

    @followed
    async def state(self, partition: int) -> PartitionState | None:
        """Return a partition's state; None where it was never registered, or was emptied."""
        key = self.keys(partition).state
        async with self.nodes.at(key) as redis:
            return self._state_in(await redis.hgetall(key), partition)

    @followed
    async def building(self, partition: int) -> PartitionState | None:
        """Return what a rebuild has built beside; None where none is under way."""
        key = self.keys(partition).building
        async with self.nodes.at(key) as redis:
            return state_in(await redis.hgetall(key), partition)

    async def memory(self) -> tuple[int, int]:
        """Return the bytes used, and maxmemory; 0 is no limit, or a user who may not ask.

        Of several nodes, those of the one that is fullest.
        """
        found = [await memory_of(node) for node in await self.nodes.every()]
        return max(found, key=lambda each: each[0] / each[1] if each[1] else 0)

    @followed
    async def nexts(self, partitions: Sequence[int]) -> dict[int, int | None]:
        """Return `next` of several partitions; None where there is no offset. A trip a node."""
        keys = {number: self.keys(number).state for number in partitions}

        async def of(numbers: Sequence[int]) -> list[tuple[int, bytes | None]]:
            async with self.nodes.at(keys[numbers[0]]) as redis:
                pipe = redis.pipeline(transaction=False)
                for number in numbers:
                    pipe.hget(keys[number], "next")
                return [*zip(numbers, await pipe.execute(), strict=True)]

        groups = await self.nodes.grouped(keys)
        found = dict(chain(*await asyncio.gather(*(of(group) for group in groups if group))))
        texts = ((number, found[number]) for number in partitions)
        return {number: int(text) if text and text.isdigit() else None for number, text in texts}

    async def names(self, partition: int) -> dict[str, str]:
        """Return what a partition has learned of names (core/names.py)."""
        return (await self.learned(partition))[1]

    @followed
    async def learned(self, partition: int) -> tuple[PartitionState | None, dict[str, str]]:
        """Return the same with the state it stands at, from one atomic read.

        Names decide no number: what is not ours among them is passed over, and the audit tells of
        it (strays()).
        """
        keys = self.keys(partition)
        async with self.nodes.at(keys.state) as redis:
            pipe = redis.pipeline(transaction=True)
            pipe.hgetall(keys.state)
            pipe.hgetall(keys.names)
            fields, found = await pipe.execute(raise_on_error=False)
        for error in (fields, found):
            if isinstance(error, Exception) and (error is fields or not is_wrong_type(error)):
                raise error
        state = self._state_in(fields, partition)
        if state is not None and state.epoch != keys.epoch:
            return await self.learned(partition)
        pairs = {} if isinstance(found, Exception) else found
        ours = ((place, text) for place, text in pairs.items() if is_name(place, text))
        return state, {name.decode(): text.decode() for name, text in ours}

    @followed
    async def listing(self, partition: int, measures: Iterable[str]) -> Listing | None:
        """Return the customers and the days that have cells of any of these measures."""
        keys, names = self.keys(partition), list(measures)
        async with self.nodes.at(keys.state) as redis:
            pipe = redis.pipeline(transaction=True)
            pipe.hgetall(keys.state)
            if names:
                pipe.sunion([keys.customers(measure) for measure in names])
                pipe.sunion([keys.days(measure) for measure in names])
            fields, *found = await pipe.execute()
        state = self._state_in(fields, partition)
        if state is None:
            return None
        if state.epoch != keys.epoch:
            return await self.listing(partition, names)
        owners, days = found or (set(), set())
        with ours():
            return Listing(
                state, frozenset(name.decode() for name in owners), frozenset(map(int, days))
            )

    @followed
    async def read(
        self,
        partition: int,
        measures: Sequence[str],
        customers: Sequence[str],
        days: Sequence[int],
    ) -> Book | None:
        """Return every cell of these measures, customers and days, from one MULTI.

        Only days that have cells are asked for: the days known before the MULTI must be those
        known in it, otherwise a flush made a new one and the question is asked again. The same
        holds of the groups that the measures lie in.

        Raises:
            UsageError: these are more keys than may be read at one moment (KEYS_MAX).
        """
        known: set[int] = set()
        groups = self._groups_of(partition, measures)
        for _ in range(_SNAPSHOT_TRIES_MAX):
            keys = self.keys(partition)
            wanted_days = among(days, known)
            count = 2 * len(groups) * len(customers) * len(wanted_days)
            if count > KEYS_MAX:
                raise UsageError(
                    f"the answer needs {count:,} keys of Redis at one moment, at most "
                    f"{KEYS_MAX:,} are read: ask for a shorter period"
                )
            wanted = Wanted(addresses_of(groups, customers, wanted_days), measures)
            async with self.nodes.at(keys.state) as redis:
                pipe = redis.pipeline(transaction=True)
                for measure in measures:
                    pipe.smembers(keys.days(measure))
                found = await self._book(pipe, keys, partition, wanted, skipped=len(measures))
            if found is None:
                return None
            fresh = among(days, found[0])
            lie_in = self._note_groups(partition, measures, found[1].state)
            if found[1].state.epoch != keys.epoch:
                known.clear()
            elif not customers or (lie_in == groups and known.issuperset(fresh)):
                return all_ours(found[1])
            groups = lie_in
            known.update(fresh)
        raise StoreUnavailable("the stream adds days faster than they can be read; try again")

    @followed
    async def read_each(
        self,
        partitions: Sequence[int],
        measures: Sequence[str],
        customers: Sequence[str],
        days: Sequence[int],
    ) -> dict[int, Book | None]:
        """Return the same of several partitions; a small question takes one trip to Redis."""
        if len(measures) * len(customers) * len(days) > _KEYS_AT_ONCE:
            books = (self.read(each, measures, customers, days) for each in partitions)
            return dict(zip(partitions, await asyncio.gather(*books), strict=True))
        wanted = {
            number: Wanted(
                addresses_of(self._groups_of(number, measures), customers, days), measures
            )
            for number in partitions
        }
        found: dict[int, Book | None] = {}
        for _ in range(_SNAPSHOT_TRIES_MAX):
            again: dict[int, Wanted] = {}
            epochs = {number: self.keys(number).epoch for number in wanted}
            answers = await self._ask(wanted)
            for number, asked in wanted.items():
                fields, *contents = answers[number]
                state = self._state_in(pairs_of(fields), number)
                if state is None:
                    found[number] = None
                    continue
                lie_in = self._note_groups(number, measures, state)
                addresses = addresses_of(lie_in, customers, days)
                if addresses != asked.addresses or state.epoch != epochs[number]:
                    again[number] = Wanted(addresses, measures)
                    continue
                pairs = [
                    pairs_of(content) if address.kind == CELLS else content
                    for address, content in zip(asked.addresses, contents, strict=True)
                ]
                found[number] = all_ours(book_of(self.keys(number), state, asked, pairs))
            if not again:
                return {number: found[number] for number in partitions}
            wanted = again
        raise StoreUnavailable(
            "definitions are activated faster than cells can be read; try again"
        )

    def _groups_of(self, partition: int, measures: Sequence[str]) -> list[int]:
        """The groups that measures lie in, as far as is known from earlier answers."""
        known = self._groups.get(partition, {})
        return sorted({known[measure] for measure in measures if measure in known})

    def _note_groups(
        self, partition: int, measures: Sequence[str], state: PartitionState
    ) -> list[int]:
        """Note where a state says that measures lie: it stays so until a rebuild."""
        known = self._groups.setdefault(partition, {})
        if len(known) > _KNOWN_MAX:
            known.clear()
        for measure in measures:
            number = state.number_of(measure)
            if number is None:
                known.pop(measure, None)
            else:
                known[measure] = group_number(number)
        return self._groups_of(partition, measures)

    async def _ask(self, wanted: Mapping[int, Wanted]) -> dict[int, list[Any]]:
        """Read the state and the addresses of several partitions, each at one moment of it."""
        names = {}
        for number, asked in wanted.items():
            keys = self.keys(number)
            names[number] = [keys.state, *(keys.at(address) for address in asked.addresses)]
        groups = await self.nodes.grouped({number: each[0] for number, each in names.items()})
        answers = await asyncio.gather(
            *(self._ask_one([names[number] for number in group]) for group in groups)
        )
        return dict(zip(chain(*groups), chain(*answers), strict=True))

    async def _ask_one(self, names: Sequence[Sequence[str]]) -> list[Any]:
        """Ask one node for these keys of each of its partitions."""
        async with self.nodes.at(names[0][0]) as redis:
            while self._ways:
                try:
                    return await _run(redis, self._ways[0], names)
                except ResponseError as error:
                    if not is_refused(error):
                        raise
                    self._ways = self._ways[1:]
            return list(await asyncio.gather(*(_get(redis, keys) for keys in names)))

    async def addresses(self, partition: int) -> AsyncIterator[CellAddress]:
        """Yield the address of every key of cells, whether an index names it or not, once each."""
        await self.state(partition)  # which epoch it is
        keys = self.keys(partition)
        async for names in names_of(self.nodes, keys, keys.every_address):
            for name in names:
                address = keys.address_of(name.decode(errors="replace"))
                # A name that is no UTF-8 would be asked for by another one: see strays().
                if address is not None and keys.at(address).encode() == name:
                    yield address

    async def strays(self, partition: int) -> AsyncIterator[str]:
        """Yield what lies under the partition's prefix outside cells and is not ours."""
        async for stray in strays_in(self.nodes, self.keys(partition)):
            yield stray

    @followed
    async def read_addresses(
        self, partition: int, addresses: Sequence[CellAddress]
    ) -> Book | None:
        """Return the cells under these addresses, from one atomic read."""
        keys = self.keys(partition)
        async with self.nodes.at(keys.state) as redis:
            pipe = redis.pipeline(transaction=True)
            book = await self._book(pipe, keys, partition, Wanted(addresses))
        if book is not None and book[1].state.epoch != keys.epoch:
            return await self.read_addresses(partition, addresses)
        return None if book is None else book[1]

    async def _book(
        self, pipe: Any, keys: Keys, partition: int, asked: Wanted, *, skipped: int = 0
    ) -> tuple[set[int], Book] | None:
        """Read the state and these keys of cells, behind `skipped` questions for days.

        Returns:
            The days, and the book; None where the partition has no state. Of another epoch than
            that of the keys: nothing but the state.
        """
        pipe.hgetall(keys.state)
        for address in asked.addresses:
            if address.kind == CELLS:
                pipe.hgetall(keys.at(address))
            else:
                pipe.smembers(keys.at(address))
        # A key of another type is told of, not raised: the audit must see all the others.
        answers = await pipe.execute(raise_on_error=False)
        *listed, fields = answers[: skipped + 1]
        for error in (*listed, fields, *answers[skipped + 1 :]):
            if isinstance(error, Exception) and (
                error in (*listed, fields) or not is_wrong_type(error)
            ):
                raise error
        found = answers[skipped + 1 :]
        state = self._state_in(fields, partition)
        if state is None:
            return None
        if state.epoch != keys.epoch:
            return set(), Book(state, {}, {})
        with ours():
            days = {int(day) for answer in listed for day in answer}
        if sum(len(each) for each in found if not isinstance(each, Exception)) <= _HERE_MAX:
            return days, book_of(keys, state, asked, found)
        return days, await asyncio.to_thread(book_of, keys, state, asked, found)


async def _run(redis: Any, command: str, names: Sequence[Sequence[str]]) -> list[Any]:
    """Run read.lua on the keys of each partition in one trip."""
    for again in (False, True):
        pipe = redis.pipeline(transaction=False)
        for keys in names:
            pipe.execute_command(command, _READ.sha, len(keys), *keys)
        try:
            return list(await pipe.execute())
        except NoScriptError:
            if again:
                raise
            await redis.script_load(_READ.text)
    raise AssertionError("unreachable")


async def _get(redis: Any, names: Sequence[str]) -> list[Any]:
    """Do with plain commands what read.lua does."""
    pipe = redis.pipeline(transaction=True)
    for place, name in enumerate(names):
        # Behind the state, a hash of cells and a set of elements in turn.
        if place == 0 or place % 2:
            pipe.hgetall(name)
        else:
            pipe.smembers(name)
    return list(await pipe.execute())
