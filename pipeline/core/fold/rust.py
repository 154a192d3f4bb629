"""The plain events of a fold, taken by native/ where that is installed: the same answer, sooner.

Rule 1: it takes records from the front, in order, and stops at the first that it cannot decide as
the rest of this package would: that one goes the ordinary way, and the next are offered again.
Rule 2: of an event that it takes it may leave rules to Python. They are Python's share of the
event, which is judged, looked up and, where another rule matched, counted already.
Rule 3: it rejects nothing and decides no reading of its own; tests/property/test_native.py holds
its plans to those made without it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import ModuleType
from typing import Any, Final

from definitions.matcher import Matcher, Rule
from definitions.metric import Aggregation
from definitions.times import NS_PER_S

from ..compiled import told
from ..dedup import seed_of, tag_of
from ..deployment import Deployment
from ..id_index import IdIndex
from ..raw import RawRecords, offsets_of
from ..records import LogRecord
from .judge import Judge, PythonShare
from .spelled import path_of, spelled

_VALUE: Final = attrgetter("value")
_STAMP: Final = attrgetter("timestamp")
_SHARES_REMEMBERED_MAX: Final = 256  # sets of rules that were left together


class RustFold:
    """Takes the plain events of one partition under one matcher, plan after plan.

    shares: Python's, of what was taken last. odd: why the next record is Python's as a whole; None
    where it is not. paths: of the plan, events by who folds them (spelled.py, path_of).
    """

    def __init__(
        self, module: ModuleType, partition: int, deployment: Deployment, matcher: Matcher
    ) -> None:
        self._matcher = matcher
        self._module = module
        self._kinds: dict[str, Aggregation] = {}  # by rule
        self._rules: dict[tuple[int, ...], tuple[Rule, ...]] = {}  # by their numbers
        self._numbered: dict[int, Rule] = {}
        self._records: Sequence[LogRecord] = ()
        self.shares: list[PythonShare] = []
        self.odd: str | None = None
        self.paths: Counter[str] = Counter()
        self._folder = module.Folder(
            bucket_ns=deployment.base_bucket_s * NS_PER_S,
            seed=seed_of(deployment.store_id),
            partition=partition,
            homes=deployment.homes,
            max_age_ms=deployment.max_age_ms,
            max_ahead_ms=deployment.max_ahead_ms,
        )

    def begin(self, records: Sequence[LogRecord]) -> None:
        self._records, self.paths = records, Counter()
        if isinstance(records, RawRecords):
            self._folder.begin(records.native, records.begin, records.end)
            return
        columns = list(map(_VALUE, records)), list(map(_STAMP, records)), offsets_of(records)
        self._folder.begin(self._module.Records.of(*columns), 0, len(records))

    @property
    def size(self) -> int:
        """How many cells are touched so far."""
        size: int = self._folder.size
        return size

    def take(
        self, row: int, judge: Judge, index: IdIndex, *, cells_max: int, shares_max: int
    ) -> int:
        """Take plain records from a row on; return how many.

        Args:
            cells_max, shares_max: Where to stop. There may be some more.

        Raises:
            Broken: fold without it from now on, and on an index that is loaded again.
        """
        begin = row
        self.shares = []
        while True:
            index.reserve(len(self._records) - row)
            with told():
                taken, new, judge.clock_ms, unknown, self.odd, shares = self._folder.take(
                    row=row,
                    clock_ms=judge.clock_ms,
                    last_ms=judge.last_ms,
                    tag=tag_of(judge.generation),
                    cells_max=cells_max,
                    shares_max=max(shares_max - len(self.shares), 0),
                    index=index.arrays,
                )
            index.took(new)
            row += taken
            self.paths[path_of("native")] += taken - len(shares)
            if shares:
                self.shares += map(self._share, shares)
            if unknown is None:
                return row - begin
            self._learn(unknown)

    def _share(self, found: tuple[int, int, int, bool, tuple[int, ...], str]) -> PythonShare:
        row, event_ns, clock_ms, is_counted, numbers, why = found
        self.paths[path_of("both", why)] += 1
        rules = self._rules.get(numbers)
        if rules is None:
            if len(self._rules) >= _SHARES_REMEMBERED_MAX:
                self._rules.clear()
            rules = self._rules[numbers] = tuple(self._numbered[number] for number in numbers)
        return PythonShare(self._records[row], event_ns, clock_ms, is_counted, rules)

    def _learn(self, event_type: str) -> None:
        """Learn what the rules of an event type say, so that its events can be taken."""
        rules = self._matcher.candidates(event_type)
        numbers = self._folder.learn(event_type, list(map(spelled, rules)))
        self._numbered.update(zip(numbers, rules, strict=True))
        self._kinds.update((rule.key, rule.measure.aggregation) for rule in rules)

    def end(self) -> "Taken":
        """End the plan; return what was taken of it."""
        found = self._folder.end()
        self._records = ()
        return Taken(
            found["counted"],
            found["duplicates"],
            found["new_ids"],
            dict(found["first"]),
            RustPlain(self._folder, self._kinds),
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """What a plan's plain records are.

    duplicates: offsets. first: event type → offset of its first new event.
    """

    counted: int
    duplicates: list[int]
    new_ids: bytes
    first: dict[str, int]
    plain: "RustPlain"


class RustPlain:
    """PlainChanges (core/plan.py)."""

    def __init__(self, folder: Any, kinds: Mapping[str, Aggregation]) -> None:
        self._folder = folder
        self.kinds = kinds

    def give(self, store: Any) -> None:
        """Give the cells to a store of native/."""
        store.gather(self._folder)
