"""Where the partitions of a deployment stand, as a reader sees them.

Rule: the marks of the log are taken before the cells are read, so `complete` is never claimed
where anything that was durable when the question was asked is unapplied (R-2).
"""

from collections.abc import Mapping

from ..control.entities import DeploymentRecord
from ..core.state import PartitionState
from ..deploy.checks import check_open, check_state, first_state
from ..errors import Damage, NotOpen
from ..ports import Clock, RollupStore
from .marks import Ends, Marks, Patience, marks_of
from .standing import Standing, Stands, closed_as, stale_in, standing_away, standing_of


class Stream:
    """What the log holds, and what of it is applied. patience: how long to wait for workers."""

    def __init__(
        self,
        identity: DeploymentRecord,
        store: RollupStore,
        log: Ends,
        clock: Clock,
        patience: Patience,
    ) -> None:
        self._identity = identity
        self._store = store
        self._log = log
        self._clock = clock
        self._patience = patience

    async def marks(self, *, wait: bool = True) -> Marks:
        """Take the marks of a question that is asked now, and wait until workers passed them."""
        marks = await marks_of(self._log, self._clock, self._identity.starts)
        if wait:
            await self._patience.wait(self._store, marks.spans)
        return marks

    async def now(self) -> Stands:
        """Return where an answer stands that is asked for now.

        Raises:
            NotOpen: a partition is being rebuilt. Damage: one cannot be read.
        """
        marks, states = await self.marks(), {}
        for number in self._identity.starts:
            held = await self._store.state(number)
            states[number] = check_open(held, self._identity, number)
        return await self.stands(states, marks, None)

    async def stands(
        self, states: Mapping[int, PartitionState], marks: Marks, before: Stands | None
    ) -> Stands:
        """Return where an answer stands whose last read stood at these states.

        before: where its earlier reads stood; None: this is the first.

        Raises:
            StoreUnavailable: Redis went back meanwhile.
        """
        if before is None:
            first = await self._standings(states, marks)
            unapplied = sum(each.unapplied for each in first.values()) + marks.strangers
            told = None if marks.away else unapplied
            return Stands(first, states, told, stale_in(states.values(), {}))
        return before.later(states)

    async def standings(self) -> dict[int, Standing]:
        """Return where every partition stands now, those too that are not open for reading."""
        marks = await self.marks(wait=False)
        states: dict[int, PartitionState] = {}
        closed: dict[int, NotOpen | Damage] = {}
        for number, start in self._identity.starts.items():
            try:
                held = await self._store.state(number)
                states[number] = check_state(held, self._identity, number)
                check_open(held, self._identity, number)
            except (NotOpen, Damage) as error:
                states.setdefault(number, first_state(self._identity, start))
                closed[number] = error
        found = await self._standings(states, marks)
        for number, why in closed.items():
            has_halted = isinstance(why, Damage)
            found[number] = closed_as(found[number], str(why), has_halted=has_halted)
        return found

    async def _standings(
        self, states: Mapping[int, PartitionState], marks: Marks
    ) -> dict[int, Standing]:
        ahead = [
            number
            for number, state in states.items()
            if number in marks.spans and state.next > marks.spans[number].durable
        ]
        # Workers may have gone on since the marks were taken. Or the log was cut.
        later = await self._log.marks() if ahead else {}
        found = {}
        for number, state in states.items():
            if marks.away:
                found[number] = standing_away(state)
                continue
            span = marks.spans.get(number)
            cut = number in ahead and (number not in later or state.next > later[number].durable)
            passed = state
            if span is not None and not cut:
                passed = await self._patience.passed(self._log, number, state, span)
            found[number] = standing_of(state, passed, None if cut else span, marks.asked_at)
        return found
