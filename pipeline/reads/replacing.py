"""Whether a metric may take over the name of another one: it must hold all that the other does.

Who reads by the name is then never told less than before. What the numbers hold is known to Redis
alone, so it is asked before the record is written; the record itself (control/names.py) is valid
by what the control log says.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from definitions.times import rfc3339

from ..control.entities import Metric
from ..control.names import Exchange, Finder
from ..errors import ConflictError, NotOpen
from .history import BACKFILLING, PARTIAL, History, joined_histories
from .names import added_up
from .usage import Reader


class Readiness(NamedTuple):
    """The past of a metric that is to take over. waits: whether a part of it is being counted.

    lacks: what it will never hold though the other metric does; nothing where it holds all.
    """

    history: History
    waits: bool
    lacks: tuple[str, ...]


async def readiness(reader: Reader, find: Finder, asked: Exchange) -> Readiness:
    """Look how much of the log a metric holds, beside the one that it is to replace.

    Raises:
        ConflictError: it can never take over. NotOpen: a partition is being rebuilt.
    """
    asked.check()
    old, new = asked.old, asked.new
    if why := await _without_value(reader, find, old, new):
        raise ConflictError(f"{new.name!r} cannot replace {old.name!r}: {'; '.join(why)}")
    standings = await reader.standings()
    for number, standing in standings.items():
        if standing.closed is not None:
            raise NotOpen(number, standing.closed)
    of_new, of_old = added_up(new, find)[0], added_up(old, find)[0]
    histories = await reader.progress.of_metrics([*of_new, *of_old], standings)
    mine = joined_histories(histories[each.id] for each in of_new)
    other = joined_histories(histories[each.id] for each in of_old)
    return Readiness(mine, mine.word == BACKFILLING, _lacks(old, new, mine, other))


def check_ready(new: Metric, found: Readiness, *, allow_partial: bool) -> None:
    """Raise ConflictError where a metric does not hold all that it has to, and what to do."""
    if found.waits:
        raise ConflictError(
            f"the past of {new.name!r} is not counted yet ({found.history.percent} %): its "
            "numbers would be too low under that name; use --wait, or come again once "
            f"`recount metrics show {new.id}` says that it is ready"
        )
    if found.lacks and not allow_partial:
        raise ConflictError(
            f"{new.name!r} {'; and '.join(found.lacks)}: who reads by that name would miss that; "
            "where this is meant, say --allow-partial"
        )


async def _without_value(reader: Reader, find: Finder, old: Metric, new: Metric) -> Sequence[str]:
    """Why the metric would have no value under the name; nothing where it would have one."""
    body = new.latest.body
    if body is not None and not body.definition.computable:
        return body.definition.reasons
    if reasons := (await reader.unresolved([new], find))[new.id]:
        return reasons

    def exchanged(name: str, type_: str) -> Metric | None:
        found = find(name, type_)
        return {old.id: new, new.id: old}.get(found.id, found) if found is not None else None

    ends = [added_up(metric, exchanged)[1] for metric in (new, old)]
    return [why for why in ends if why is not None]


def _lacks(old: Metric, new: Metric, mine: History, other: History) -> tuple[str, ...]:
    """What the new metric will never hold, though the old one does."""
    found = []
    starts, began = _effective_from(new), _effective_from(old)
    if starts is not None and (began is None or starts > began):
        found.append(f"counts only from {rfc3339(starts)} on (its effective_from)")
    if mine.word == PARTIAL and other.word != PARTIAL:
        found.append("will never hold a part of its past (history: partial)")
    exact = mine.exact_from
    if exact is not None and (other.exact_from is None or exact > other.exact_from):
        found.append(f"is exact only from {rfc3339(exact)} on: the log had lost what came before")
    return tuple(found)


def _effective_from(metric: Metric) -> datetime | None:
    body = metric.versions[0].body
    return None if body is None else body.effective_from
