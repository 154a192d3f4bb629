"""`recount metrics try`: a definition counted over the log that is there; nothing is written.

Every partition is read from the log's start up to where Redis stands, as an audit reads it, and
both definitions are counted from the same records. So their values stand at the same offsets, and
the other metric's are those that `recount usage` answers there.

Rule: memory is bounded (Room; EVENTS_PER_PASS): more is refused, or read in several passes.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final

from definitions.metric import Definition, MetricVersion
from definitions.times import NS_PER_MS
from definitions.values import EXACT

from ..control.entities import DeploymentRecord, Metric, Version
from ..control.records import ControlState
from ..core.buckets import moment_of
from ..core.past import exact_from
from ..core.state import PartitionState
from ..core.windows import Window
from ..deploy.checks import check_state
from ..errors import BadParameter, LogUnavailable, NotOpen, StoreUnavailable, UsageError
from ..ports import EventLog, RollupStore
from ..recount.ledger import WHOLE, Ledger, Share
from .afterwards import is_asked_in_parts
from .answers import AsOf, Number
from .asked import LINES_MAX, worked
from .clauses import Excluding, most_excluding
from .costs import Cost
from .merging import rows_of
from .query import Query, WindowFinder
from .recounting import active_of, share_of, terms_of
from .results import adds_over_customers, sum_of
from .standing import Standing
from .trial_ledger import NARROWER, Candidate, Room, Side, TrialLedger, whose
from .usage import Reader
from .verdicts import KeptVerdicts, WentBack, corrections_of, read_verdicts

EVENTS_PER_PASS: Final = 8_000_000  # some 35 bytes each, for their identities
CLAUSES_MAX: Final = 20
_AT_ONCE: Final = 500  # records that are looked at before others have their turn
_ID: Final = "candidate"
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class TrialQuery:
    """What is asked. against: the same question about another metric. share: of the customers."""

    query: Query
    against: Query | None
    share: Share

    @classmethod
    def of(
        cls,
        name: str,
        definition: Definition,
        against: Metric | None,
        *,
        sample: str | None,
        **given: Any,
    ) -> "TrialQuery":
        """Return a question of what a user gave: texts are checked here, for all callers.

        given: see Query.of().

        Raises:
            BadParameter: one that cannot be read, or that does not fit the definition.
            UsageError: the definition has no value of its own.
        """
        query = Query.of(candidate_of(name, definition), **given)
        _refuse_strange("the candidate", query.metric)
        share = WHOLE if sample is None else share_of("sample", sample)
        if sample is not None and not query.each_customer:
            what = "one customer" if query.customer else "the whole deployment"
            raise BadParameter("sample", f"the candidate's value is that of {what}: leave it out")
        if against is None:
            return cls(query, None, share)
        _refuse_strange(f"the metric {against.name!r}", against)
        other = replace(query, metric=against)
        if other.is_of_customers != query.is_of_customers:
            counts = "customers" if other.is_of_customers else "the whole deployment"
            why = f"{against.name!r} counts {counts}, and the candidate does not"
            raise BadParameter("against", why)
        return cls(query, other, share)


def candidate_of(name: str, definition: Definition) -> Metric:
    """A metric that nobody registered: it counts all that the log holds."""
    body = MetricVersion(
        metric_id=_ID, version=1, effective_from=None, definition=definition, digest=""
    )
    version = Version(_ID, 1, body, created_at="")
    return Metric(_ID, name, [version])


def _refuse_strange(what: str, metric: Metric) -> None:
    body = metric.latest.body
    if body is None or not body.definition.computable:
        why = "a later release wrote it" if body is None else "; ".join(body.definition.reasons)
        raise UsageError(f"{what} has no value that a stream can compute: {why}")
    if is_asked_in_parts(metric):
        raise UsageError(f"{what} adds up other metrics, or looks behind its windows: create it")


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A customer's window, on both sides. exact: the log lacks no event of it."""

    customer: str | None
    window: Window
    value: Number
    unreadable: int
    against: Number
    exact: bool

    @property
    def difference(self) -> Number:
        """The candidate's value less the other one's; None where one of them has none."""
        if self.value is None or self.against is None:
            return None
        return EXACT.subtract(self.value, self.against)


@dataclass(frozen=True, slots=True)
class TrialAnswer:
    """What a trial found.

    reasons: why the candidate has no value although a stream can compute it. adds_up: whether
    values of customers and windows may be added. fates: of all records that were read, by fate;
    `counted` are those that the candidate counts. exact_from: from which time on the log lacks no
    event; None is all of it. begins: where the log began in each partition.
    """

    asked: TrialQuery
    rows: Sequence[TrialRow]
    reasons: Sequence[str]
    adds_up: bool
    clauses: Sequence[Excluding]
    fates: Counter[str]
    in_period: int
    matched: int
    cost: Cost
    as_of: AsOf
    begins: dict[int, int]
    exact_from: datetime | None

    def total(self, of: Callable[[TrialRow], Number]) -> Number:
        """The sum over all rows; None where values do not add up."""
        if not self.adds_up:
            return None
        return sum_of(value for row in self.rows if (value := of(row)) is not None)


@dataclass(slots=True)
class _Work:
    """What one trial is busy with. standings: of the partitions, where it began."""

    asked: TrialQuery
    standings: dict[int, Standing]
    room: Room
    candidate: Candidate
    other: Side | None
    fates: Counter[str] = field(default_factory=Counter)
    begins: dict[int, int] = field(default_factory=dict)
    exact_from: datetime | None = None

    @property
    def sides(self) -> list[Side]:
        """Both."""
        return [self.candidate.side, *([] if self.other is None else [self.other])]


class Trial:
    """Counts candidates over the log of one deployment. It writes nothing, anywhere."""

    def __init__(
        self,
        identity: DeploymentRecord,
        control: ControlState,
        store: RollupStore,
        log: EventLog,
        reader: Reader,
    ) -> None:
        self._identity = identity
        self._control = control
        self._store = store
        self._log = log
        self._reader = reader
        self._terms = terms_of(identity)

    async def run(self, asked: TrialQuery, started: Progress, progress: Progress) -> TrialAnswer:
        """Read the log and answer.

        started: told once how many offsets will be read. progress: told offsets as they go.

        Raises:
            UsageError: a period that cannot be answered, or more than may be held at a time.
            NotOpen, Damage: of a partition. LogUnavailable, StoreUnavailable: of what was read a
                part went away meanwhile.
        """
        work = await self._begun(asked)
        passes = {}
        for number, standing in work.standings.items():
            offsets = standing.state.next - work.begins[number]
            passes[number] = self._shares(asked, offsets)
        started(
            sum(
                len(shares) * (work.standings[number].state.next - work.begins[number])
                for number, shares in passes.items()
            )
        )
        for number, shares in passes.items():
            for share in shares:
                await self._read(work, number, share, progress)
        return await self._answer(work)

    def _shares(self, asked: TrialQuery, offsets: int) -> list[Share]:
        if asked.query.customer is not None:
            return [WHOLE]
        parts = -(-offsets // (EVENTS_PER_PASS * asked.share.of))
        return asked.share.parted(max(parts, 1))

    async def _begun(self, asked: TrialQuery) -> _Work:
        question = await self._reader.asked(asked.query)
        if len(question.spread) > LINES_MAX:
            raise UsageError(f"at most {LINES_MAX:,} windows are answered at a time: {NARROWER}")
        finder = WindowFinder(question.spread, self._terms.bucket_s)
        room = Room(len(question.spread))
        other = None
        if asked.against is not None:
            other = Side(await self._reader.asked(asked.against), finder, room)
        body = asked.query.metric.latest.body
        assert body is not None
        candidate = Candidate(body, Side(question, finder, room), finder)
        standings = await self._reader.standings()
        for number, standing in standings.items():
            if standing.closed is not None:
                raise NotOpen(number, standing.closed)
        work = _Work(asked, standings, room, candidate, other)
        spans = await self._log.spans()
        for number, standing in standings.items():
            low = max(standing.state.start, spans[number].start)
            work.begins[number] = min(low, standing.state.next)
            if spans[number].start > standing.state.start:
                since = await self._exact_from(number, spans[number].start, standing.state)
                work.exact_from = max(since, work.exact_from or since)
        return work

    async def _exact_from(self, number: int, start: int, state: PartitionState) -> datetime:
        """From when on no event that is gone can lie: it is at most max_ahead before its time."""
        first = await self._log.probe(number, start)
        clock_ms = state.clock_ms if first is None else first.timestamp
        return moment_of(exact_from(clock_ms, self._identity.deployment) * NS_PER_MS)

    async def _read(self, work: _Work, number: int, share: Share, progress: Progress) -> None:
        """Read a partition once for a share of the customers."""
        state, low = work.standings[number].state, work.begins[number]
        is_cut = low > state.start
        against = work.asked.against
        others = [] if against is None else active_of(self._control, state)
        mine = [each for each in others if against and each.version.metric_id == against.metric.id]
        corrections = await corrections_of(self._store, self._identity, number)
        ledger = TrialLedger(
            number,
            self._terms,
            work.candidate,
            None if work.other is None else (work.other, mine),
            share=share,
            cut=is_cut,
            verdicts=await self._verdicts(number, state) if is_cut else None,
            named=frozenset(corrections.originals.tolist()),
            kept_corrections=frozenset(corrections.by.tolist()),
            expected=(state.next - low) // share.of,
        )
        if low < state.next:
            async for records in self._log.read(number, low, state.next):
                await self._feed(ledger, records, work.asked.query.customer)
                progress(len(records))
            if (await self._log.spans())[number].start > low:
                raise LogUnavailable(
                    f"Kafka's retention took records of partition {number} while they were read; "
                    "ask again"
                )
        ledger.settle()
        for side in work.sides:
            await worked(LINES_MAX, partial(side.close, number))
        work.fates += ledger.fates

    async def _feed(self, ledger: Ledger, records: Sequence[Any], customer: str | None) -> None:
        """Feed records; of one customer's trial only his: a repeat has the customer of its first.

        The log clock goes on with all of them.
        """
        for at in range(0, len(records), _AT_ONCE):
            some = records[at : at + _AT_ONCE]
            if customer is None:
                ledger.feed_all(some)
            else:
                for record in some:
                    if whose(record.value) == customer:
                        ledger.feed(record.offset, record.timestamp, record.value)
                    else:
                        ledger.note_time(record.offset, record.timestamp)
            await asyncio.sleep(0)  # a server answers others meanwhile

    async def _verdicts(self, number: int, state: PartitionState) -> KeptVerdicts:
        """What the store says of duplicates, as far as the trial reads at least."""
        try:
            verdicts = await read_verdicts(self._store, self._identity, number)
        except WentBack as error:
            raise StoreUnavailable("Redis changed whenever it was read; ask again") from error
        now = check_state(await self._store.state(number), self._identity, number)
        if now.next < state.next:
            raise StoreUnavailable("Redis went back while it was read; ask again")
        return verdicts

    async def _answer(self, work: _Work) -> TrialAnswer:
        asked, candidate = work.asked, work.candidate
        find = self._control.find_typed
        metrics = [asked.query.metric, *([] if asked.against is None else [asked.against.metric])]
        unresolved = await self._reader.unresolved(metrics, find)
        unknown = [bool(unresolved[metric.id]) for metric in metrics]
        count = len(work.room.customers) * len(candidate.side.asked.spread)
        rows = await worked(count, lambda: _rows(work, unknown))
        bodies = [metric.latest.body for metric in metrics]
        return TrialAnswer(
            asked=asked,
            rows=rows,
            reasons=unresolved[_ID],
            adds_up=all(
                body is not None and adds_over_customers(body.definition) for body in bodies
            ),
            clauses=most_excluding(candidate.clauses, CLAUSES_MAX),
            fates=work.fates,
            in_period=candidate.in_period,
            matched=candidate.matched,
            cost=candidate.footprint.cost(asked.share.of),
            as_of=self._as_of(work),
            begins=work.begins,
            exact_from=work.exact_from,
        )

    def _as_of(self, work: _Work) -> AsOf:
        """Where the answer stands: what Redis had applied when it began."""
        stands = work.standings
        through = [each.applied_through for each in stands.values()]
        known = [moment for moment in through if moment is not None]
        return AsOf(
            self._reader.topic,
            {number: each.state.next for number, each in stands.items()},
            min(known) if known and len(known) == len(through) else None,
            sum(each.unapplied for each in stands.values()),
            halted=tuple(number for number, each in stands.items() if each.halted is not None),
        )


def _rows(work: _Work, unknown: Sequence[bool]) -> list[TrialRow]:
    """A row for each customer who has a value on either side, and window.

    unknown: whether the sides' names have a meaning; a value that would be a guess is null.
    """
    asked = work.asked
    if asked.query.each_customer:
        customers = sorted(work.room.customers)
    else:
        customers = [asked.query.customer or ""]
    rows = []
    for name in customers:
        sides = [_values(side, name) for side in work.sides]
        for at, window in enumerate(work.candidate.side.asked.spread):
            (value, unreadable), *others = (side[at] for side in sides)
            against = others[0][0] if others and not unknown[1] else None
            exact = work.exact_from is None or window.starting_on >= work.exact_from
            mine = None if unknown[0] else value
            owner = name if asked.query.each_customer else None
            rows.append(TrialRow(owner, window, mine, unreadable, against, exact))
    return rows


def _values(side: Side, customer: str) -> list[tuple[Number, int]]:
    """A customer's value and its unreadable values in each window."""
    asked = side.asked
    found = rows_of(asked.query, asked.definitions, side.rows.get(customer, {}), (), asked.spread)
    return [
        (None if told.value is None else Decimal(told.value), told.unreadable)
        for _, _, told in found
    ]
