"""Names that a question used and nothing has: a customer without any number, a group without any.

Rule: 0 is an answer about a customer that some metric has counted. Of one that none has counted
the answer is the same 0, and says `"known": false` beside it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from definitions.matcher import measure_key
from definitions.metric import Scope

from ..control.entities import DeploymentRecord, Metric
from ..core.dedup import home_of
from ..deploy.checks import check_open
from ..errors import UnknownNameError
from ..ports import RollupStore
from .answers import UsageRow

UNKNOWN: Final[Mapping[str, Any]] = {"known": False}
_NEAR_MAX: Final = 3
_LISTED_MAX: Final = 5
_SHOWN_CHARS: Final = 200


def is_bare(rows: Iterable[UsageRow]) -> bool:
    """Whether nothing was counted in any of these rows."""
    return not any(row.value or row.unreadable for row in rows)


async def is_known(
    store: RollupStore, identity: DeploymentRecord, metrics: Iterable[Metric], customer: str
) -> bool:
    """Whether any metric has counted an event of a customer; also where nobody may ask."""
    measures = _measures_of(metrics)
    if not measures:
        return True  # nothing has counted anybody
    home = home_of(customer, identity.deployment.homes)
    states = {
        number: check_open(await store.state(number), identity, number)
        for number in identity.starts
    }
    strays = any(state.counters["misplaced"] for state in states.values())
    for number in identity.starts if strays else (home,):
        if await store.has_owner(number, measures, customer) is not False:
            return True
    return False


def _measures_of(metrics: Iterable[Metric]) -> list[str]:
    """The measures that count for each customer, of every version."""
    return [
        measure_key(body, index)
        for metric in metrics
        for version in metric.versions
        if (body := version.body) is not None
        and body.definition.computable
        and body.definition.scope is Scope.CUSTOMER
        for index, measure in enumerate(body.definition.measures)
        if measure.unit is None  # its cells are of units, not of customers
    ]


def why_unknown(customer: str) -> str:
    """Say what a customer is that nothing has counted."""
    return f"no metric has counted an event of customer {customer!r}: a wrong id, or a new one"


def why_no_group(
    wanted: Mapping[str, Collection[str]], groups: Iterable[Mapping[str, str | None]] | None
) -> str:
    """Say which values were asked for, and which there are in the period; None: nobody looked."""
    if groups is None:
        asked = "; ".join(_asked(name, sorted(values)) for name, values in wanted.items())
        return f"no such group has an event in this period: {asked}"
    seen: dict[str, set[str]] = {name: set() for name in wanted}
    for group in groups:
        for name in wanted:
            if (value := group.get(name)) is not None:
                seen[name].add(value)
    told = "; ".join(_told(name, sorted(wanted[name]), sorted(seen[name])) for name in wanted)
    return f"no such group has an event in this period: {told}"


def _told(name: str, wanted: Sequence[str], seen: Sequence[str]) -> str:
    asked = _asked(name, wanted)
    if not seen:
        return f"{asked} (no group has one)"
    near = [each for value in wanted for each in near_to(value, seen)]
    if near:
        return f"{asked} (did you mean {' or '.join(map(repr, near[:_NEAR_MAX]))}?)"
    more = "" if len(seen) <= _LISTED_MAX else f" and {len(seen) - _LISTED_MAX} more"
    return f"{asked} (there are {', '.join(map(repr, seen[:_LISTED_MAX]))}{more})"


def _asked(name: str, wanted: Sequence[str]) -> str:
    return f"{name} = {' or '.join(map(repr, wanted[:_NEAR_MAX]))}"


def no_metric(name: str, names: Collection[str], lists: str) -> UnknownNameError:
    """Return what to raise for a metric that there is not. lists: what would list them all."""
    near = near_to(name, names)
    meant = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return UnknownNameError(
        f"no metric has the id or name {name[:_SHOWN_CHARS]!r}; {meant}{lists} lists them"
    )


def near_to(given: str, names: Collection[str]) -> list[str]:
    """Return the names that somebody may have meant, other than the one given."""
    near = get_close_matches(given, names, n=_NEAR_MAX, cutoff=0.7)
    same = [name for name in names if name.casefold() == given.casefold()]
    return [name for name in dict.fromkeys([*same, *near]) if name != given][:_NEAR_MAX]
