"""Who has cells, partition by partition, and where the cells of each customer lie.

A customer's home is the partition that the customer's id gives (docs/design.md 2), and under
`trust` some of the customer's events may lie elsewhere. Rule: everybody is told of once, at home,
with every partition that holds cells of theirs; so the order of an answer follows from ids alone.
"""

from collections.abc import Mapping, Sequence

from ..core.dedup import home_of
from ..core.state import PartitionState
from ..ports import RollupStore

Places = tuple[int, ...]  # the partitions where a customer's cells lie, ascending


class Owners:
    """The customers of some measures.

    Memory: the ids of one partition's customers, and of all those who have cells away from home.
    """

    def __init__(self, store: RollupStore, homes: int, measures: Sequence[str]) -> None:
        self._store = store
        self._homes = homes
        self._measures = measures
        self._away: dict[int, dict[str, set[int]]] = {}  # home → customer → other partitions

    def home_of(self, customer: str) -> int:
        """Where a customer is told of."""
        return home_of(customer, self._homes)

    async def look_away(self, states: Mapping[int, PartitionState]) -> None:
        """Find who has cells away from home; nobody has where no event was misplaced."""
        if not any(state.counters["misplaced"] for state in states.values()):
            return
        for number in states:
            async for names in self._store.owners(number, self._measures):
                for name in names:
                    home = self.home_of(name)
                    if home != number:
                        self._away.setdefault(home, {}).setdefault(name, set()).add(number)

    async def at_home(self, home: int) -> dict[str, Places]:
        """Return the customers of a home by their ids, in order, and where their cells lie."""
        away, here = self._away.get(home, {}), set[str]()
        async for names in self._store.owners(home, self._measures):
            here.update(names)
        if self._away:  # some of those who lie here are at home elsewhere
            here = {name for name in here if self.home_of(name) == home}
        alone = (home,)
        return {
            name: tuple(sorted(away[name] | ({home} if name in here else set())))
            if name in away
            else alone
            for name in sorted(here | away.keys())
        }
