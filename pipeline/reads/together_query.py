"""A question about many metrics at once (together.py answers it)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..control.entities import Metric
from ..core.windows import Window
from .names import components_of
from .pieces import sets_of
from .query import Query


@dataclass(frozen=True, slots=True)
class TogetherQuery:
    """A question about many metrics. queries: of each metric its total, then its groups.

    customer None: each of them; then after, limit: behind this one, and how many. left_out:
    metrics that have no value of a customer, and why.
    """

    queries: Sequence[Query]
    customer: str | None
    left_out: Mapping[str, str]
    after: str | None = None
    limit: int | None = None

    @classmethod
    def of(
        cls,
        metrics: Iterable[Metric],
        *,
        groups: bool,
        customer: str | None = None,
        after: str | None = None,
        limit: int | None = None,
        **given: Any,
    ) -> "TogetherQuery":
        """Return a question of what a user gave. groups: whether groups are told of as well.

        given: see Query.of().

        Raises:
            BadParameter: one that cannot be read.
        """
        queries: list[Query] = []
        left_out: dict[str, str] = {}
        for metric in sorted(metrics, key=lambda each: each.id):
            query = Query.of(metric, **given)
            why = _why_not(query)
            if why is not None:
                left_out[metric.name] = why
                continue
            query = replace(query, customer=customer)
            period = Window(query.starting_on, query.ending_before)
            sets = sets_of(metric, period) if groups else ()
            queries += [query, *(replace(query, group_key=names) for names in sets)]
        return cls(queries, customer, left_out, after, limit)


def _why_not(query: Query) -> str | None:
    """Why a metric has no value of each customer that is its own; None where it has."""
    body = query.metric.latest.body
    if body is None:
        return "a later release wrote it"
    if not body.definition.computable:
        return "it is not computed: " + "; ".join(body.definition.reasons)
    if not query.is_of_customers:
        return "it counts the whole deployment, not single customers"
    if components_of(query.metric) is not None:
        return "it adds up other metrics"
    return None
