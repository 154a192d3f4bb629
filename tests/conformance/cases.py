"""Case files → the real pipeline → passed or failed (format: tests/data/cases/README.md).

All cases share one deployment and one worker, kept apart by a prefix on customer ids and metric
names; transaction ids stay as they are, since identity is the pair.
"""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from definitions.errors import DefinitionError
from definitions.formats import metronome
from definitions.times import parse_timestamp
from pipeline.control.log import ControlLog
from pipeline.control.members import digest_of
from pipeline.core.buckets import moment_of
from pipeline.core.windows import RefusedPeriod, WindowSize, zone_of
from pipeline.edges.clock import SystemClock
from pipeline.edges.kafka import KafkaLog
from pipeline.edges.kafka_client import KafkaAddress
from pipeline.edges.kafka_names import topic_names
from pipeline.errors import PipelineError
from pipeline.reads.lines import lines_of
from pipeline.reads.query import Query
from pipeline.reads.usage import Reader

from ..services import Recount
from ..stored import store_of

REFUSED = None


class Token(str):
    """A JSON number as it is written."""

    __slots__ = ()


class Row(NamedTuple):
    """One line of an answer. group: sorted pairs, or None."""

    starting_on: datetime
    ending_before: datetime
    group: tuple[tuple[str, str | None], ...] | None


Answer = dict[Row, Decimal | None]


@dataclass
class Verdict:
    """What became of a case."""

    case: str
    failures: list[str] = field(default_factory=list)
    holds: str | None = None


def load(folder: Path) -> list[dict[str, Any]]:
    """Return every case of a folder."""
    cases: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.json")):
        if path.name == "index.json":
            continue
        content = json.loads(path.read_text(), parse_float=Token, parse_int=Token)
        cases += content if isinstance(content, list) else [content]
    return cases


def dump(value: Any) -> str:
    """Write JSON with numbers as they were read."""
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(n)}:{dump(v)}" for n, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    return json.dumps(value)


def run(recount: Recount, cases: list[dict[str, Any]]) -> list[Verdict]:
    """Run cases in a fresh deployment."""
    recount.run("init", "--partitions", "4", "--base-bucket", "15m", "--max-age-days", "0")
    refused = asyncio.run(_create_all(recount, cases))
    lines = [
        dump({**event, "customer_id": _prefix(number) + str(event["customer_id"])})
        for number, case in enumerate(cases)
        for event in case["events"]
    ]
    recount.run(
        "publish", "-", "--send-anyway", stdin="".join(line + "\n" for line in lines).encode()
    )
    recount.catch_up()
    return asyncio.run(_judge_all(recount, cases, refused))


def _prefix(number: int) -> str:
    return f"case{number}/"


async def _create_all(recount: Recount, cases: list[dict[str, Any]]) -> dict[int, str]:
    """Create every definition of every case; return the cases with a refused one."""
    refused: dict[int, str] = {}
    address = KafkaAddress(recount.services.kafka, {})
    async with ControlLog(address, topic_names(recount.deployment)["control"]) as control:
        for number, case in enumerate(cases):
            for at, body in enumerate(case["definitions"]):
                text = dump({**body, "name": _prefix(number) + body["name"]})
                try:
                    name, definition = metronome.parse(text)
                except DefinitionError as error:
                    refused[number] = str(error)
                    continue
                record = {
                    "type": "definition",
                    "metric_id": f"case-{number}-{at}",
                    "version": 1,
                    "name": name,
                    "effective_from": None,
                    "definition": definition.model_dump(mode="json"),
                    "created_at": "2024-01-01T00:00:00Z",
                }
                await control.write({**record, "digest": digest_of(record)})
    return refused


async def _judge_all(
    recount: Recount, cases: list[dict[str, Any]], refused: dict[int, str]
) -> list[Verdict]:
    address, names = KafkaAddress(recount.services.kafka, {}), topic_names(recount.deployment)
    async with ControlLog(address, names["control"]) as control:
        identity = control.state.identity
        assert identity is not None
        store = store_of(
            recount.services.redis, recount.deployment, identity.deployment.base_bucket_s
        )
        log = KafkaLog(address, events=names["events"], rejected=names["rejected"])
        reader = Reader(identity, store, log, SystemClock(), timedelta(0))
        verdicts = []
        for number, case in enumerate(cases):
            verdict = Verdict(case["id"])
            if number in refused:
                verdict.failures.append(f"a definition is refused: {refused[number]}")
            else:
                await _judge(reader, control, number, case, verdict)
            verdicts.append(verdict)
        await store.close()
        await log.close()
    return verdicts


async def _judge(
    reader: Reader, control: ControlLog, number: int, case: dict[str, Any], verdict: Verdict
) -> None:
    answers = [await _ask(reader, control, number, query) for query in case["queries"]]
    if case.get("open"):
        given = [
            None if answer is REFUSED else _in_order(answer, query)
            for answer, query in zip(answers, case["queries"], strict=True)
        ]
        for alternative in case["alternatives"]:
            values = alternative["values"]
            wanted = (
                [None] * len(given)
                if values is None
                else [[_decimal(text) for text in row] for row in values]
            )
            if given == wanted:
                verdict.holds = alternative["choice"]
                break
        else:
            verdict.failures.append(f"no alternative holds: {given}")
    else:
        for answer, query in zip(answers, case["queries"], strict=True):
            verdict.failures += _differences(answer, query)
        verdict.failures += await _unreadable(reader, control, number, case)


def _decimal(text: Any) -> Decimal | None:
    return None if text is None else Decimal(str(text))


def _row(line: dict[str, Any]) -> Row:
    group = line["group"]
    return Row(
        _moment(line["starting_on"]),
        _moment(line["ending_before"]),
        None if group is None else tuple(sorted(group.items())),
    )


def _moment(text: str) -> datetime:
    ns = parse_timestamp(text)
    assert ns is not None, text
    return moment_of(ns)


async def _ask(
    reader: Reader, control: ControlLog, number: int, query: dict[str, Any]
) -> Answer | None:
    """Return the rows of a query; None where it is refused."""
    metric = control.state.find(_prefix(number) + query["metric"])
    assert metric is not None
    key = query["group_key"]
    try:
        asked = Query(
            metric=metric,
            customer=_prefix(number) + query["customer_id"],
            starting_on=_moment(query["starting_on"]),
            ending_before=_moment(query["ending_before"]),
            size=WindowSize(query["window_size"].lower()),
            zone=zone_of(query.get("timezone") or "UTC"),
            group_key=None if key is None else tuple(key),
            group_filters={},
        )
        lines = lines_of(reader.topic, (await reader.usage(asked)).rows)
    except (PipelineError, RefusedPeriod):
        return REFUSED
    return {_row(line): _decimal(line["value"]) for line in lines}


def _in_order(answer: Answer, query: dict[str, Any]) -> list[Decimal | None]:
    expected = [_row(row) for row in query["expected"]]
    if set(expected) == set(answer):
        return [answer[row] for row in expected]
    return list(answer.values())


def _differences(answer: Answer | None, query: dict[str, Any]) -> Iterable[str]:
    what = f"{query['metric']} of {query['customer_id']}"
    if answer is REFUSED:
        yield f"{what}: refused"
        return
    wanted = {_row(row): _decimal(row["value"]) for row in query["expected"]}
    for row, value in wanted.items():
        if row not in answer:
            yield f"{what}: no row {row}"
        elif answer[row] != value:
            yield f"{what}: {row}: {answer[row]}, not {value}"
    for row in answer.keys() - wanted.keys():
        if query["group_key"] is None or answer[row] not in {None, Decimal(0)}:
            yield f"{what}: a further row {row}: {answer[row]}"


async def _unreadable(
    reader: Reader, control: ControlLog, number: int, case: dict[str, Any]
) -> list[str]:
    """Compare how many values of each metric could not be read."""
    if not case["events"]:
        return []
    moments = sorted(_moment(event["timestamp"]) for event in case["events"])
    midnight = {"hour": 0, "minute": 0, "second": 0, "microsecond": 0}
    opens = moments[0].replace(**midnight) - timedelta(days=1)  # type: ignore[arg-type]
    closes = moments[-1].replace(**midnight) + timedelta(days=2)  # type: ignore[arg-type]
    found = []
    for body in case["definitions"]:
        metric = control.state.find(_prefix(number) + body["name"])
        assert metric is not None
        counted = 0
        for customer in {event["customer_id"] for event in case["events"]}:
            asked = Query(
                metric=metric,
                customer=_prefix(number) + customer,
                starting_on=opens,
                ending_before=closes,
                size=WindowSize.NONE,
                zone=zone_of("UTC"),
                group_key=None,
                group_filters={},
            )
            counted += (await reader.usage(asked)).rows[0].unreadable
        wanted = sum(item["metric"] == body["name"] for item in case["unreadable"])
        if counted != wanted:
            found.append(f"{body['name']}: {counted} unreadable values, not {wanted}")
    return found
