"""`python -m tests.conformance.payloads DIR`: every native body of an index, taken or refused.

A reject must be refused for the rule and at the pointer that the index names, and for nothing
else; an accepted definition has the class of the index and comes back unchanged; a shape parses
into our model of that answer and comes back equal.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from definitions.errors import DefinitionError
from definitions.events import translate
from definitions.events.common import Arrival, instant
from definitions.formats import klaviyo, native_body, parse, statsig
from definitions.formats.bodies import DEFAULT_TERMS, dump_json, parse_json
from definitions.matcher import compile_version
from definitions.metric import MetricVersion
from pipeline.doors.http.bodies import Body, read
from pipeline.doors.klaviyo import shapes as klaviyo_door
from pipeline.doors.metronome import models as metronome_bodies
from pipeline.doors.metronome import shapes as metronome_door
from pipeline.doors.statsig import shapes as statsig_door

from .runner import main

ANSWERS = {
    "klaviyo": klaviyo_door.ANSWERS,
    "metronome": metronome_door.ANSWERS,
    "statsig": statsig_door.ANSWERS,
}
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


class _EverySource(dict[str, str]):
    """Maps every metric source to an event of its name."""

    def get(self, key: str, default: Any = None) -> Any:
        """The source's own name."""
        return key or default


MAPPED = replace(DEFAULT_TERMS, statsig_sources=_EverySource())


def check_entry(entry: Mapping[str, Any], text: str) -> str | None:
    """Return what is wrong with our handling of one body, or None."""
    if entry["expect"] == "shape":
        return _check_shape(entry, text)
    try:
        found = _take(entry, text)
    except DefinitionError as error:
        seen = [(problem.rule, problem.pointer) for problem in error.problems]
        if entry["expect"] == "accept":
            return f"refused: {seen}"
        wanted = (entry["rule"], entry["pointer"])
        return None if seen == [wanted] else f"refused for {seen}, not {wanted}"
    if entry["expect"] == "reject":
        return f"accepted; {entry['rule']} at {entry['pointer']!r} is broken"
    return found


def _take(entry: Mapping[str, Any], text: str) -> str | None:
    """Take one body as its kind says; return what differs from the index.

    Raises:
        DefinitionError: it is refused.
    """
    system, kind = entry["system"], entry["kind"]
    if kind == "create_definition":
        return _take_definition(entry, text)
    if kind == "update_definition" and system == "klaviyo":
        klaviyo.parse_update(text)
    elif kind == "update_definition" and system == "statsig":
        statsig.parse_update(text)
    elif kind == "event":
        moment = instant(entry["clock"]) if entry.get("clock") else _NOW
        assert moment is not None
        numbers = count(1)
        arrival = Arrival(moment, new_id=lambda: str(next(numbers)))
        translate(system, parse_json(text), arrival)
    else:
        _checker(entry, text)(parse_json(text))
    return None


def _checker(entry: Mapping[str, Any], text: str) -> Callable[[Any], object]:
    system, kind = entry["system"], entry["kind"]
    if system == "klaviyo" and kind == "read_query":
        return klaviyo_door.check_aggregates
    assert system == "metronome", entry
    model: type[Body] = metronome_bodies.UsageQuery
    if kind == "archive":
        model = metronome_bodies.Archive
    elif kind == "update_definition":
        model = metronome_bodies.Rename
    elif "billable_metric_id" in json.loads(text):
        model = metronome_bodies.GroupsQuery
    return lambda body: read(model, body, "M")


def _take_definition(entry: Mapping[str, Any], text: str) -> str | None:
    name, definition = parse(entry["system"], text)
    back = native_body(definition.origin, name)
    if _exact(dump_json(back)) != _exact(text):
        return f"comes back as {back}"
    stored = definition.model_validate(json.loads(json.dumps(definition.model_dump(mode="json"))))
    if stored != definition:
        return "the stored body is read back as another one"
    wanted = entry.get("class")
    if wanted is not None and definition.execution != wanted:
        return f"class {definition.execution}, not {wanted}"
    _, mapped = parse(entry["system"], text, MAPPED)
    wanted = entry.get("class_if_source_mapped") or wanted
    if wanted is not None and mapped.execution != wanted:
        return f"with a mapped source class {mapped.execution}, not {wanted}"
    for made in (definition, mapped):
        # A worker must be able to fold what was accepted.
        compile_version(
            MetricVersion(
                metric_id="m", version=1, effective_from=None, definition=made, digest=""
            )
        )
    return None


def _check_shape(entry: Mapping[str, Any], text: str) -> str | None:
    body = _exact(text)
    told = []
    for model in ANSWERS[entry["system"]]:
        try:
            made = model.model_validate(body)
        except ValidationError as error:
            told.append(str(error))
            continue
        return None if made.native() == body else f"comes back as {made.native()}"
    return "no model of ours takes it:\n" + "\n".join(told)


def _exact(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def run(folder: Path) -> tuple[int, list[str]]:
    """Return how many entries passed, and a line for each that did not."""
    index = json.loads((folder / "index.json").read_text())
    failures = []
    for name, entry in index.items():
        text = (folder / f"{name}.json").read_text()
        wrong = check_entry(entry, text)
        if wrong is not None:
            failures.append(f"{name}: {wrong}")
    return len(index) - len(failures), failures


if __name__ == "__main__":
    raise SystemExit(main("payloads", run))
