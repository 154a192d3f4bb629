"""What a question about usage is answered with. The command line and the doors render it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from ..core.windows import Window
from .history import WHOLE, History, joined_histories

Number = Decimal | None


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One window: of a customer or of all, and of one group where the question has a group key.

    customer: whose it is; None where the question names the customer, or the metric has none.
    value: exact; None where there is none (docs/semantics.md V-7), or where reasons say why.
    stale: whether some of it waits to be counted again after a correction.
    unreadable: values that could not be read. complete: see R-2. history: of the metric.
    lies: in which partitions the customer's cells lie → the first offset that the row does not
    hold (R-3); None where the question names the customer.
    more: what the value was made of: numerator, denominator, steps.
    reasons: why there is no value although a stream can compute the metric.
    """

    window: Window
    group: Mapping[str, str | None] | None
    value: Number
    unreadable: int
    complete: bool
    history: History
    customer: str | None = None
    lies: Mapping[int, int] | None = None
    more: Mapping[str, Number | Sequence[Decimal]] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    stale: bool = False


@dataclass(frozen=True, slots=True)
class AsOf:
    """Where an answer stands (docs/semantics.md R-3).

    offsets: partition → the offset at which it was read first. offsets_until: the same of the last
    read, where that stood further on. applied_through: None where a partition is not known to be
    applied through any moment. unapplied: durable offsets of all partitions that are not applied;
    None while Kafka is away, which alone knows. halted: partitions that do not go on until
    somebody mends them. history: of the metrics that were read.
    """

    topic: str
    offsets: Mapping[int, int]
    applied_through: datetime | None
    unapplied: int | None
    offsets_until: Mapping[int, int] | None = None
    halted: tuple[int, ...] = ()
    history: History = WHOLE


@dataclass(frozen=True, slots=True)
class End:
    """What comes behind the last row. after: the last customer of a page that others follow."""

    as_of: AsOf
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """A whole answer."""

    rows: Sequence[UsageRow]
    as_of: AsOf
    after: str | None = None


def joined(answers: Iterable[AsOf]) -> AsOf:
    """What several answers stand on together: the earliest offsets, and how far any of them is."""
    found = list(answers)
    numbers = dict.fromkeys(number for each in found for number in each.offsets)
    lows = {number: min(each.offsets[number] for each in found) for number in numbers}
    highs = {
        number: max((each.offsets_until or each.offsets)[number] for each in found)
        for number in numbers
    }
    unapplied = [each.unapplied for each in found]
    through = [each.applied_through for each in found]
    known = [moment for moment in through if moment is not None]
    return AsOf(
        found[0].topic,
        lows,
        min(known) if len(known) == len(through) else None,
        None if None in unapplied else max(filter(None, unapplied), default=0),
        None if lows == highs else highs,
        tuple(sorted({number for each in found for number in each.halted})),
        joined_histories(each.history for each in found),
    )
