"""Redis, as who reads a whole month asks it: owners in parts, and all cells of some of them.

Rule 1: no question keeps Redis from others for long. Owners are listed in steps of SSCAN; a script
reads one owner after another and stops once it has read enough (lua/owners.lua). One owner is read
at one moment, however much there is of it.
Rule 2: what is listed is whole: who is in an index when the listing begins is yielded.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

from ..core.cells import CELLS, ELEMENTS, CellAddress
from ..core.state import PartitionState
from ..errors import StoreUnavailable
from ..ports import OwnerCells
from .redis_books import Wanted, all_ours, book_of, ours, pairs_of
from .redis_client import NoScriptError, ResponseError, is_refused
from .redis_nodes import followed
from .redis_reads import RedisReads
from .requests import Script

OWNERS: Final = Script((Path(__file__).parent / "lua" / "owners.lua").read_text())
_TRIES_MAX: Final = 50
_SCAN_COUNT: Final = 1_000
_ASKED_AT_ONCE: Final = 1_000  # sets that one pipeline asks
# Texts and keys of one script. Measured: docs/performance.md, "A month in one answer".
TEXTS_AT_ONCE: Final = 20_000
KEYS_AT_ONCE: Final = 1_500
_Keys = tuple[list[CellAddress], int]  # of one owner, and how many of them are cells


class RedisOwners(RedisReads):
    """The same rollups, owner by owner."""

    async def owners(self, partition: int, measures: Iterable[str]) -> AsyncIterator[list[str]]:
        """Yield who has cells of any of these measures, in parts; some more than once."""
        await self.state(partition)  # which epoch it is
        keys, walked = self.keys(partition), None
        for measure in measures:
            name, cursor = keys.customers(measure), 0
            while True:
                redis, cursor, found = await self._step(name, cursor)
                if walked not in {None, redis}:
                    raise StoreUnavailable(
                        "an index moved to another node while it was listed; ask again"
                    )
                walked = redis
                with ours():
                    yield [member.decode() for member in found]
                if not cursor:
                    break
        state = await self.state(partition)
        if state is not None and state.epoch != keys.epoch:
            raise StoreUnavailable("a rebuild has switched epochs meanwhile; ask again")

    @followed
    async def _step(self, name: str, cursor: int) -> tuple[Any, int, list[bytes]]:
        """One step of a walk through a set, and whom it was asked of."""
        async with self.nodes.at(name) as redis:
            at, found = await redis.sscan(name, cursor, count=_SCAN_COUNT)
        return redis, int(at), found

    async def has_owner(self, partition: int, measures: Sequence[str], owner: str) -> bool | None:
        """Return whether an owner has cells of any of these measures; None: we may not ask."""
        await self.state(partition)  # which epoch it is
        for at in range(0, len(measures), _ASKED_AT_ONCE):
            found = await self._are_owned(partition, measures[at : at + _ASKED_AT_ONCE], owner)
            if found is not False:
                return found
        return False

    @followed
    async def _are_owned(self, partition: int, measures: Sequence[str], owner: str) -> bool | None:
        keys = self.keys(partition)
        async with self.nodes.at(keys.state) as redis:
            pipe = redis.pipeline(transaction=False)
            for measure in measures:
                pipe.sismember(keys.customers(measure), owner)
            try:
                return any(await pipe.execute())
            except ResponseError as error:
                if is_refused(error):
                    return None  # a user of an earlier release, who had no such question
                raise

    @followed
    async def read_owners(
        self,
        partition: int,
        measures: Sequence[str],
        sets: Sequence[str],
        owners: Sequence[str],
        days: range,
    ) -> OwnerCells | None:
        """Return the cells of the first of these owners, all from one moment."""
        groups = self._groups_in(partition, measures, sets)
        for _ in range(_TRIES_MAX):
            per, hashes = _keys_of(groups, days)
            at_once, epoch = max(KEYS_AT_ONCE // max(len(per), 1), 1), self.keys(partition).epoch
            asked = owners[:at_once]
            fields, *found = await self._ask_owners(partition, (per, hashes), asked)
            state = self._state_in(pairs_of(fields), partition)
            if state is None:
                return None
            self._note_groups(partition, measures, state)
            lie_in = self._groups_in(partition, measures, sets)
            if lie_in == groups and state.epoch == epoch:
                return self._owned(partition, state, measures, (per, asked), found)
            groups = lie_in
        raise StoreUnavailable(
            "definitions are activated faster than cells can be read; try again"
        )

    def _groups_in(
        self, partition: int, measures: Sequence[str], sets: Sequence[str]
    ) -> tuple[list[int], list[int]]:
        """The groups that measures lie in, and those with elements, as far as is known."""
        return self._groups_of(partition, measures), self._groups_of(partition, sets)

    def _owned(
        self,
        partition: int,
        state: PartitionState,
        measures: Sequence[str],
        asked: tuple[Sequence[CellAddress], Sequence[str]],
        found: Sequence[Sequence[Any]],
    ) -> OwnerCells:
        per, owners = asked
        addresses: list[CellAddress] = []
        contents: list[Any] = []
        for owner, owned in zip(owners, found, strict=False):
            for place, content in zip(owned[::2], owned[1::2], strict=True):
                address = per[place]._replace(owner=owner)
                addresses.append(address)
                contents.append(pairs_of(content) if address.kind == CELLS else content)
        book = book_of(self.keys(partition), state, Wanted(addresses, measures), contents)
        return OwnerCells(all_ours(book), len(found) if per else len(owners))

    async def _ask_owners(self, partition: int, wanted: _Keys, owners: Sequence[str]) -> list[Any]:
        """Run owners.lua; where no script may run, do what it does with plain commands."""
        keys, (per, hashes) = self.keys(partition), wanted
        names = [keys.at(address._replace(owner=owner)) for owner in owners for address in per]
        async with self.nodes.at(keys.state) as redis:
            while self._ways:
                args = (len(per), hashes, TEXTS_AT_ONCE)
                try:
                    return await _run(redis, self._ways[0], [keys.state, *names], args)
                except ResponseError as error:
                    if not is_refused(error):
                        raise
                    self._ways = self._ways[1:]
            return await _get(redis, keys.state, names, len(per), hashes)


def _keys_of(groups: tuple[Sequence[int], Sequence[int]], days: range) -> _Keys:
    """The addresses of any owner."""
    cells = [CellAddress(CELLS, group, day, "") for group in groups[0] for day in days]
    sets = [CellAddress(ELEMENTS, group, day, "") for group in groups[1] for day in days]
    return [*cells, *sets], len(cells)


async def _run(redis: Any, command: str, names: Sequence[str], args: Sequence[int]) -> list[Any]:
    asked = (OWNERS.sha, len(names), *names, *args)
    try:
        return list(await redis.execute_command(command, *asked))
    except NoScriptError:
        await redis.script_load(OWNERS.text)
        return list(await redis.execute_command(command, *asked))


async def _get(redis: Any, state: str, names: Sequence[str], per: int, hashes: int) -> list[Any]:
    """What owners.lua answers, from one MULTI; without its bound: there are few keys at once."""
    pipe = redis.pipeline(transaction=True)
    pipe.hgetall(state)
    for at, name in enumerate(names):
        if at % per < hashes:
            pipe.hgetall(name)
        else:
            pipe.smembers(name)
    fields, *contents = await pipe.execute()
    owned = [contents[at : at + per] for at in range(0, len(contents), per)] if per else []
    return [
        fields,
        *(
            list(chain(*((place, content) for place, content in enumerate(each) if content)))
            for each in owned
        ),
    ]
