"""What a metric's line says of the way its events are folded."""

import json
from typing import Any

from definitions.formats import parse
from definitions.metric import Definition, MetricVersion
from pipeline.control.entities import Version
from pipeline.core.fold.spelled import OPERAND, PATTERN, SLOW_TESTS
from pipeline.reads.summary import slow_because


def version(body: Definition | None, *, foldable: bool = True) -> Version:
    """A version of a definition."""
    made = None
    if body is not None:
        made = MetricVersion(
            metric_id="m", version=1, effective_from=None, definition=body, digest=""
        )
    return Version("m", 1, made, "2026-01-01T00:00:00Z", judged=foldable)


def klaviyo(*filters: dict[str, Any]) -> Definition:
    """A count of orders with these filters."""
    group = {
        "metric_id": "Placed Order",
        "metric_filters": [{"property": "p", "filter": each} for each in filters],
    }
    attributes = {
        "name": "n",
        "definition": {"aggregation_method": "count", "metric_groups": [group]},
    }
    body = {"data": {"type": "custom-metric", "attributes": attributes}}
    return parse("klaviyo", json.dumps(body))[1]


def test_a_fast_metric_has_no_reason() -> None:
    """native/ evaluates all of it."""
    fast = klaviyo({"type": "string", "operator": "in", "value": ["a", "b"]})
    assert slow_because(version(fast)) == []


def test_each_reason_is_told_once() -> None:
    """A pattern, and a number that is too long; each measure of the metric has both."""
    slow = klaviyo(
        {"type": "string", "operator": "regex", "value": "^a"},
        {"type": "string", "operator": "nregex", "value": "b$"},
        {"type": "numeric", "operator": "equals", "value": 10**18},
    )
    assert slow_because(version(slow)) == [SLOW_TESTS[PATTERN], SLOW_TESTS[OPERAND]]


def test_what_nobody_folds_is_not_fast() -> None:
    """A body of a later release, one that this release cannot fold, and one that no stream can."""
    uncomputed = klaviyo().model_copy(update={"reasons": ("a warehouse is needed",)})
    assert slow_because(version(None)) == ["this release folds none of it"]
    assert slow_because(version(klaviyo(), foldable=False)) == ["this release folds none of it"]
    assert slow_because(version(uncomputed)) == ["a stream does not compute it"]
