"""Names of metrics on the control log: each is one metric's at a time.

Rule: a record that takes a name away from a metric makes a new mapping of names. Whoever began to
answer a question goes on by the mapping it began with (ControlState.find_typed), so that no answer
is made of what a name meant before and after.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from definitions.formats.bodies import parse_json

from ..errors import ConflictError
from .entities import Metric
from .members import InvalidRecord

Names = dict[str, str]  # name → id of the metric
Finder = Callable[[str, str], Metric | None]  # by a metric's own name and its type
_CHARS_MAX: Final = 1_024


def find_typed(
    metrics: Mapping[str, Metric], names: Mapping[str, str], name: str, type_: str
) -> Metric | None:
    """Return a Statsig metric by its own name and type (definitions/formats says how)."""
    suffix = f"::{type_}"
    for registered in (name + suffix, name):
        metric = metrics.get(names.get(registered, ""))
        if metric is None or metric.format != "statsig":
            continue
        own = registered.removesuffix(suffix) == name
        if own and json.loads(metric.origin.text).get("type") == type_:
            return metric
    return None


def check_free(names: Mapping[str, str], name: object) -> None:
    """Raise InvalidRecord where a metric cannot have a name."""
    if not isinstance(name, str) or not name.strip() or len(name) > _CHARS_MAX:
        raise InvalidRecord("a name has 1 to 1,024 characters and is not blank")
    if name in names:
        raise InvalidRecord(f"metric {names[name]} has the name {name!r} already")


def renamed(names: Names, metric: Metric, record: Mapping[str, Any], at: str) -> Names:
    """Give a metric another name; return all names then."""
    name = record["name"]
    if name == metric.name:
        return names
    if not metric.named:
        raise InvalidRecord(f"{metric.id} was deleted")
    check_free(names, name)
    made = {**names, name: metric.id}
    del made[metric.name]
    metric.name, metric.changed_at, metric.replaced = name, at, None
    return made


def freed(names: Names, metric: Metric) -> Names:
    """Take its name from an archived metric; return the names that are left."""
    if metric.archived_at is None or not metric.named:
        raise InvalidRecord("only the name of an archived metric can be freed, and only once")
    metric.named = False
    made = {**names}
    del made[metric.name]
    return made


def exchanged(names: Names, new: Metric, old: Metric, record: Mapping[str, Any], at: str) -> Names:
    """Let two metrics exchange their names; return all names then.

    The record says both names. Of two records that were written at once, the second one finds
    that they are others' by now, and changes nothing.
    """
    if new is old:
        raise InvalidRecord("a metric cannot replace itself")
    if new.archived_at is not None:
        raise InvalidRecord(f"{new.id} is archived, so it cannot replace a metric")
    for metric, name in ((old, record["name"]), (new, record["gives"])):
        if not metric.named or metric.name != name:
            raise InvalidRecord(f"{metric.id} does not have the name {name!r} any more")
    new.name, old.name = old.name, new.name
    new.replaced, old.replaced = old.id, None
    new.changed_at = old.changed_at = at
    return {**names, new.name: new.id, old.name: old.id}


class Exchange(NamedTuple):
    """Two metrics that are to exchange their names, which are `name` and `gives` when asked.

    by_id: whether both were given by their ids. Names mean the opposite once it is done: what is
    asked again by names would take itself back.
    """

    old: Metric
    new: Metric
    name: str
    gives: str
    by_id: bool

    @classmethod
    def of(cls, old: Metric, new: Metric, given: Sequence[str]) -> "Exchange":
        """Return what was asked. given: how the two were called."""
        return cls(old, new, old.name, new.name, list(given) == [old.id, new.id])

    @property
    def is_done(self) -> bool:
        """Whether it happened, and was asked again."""
        return self.by_id and self.new.replaced == self.old.id

    def check(self) -> None:
        """Raise ConflictError where it cannot be, and why."""
        old, new = self.old, self.new
        if old is new:
            raise ConflictError(f"{old.name!r} cannot replace itself; name two metrics")
        for metric in (old, new):
            if metric.format is None:
                raise ConflictError(
                    f"{metric.name!r} was written by a later release; upgrade first"
                )
            if not metric.named:
                raise ConflictError(f"{metric.id} was deleted and has no name to exchange")
        if new.archived_at is not None:
            raise ConflictError(
                f"{new.name!r} is archived ({new.archived_at}): it would count nothing more "
                "under that name; create a new metric with its definition"
            )
        mine, other = _kind_of(new), _kind_of(old)
        if mine != other:
            raise ConflictError(
                f"{new.name!r} is a metric of {mine}, {old.name!r} one of {other}: clients of the "
                "one would not find the other; create the new metric in the same format, and "
                "with the same type"
            )
        if old.replaced == new.id and not self.by_id:
            raise ConflictError(
                f"{old.name!r} has taken over from {new.name!r} already. To take that back, name "
                f"both by their ids: recount metrics replace {old.id} {new.id}"
            )


def _kind_of(metric: Metric) -> str:
    """What tells metrics of one name apart to their clients: the format, with Statsig the type."""
    if metric.format != "statsig":
        return str(metric.format)
    return f"statsig, type {parse_json(metric.origin.text)['type']}"
