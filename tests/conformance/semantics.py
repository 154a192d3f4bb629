"""`python -m tests.conformance.semantics FILE`: one definition, one event, what it contributes.

Every case goes through the translation of its system, the worker's decoder and generated adder,
and through the recount's interpreter, which must agree.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

from definitions.events import translate
from definitions.events.common import Arrival
from definitions.formats import parse
from definitions.formats.bodies import Terms, parse_json
from definitions.matcher import compile_matcher
from definitions.metric import Aggregation, Definition, MetricVersion
from definitions.times import parse_timestamp
from definitions.values import canonical
from pipeline.core.aggregations import AGGREGATIONS, element_of
from pipeline.core.event import Event, decoder_for
from pipeline.core.fold.judge import Accepted
from pipeline.core.fold.tally import Tally
from pipeline.edges.memory import MemoryRecord
from pipeline.log.publish import line_of
from pipeline.recount.events import read_event
from pipeline.recount.matching import ABSENT, matches, value_of

from .runner import main

_NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Contribution = dict[str, Any]


def contribution(definition: Definition, line: bytes) -> Contribution:
    """What one event contributes, by the worker's own code."""
    version = MetricVersion(
        metric_id="m", version=1, effective_from=None, definition=definition, digest=""
    )
    matcher = compile_matcher([version])
    matcher.see(json.loads(line)["event_type"])
    decoder = decoder_for(matcher.properties, matcher.reads_context)
    event = decoder.decode(line)
    assert isinstance(event, Event), event
    tally = Tally(0, matcher, 3600)
    at = parse_timestamp(event.timestamp)
    assert at is not None
    rows = Accepted(1, [MemoryRecord(0, 0, line)], [0], [event], [at], [b""], (at, at))
    found: Contribution = {"match": bool(tally.add(rows))}
    found["value"] = found["distinct"] = found["measure"] = None
    for cell, change in tally.cells().items():
        if _measure_name(definition, cell.measure) not in definition.answering:
            continue
        kind, partial = change.aggregation, change.partial
        if kind is Aggregation.MEAN and partial.value[1]:
            found["value"] = _added(found["value"], canonical(partial.value[0]))
        elif kind not in {Aggregation.UNIQUE, Aggregation.MEAN} and not partial.unreadable:
            found["value"] = _added(found["value"], AGGREGATIONS[kind].finish(partial.value))
        found["measure"] = _measure_name(definition, cell.measure)
    for cell, elements in tally.elements().items():
        if _measure_name(definition, cell.measure) not in definition.answering:
            continue
        (found["distinct"],) = elements
        found["measure"] = _measure_name(definition, cell.measure)
    return found


def _added(held: str | None, value: str | None) -> str | None:
    """What several measures add: an event counts once for each (CK10)."""
    if held is None or value is None:
        return value if held is None else held
    return canonical(Decimal(held) + Decimal(value))


def _measure_name(definition: Definition, key: str) -> str:
    return definition.measures[int(key.rpartition(".")[2])].name


def recounted(definition: Definition, line: bytes) -> Contribution:
    """The same, by the recount's interpreter."""
    event = read_event(line)
    found: Contribution = dict.fromkeys(("value", "distinct", "measure"))
    found["match"] = False
    for measure in definition.measures:
        if measure.name not in definition.answering or not matches(measure, event):
            continue
        found["match"] = True
        value = value_of(measure, event)
        if value is ABSENT:
            continue
        found["measure"] = measure.name
        if measure.aggregation is Aggregation.UNIQUE:
            found["distinct"] = None if value is None else element_of(value)
        elif value is not None:
            found["value"] = _added(found["value"], canonical(Decimal(value)))
    return found


def check_case(case: Mapping[str, Any]) -> str | None:
    """Return what is wrong with our reading of one case, or None."""
    terms = Terms(klaviyo_metrics=case.get("metrics") or {})
    _, definition = parse(case["system"], json.dumps(case["definition"]), terms)
    numbers = count(1)
    arrival = Arrival(_NOW, new_id=lambda: str(next(numbers)))
    body = parse_json(json.dumps(case["event"]))
    (event,) = translate(case["system"], body, arrival)
    line = line_of(event)
    seen, again = contribution(definition, line), recounted(definition, line)
    for name, held in seen.items():
        if _plain(held) != _plain(again[name]):
            return f"{name} is {held!r} for the worker, {again[name]!r} for the recount"
    expected = dict(case["expected"])
    if expected.get("distinct") is not None:
        expected["distinct"] = element_of(expected["distinct"])
    for name, wanted in expected.items():
        if _plain(seen[name]) != _plain(wanted):
            return f"{name} is {seen[name]!r}, not {wanted!r}"
    return None


def _plain(value: Any) -> Any:
    """Decimals compare as numbers."""
    try:
        return Decimal(value) if isinstance(value, str) else value
    except ArithmeticError:
        return value


def run(file: Path) -> tuple[int, list[str]]:
    """Return how many cases passed, and a line for each that did not."""
    cases = json.loads(file.read_text())["cases"]
    failures = []
    for case in cases:
        wrong = check_case(case)
        if wrong is not None:
            failures.append(f"{case['id']}: {wrong} ({case.get('reason', '')})")
    return len(cases) - len(failures), failures


if __name__ == "__main__":
    raise SystemExit(main("semantics", run))
