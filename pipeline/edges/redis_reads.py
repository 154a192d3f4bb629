"""Redis, as readers ask it: states, cells in one MULTI or one trip of scripts, every address."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ..core.cells import CELLS, ELEMENTS, CellAddress, CellKey
from ..core.names import is_field
from ..core.state import PartitionState, decode_state, is_state_field
from ..errors import Halt, NotOpen, PartitionHalt, StoreUnavailable, UsageError
from ..ports import Book, Listing
from .redis_client import NoScriptError, connect, guard
from .redis_keys import Keys, is_day, is_index

_READ: Final = (Path(__file__).parent / "lua" / "read.lua").read_text()
REBUILDING: Final = "rebuilding"
SCAN_COUNT: Final = 2_000
_SNAPSHOT_TRIES_MAX: Final = 50
_KEYS_AT_ONCE: Final = 64  # as many are asked for whether they are there or not
KEYS_MAX: Final = 100_000  # of one atomic read: a tenth of a second of Redis
_HERE_MAX: Final = 2_000  # cells and elements that are decoded in the loop; more, in a thread


class RedisReads:
    """The rollups of one deployment, to be read."""

    def __init__(self, url: str, deployment: str, base_bucket_s: int = 3600) -> None:
        self._client = connect(url)
        self._read = self._client.register_script(_READ)
        self._deployment = deployment
        self.base_bucket_s = base_bucket_s

    def keys(self, partition: int) -> Keys:
        """The keys of a partition."""
        return Keys(self._deployment, partition, self.base_bucket_s)

    async def state(self, partition: int) -> PartitionState | None:
        """Return a partition's state; None where it was never registered, or was emptied."""
        async with guard(self._client):
            return _state(await self._client.hgetall(self.keys(partition).state), partition)

    async def nexts(self, partitions: Sequence[int]) -> dict[int, int | None]:
        """Return `next` of several partitions; None where there is no offset. One trip."""
        async with guard(self._client):
            pipe = self._client.pipeline(transaction=False)
            for number in partitions:
                pipe.hget(self.keys(number).state, "next")
            found = await pipe.execute()
        pairs = zip(partitions, found, strict=True)
        return {number: int(text) if text and text.isdigit() else None for number, text in pairs}

    async def names(self, partition: int) -> dict[str, str]:
        """Return what a partition has learned of names (core/names.py)."""
        return (await self.learned(partition))[1]

    async def learned(self, partition: int) -> tuple[PartitionState | None, dict[str, str]]:
        """Return the same with the state it stands at, from one atomic read.

        Names decide no number: what is not ours among them is passed over, and the audit tells of
        it (strays()).
        """
        keys = self.keys(partition)
        async with guard(self._client):
            pipe = self._client.pipeline(transaction=True)
            pipe.hgetall(keys.state)
            pipe.hgetall(keys.names)
            fields, found = await pipe.execute(raise_on_error=False)
        for error in (fields, found):
            if isinstance(error, Exception) and (error is fields or not _is_type(error)):
                raise error
        pairs = {} if isinstance(found, Exception) else found
        ours = ((place, text) for place, text in pairs.items() if _is_name(place, text))
        return _state(fields, partition), {name.decode(): text.decode() for name, text in ours}

    async def listing(self, partition: int, measures: Iterable[str]) -> Listing | None:
        """Return the customers and the days that have cells of any of these measures."""
        keys, names = self.keys(partition), list(measures)
        async with guard(self._client):
            pipe = self._client.pipeline(transaction=True)
            pipe.hgetall(keys.state)
            if names:
                pipe.sunion([keys.customers(measure) for measure in names])
                pipe.sunion([keys.days(measure) for measure in names])
            fields, *found = await pipe.execute()
        state = _state(fields, partition)
        if state is None:
            return None
        owners, days = found or (set(), set())
        with _ours():
            return Listing(
                state, frozenset(name.decode() for name in owners), frozenset(map(int, days))
            )

    async def read(
        self,
        partition: int,
        measures: Sequence[str],
        customers: Sequence[str],
        days: Sequence[int],
    ) -> Book | None:
        """Return every cell of these measures, customers and days, from one MULTI.

        Only days that have cells are asked for: the days known before the MULTI must be those
        known in it, otherwise a flush made a new one and the question is asked again.

        Raises:
            UsageError: these are more keys than may be read at one moment (KEYS_MAX).
        """
        keys = self.keys(partition)
        known: set[int] = set()
        for _ in range(_SNAPSHOT_TRIES_MAX):
            wanted_days = _among(days, known)
            count = 2 * len(measures) * len(customers) * len(wanted_days)
            if count > KEYS_MAX:
                raise UsageError(
                    f"the answer needs {count:,} keys of Redis at one moment, at most "
                    f"{KEYS_MAX:,} are read: ask for a shorter period"
                )
            wanted = [
                CellAddress(kind, measure, day, customer)
                for measure in measures
                for customer in customers
                for day in wanted_days
                for kind in (CELLS, ELEMENTS)
            ]
            async with guard(self._client):
                pipe = self._client.pipeline(transaction=True)
                for measure in measures:
                    pipe.smembers(keys.days(measure))
                book = await _book(pipe, keys, partition, wanted, skipped=len(measures))
            if book is None:
                return None
            fresh = _among(days, book[0])
            if not customers or known.issuperset(fresh):
                return _all_ours(book[1])
            known.update(fresh)
        raise StoreUnavailable("the stream adds days faster than they can be read; try again")

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
        wanted = [
            CellAddress(kind, measure, day, customer)
            for measure in measures
            for customer in customers
            for day in days
            for kind in (CELLS, ELEMENTS)
        ]
        found: dict[int, Book | None] = {}
        for number, answer in zip(partitions, await self._ask(partitions, wanted), strict=True):
            fields, *contents = answer
            pairs = [
                _pairs(content) if address.kind == CELLS else content
                for address, content in zip(wanted, contents, strict=True)
            ]
            state = _state(_pairs(fields), number)
            made = None if state is None else _book_of(self.keys(number), state, wanted, pairs)
            found[number] = None if made is None else _all_ours(made)
        return found

    async def _ask(self, partitions: Sequence[int], wanted: Sequence[CellAddress]) -> list[Any]:
        """Run read.lua for several partitions in one trip."""
        async with guard(self._client):
            for again in (False, True):
                pipe = self._client.pipeline(transaction=False)
                for number in partitions:
                    keys = self.keys(number)
                    names = [keys.state, *(keys.at(address) for address in wanted)]
                    pipe.evalsha(self._read.sha, len(names), *names)
                try:
                    return list(await pipe.execute())
                except NoScriptError:
                    if again:
                        raise
                    await self._client.script_load(_READ)
        raise AssertionError("unreachable")

    async def addresses(self, partition: int) -> AsyncIterator[CellAddress]:
        """Yield the address of every key of cells, whether an index names it or not, once each."""
        keys, cursor = self.keys(partition), 0
        seen = set[bytes]()
        while True:
            async with guard(self._client):
                cursor, names = await self._client.scan(
                    cursor, match=keys.every_address, count=SCAN_COUNT
                )
            # SCAN may name a key twice, but only while the table is resized: soon after.
            fresh = [name for name in names if name not in seen]
            seen = set(names)
            for name in fresh:
                address = keys.address_of(name.decode(errors="replace"))
                # A name that is no UTF-8 would be asked for by another one: see strays().
                if address is not None and keys.at(address).encode() == name:
                    yield address
            if not cursor:
                return

    async def strays(self, partition: int) -> AsyncIterator[str]:
        """Yield what lies under the partition's prefix outside cells and is not ours."""
        keys, client = self.keys(partition), self._client
        async with guard(client):
            for name in await client.hkeys(keys.state):
                if not is_state_field(name.decode(errors="replace")):
                    yield f"key {keys.state!r}: {_quoted(name)} is not ours"
            async for name in client.scan_iter(keys.every, count=SCAN_COUNT):
                text = name.decode(errors="replace")
                kind, rest = keys.kind_of(text)
                address = keys.address_of(text)
                if address is not None and keys.at(address).encode() == name:
                    continue
                if text == keys.state:
                    continue
                if text == keys.names:
                    async for stray in self._stray_names(text):
                        yield stray
                    continue
                if kind == "ids" and is_day(rest):
                    wanted = "list"
                elif is_index(kind) and text.encode() == name:
                    wanted = "set"
                else:
                    yield f"key {_quoted(name)} is not one of ours"
                    continue
                found = (await client.type(name)).decode()
                if found not in {wanted, "none"}:  # none: a living id log may go meanwhile
                    yield f"key {_quoted(name)} is a {found}, not a {wanted}"
                elif wanted == "set" and found == "set":
                    async for member in client.sscan_iter(name, count=SCAN_COUNT):
                        if not _is_member(kind, member):
                            yield f"key {_quoted(name)}: member {_quoted(member)} is not ours"

    async def _stray_names(self, key: str) -> AsyncIterator[str]:
        """Yield what is not ours among the names that a partition has learned."""
        found = (await self._client.type(key)).decode()
        if found != "hash":
            yield f"key {key!r} is a {found}, not a hash"
            return
        async for place, text in self._client.hscan_iter(key, count=SCAN_COUNT):
            if not _is_name(place, text):
                yield f"key {key!r}: {_quoted(place)} is not ours"

    async def read_addresses(
        self, partition: int, addresses: Sequence[CellAddress]
    ) -> Book | None:
        """Return the cells under these addresses, from one atomic read."""
        async with guard(self._client):
            pipe = self._client.pipeline(transaction=True)
            book = await _book(pipe, self.keys(partition), partition, addresses)
        return None if book is None else book[1]


def _among(days: Sequence[int], known: Iterable[int]) -> list[int]:
    """The days asked for that are known; a period of 8,000 years is a range, never walked."""
    return sorted(day for day in known if day in days)


def _state(fields: Mapping[bytes, bytes], partition: int) -> PartitionState | None:
    if not fields:
        return None
    if REBUILDING.encode() in fields:
        raise NotOpen(
            partition,
            "it is being rebuilt, and nothing of its log is applied again yet; if no "
            "`recount rebuild` runs any more, run it again",
        )
    try:
        return decode_state({name.decode(): text.decode() for name, text in fields.items()})
    except (KeyError, ValueError) as error:
        raise PartitionHalt(
            partition,
            f"the hash of partition {partition} in Redis is damaged or foreign ({error}); "
            "run `recount rebuild`",
        ) from error


async def _book(
    pipe: Any, keys: Keys, partition: int, addresses: Sequence[CellAddress], *, skipped: int = 0
) -> tuple[set[int], Book] | None:
    """Read the state and these keys of cells, behind `skipped` questions for days.

    Returns:
        The days, and the book; None where the partition has no state.
    """
    pipe.hgetall(keys.state)
    for address in addresses:
        if address.kind == CELLS:
            pipe.hgetall(keys.at(address))
        else:
            pipe.smembers(keys.at(address))
    # A key of another type is told of, not raised: the audit must see all the others.
    answers = await pipe.execute(raise_on_error=False)
    *asked, fields = answers[: skipped + 1]
    for error in (*asked, fields, *answers[skipped + 1 :]):
        if isinstance(error, Exception) and (error in (*asked, fields) or not _is_type(error)):
            raise error
    found = answers[skipped + 1 :]
    with _ours():
        days = {int(day) for answer in asked for day in answer}
    state = _state(fields, partition)
    if state is None:
        return None
    if sum(len(each) for each in found if not isinstance(each, Exception)) <= _HERE_MAX:
        return days, _book_of(keys, state, addresses, found)
    return days, await asyncio.to_thread(_book_of, keys, state, addresses, found)


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    items = iter(flat)
    return dict(zip(items, items, strict=True))


def _book_of(
    keys: Keys, state: PartitionState, addresses: Sequence[CellAddress], found: Sequence[Any]
) -> Book:
    cells: dict[CellKey, str] = {}
    elements: dict[CellKey, set[str]] = {}
    foreign: list[str] = []
    for address, content in zip(addresses, found, strict=True):
        _collect(keys, address, content, cells, elements, foreign)
    sets = {cell: frozenset(members) for cell, members in elements.items()}
    return Book(state, cells, sets, tuple(foreign))


def _collect(
    keys: Keys,
    address: CellAddress,
    content: Any,
    cells: dict[CellKey, str],
    elements: dict[CellKey, set[str]],
    foreign: list[str],
) -> None:
    kind, measure, day, customer = address
    if isinstance(content, Exception):
        foreign.append(f"key {keys.at(address)!r} is not a {'hash' if kind == CELLS else 'set'}")
        return
    for member in content:
        try:
            if kind == CELLS:
                cell = keys.cell_of(measure, day, customer, member.decode())
                cells[cell] = content[member].decode()
            else:
                cell, element = keys.element_of(measure, day, customer, member.decode())
                elements.setdefault(cell, set()).add(element)
        except ValueError:
            foreign.append(f"key {keys.at(address)!r}: {_quoted(member)} is not ours")


def _is_name(place: bytes, text: bytes) -> bool:
    try:
        return is_field(place.decode(), text.decode())
    except UnicodeDecodeError:
        return False


def _is_type(error: Exception) -> bool:
    return str(error).startswith("WRONGTYPE")


def _is_member(kind: str, member: bytes) -> bool:
    try:
        text = member.decode()
    except UnicodeDecodeError:
        return False
    return kind == "i" or is_day(text)


def _quoted(raw: bytes) -> str:
    return ascii(raw[:120].decode(errors="backslashreplace"))


_CLEAN: Final = (
    "somebody else wrote into this deployment's keys; `recount audit` names all of it; remove it, "
    "or run `recount rebuild`"
)


def _all_ours(book: Book) -> Book:
    """Return a book, or halt: numbers beside foreign fields cannot be answered for."""
    if book.foreign:
        raise Halt(f"Redis: {book.foreign[0]}: {_CLEAN}")
    return book


@contextmanager
def _ours() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise Halt(f"Redis: an index or a list of names is damaged ({error}): {_CLEAN}") from error
