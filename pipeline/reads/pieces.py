"""Windows of many metrics at once: each is cut where its metric begins to count something else.

A window of one metric that crosses such a change has no one value, and is refused. Beside others
that would keep a month from being read or closed, for the sake of one metric that was changed in
it. So there it is answered in pieces, each by what the metric counted then.

Rule: a piece follows from versions whose times lie in the window. What a metric becomes later
changes no row of a period that was closed.
"""

from collections.abc import Sequence

from definitions.metric import Definition

from ..control.entities import Metric
from ..core.windows import Window
from .asked import Asked
from .query import Query, common_of, definition_of, grouping_of, parts_of, versions_of


def sets_of(metric: Metric, period: Window) -> list[tuple[str, ...]]:
    """The group keys of a metric in a period, each once, as the first version names it."""
    bodies = [version.body for version in versions_of(metric, period)]
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for body in bodies or [metric.latest.body]:
        for names in () if body is None else body.definition.dimensions:
            found.setdefault(tuple(sorted(names)), names)
    return list(found.values())


def pieces_of(metric: Metric, key: tuple[str, ...] | None, window: Window) -> list[Window]:
    """Return the pieces of a window that can be answered by a group key, in order.

    Without a key they make up the window. None where no version of it has that group key.
    """
    versions = versions_of(metric, window)
    bodies = [version.body for version in versions if version.body is not None]
    if len(bodies) < len(versions) or not bodies:
        return [window]  # nobody can say where versions of a later release begin
    bounds = [window.starting_on]
    bounds += [body.effective_from or window.starting_on for body in bodies[1:]]
    bounds.append(window.ending_before)
    found: list[Window] = []
    held: list[Definition] = []  # of the last piece; none where nothing may be joined to it
    for body, starts, ends in zip(bodies, bounds, bounds[1:], strict=False):
        definition = body.definition
        if not definition.computable:
            held = []
            if key is None:
                found.append(Window(starts, ends))
        elif grouping_of(definition, key) is None:
            held = []
        elif held and common_of([*held, definition]) is not None:
            held.append(definition)
            found[-1] = Window(found[-1].starting_on, ends)
        else:
            held = [definition]
            found.append(Window(starts, ends))
    return found


def in_pieces(query: Query, spread: Sequence[Window]) -> Asked:
    """Return a question with its windows in pieces. Pure.

    Raises:
        UsageError: a piece is not of whole windows of a statement whose rows are added.
    """
    key, period = query.group_key, Window(query.starting_on, query.ending_before)
    if len(versions_of(query.metric, period)) > 1:
        spread = [each for window in spread for each in pieces_of(query.metric, key, window)]
    definitions = [definition_of(query, window) for window in spread]
    return Asked(query, spread, parts_of(query, key or ()), key or (), definitions)
