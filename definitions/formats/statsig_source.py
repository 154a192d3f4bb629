"""Metric sources of Statsig: tables of a warehouse there, events here."""

from .bodies import Terms
from .statsig_criteria import NotComputable


def event_of(source: str | None, terms: Terms) -> str:
    """Return the event that a metric source is mapped to.

    Raises:
        NotComputable: it is mapped to none.
    """
    event = terms.statsig_sources.get(source or "")
    if event is None:
        raise NotComputable(
            f"metric source {source!r} is a warehouse table; map it to an event "
            "(statsig.sources in the file of recount init --config)"
        )
    return event
