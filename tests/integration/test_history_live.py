"""Metrics made through every door while events come: each is the recount of the whole log."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from definitions.formats import parse
from definitions.metric import Definition
from pipeline.edges.kafka import KafkaLog
from pipeline.edges.kafka_names import topic_names

from ..fault.harness import TERMS
from ..recount import Record, answers
from ..recount import recount as recounted
from ..services import Recount
from ..soak.traffic import Traffic
from ..waiting import eventually
from .doors import Server, serving
from .test_history import hour, is_ready, worker

RATE = 400  # events a second
BEFORE = 2_000  # events that are there before the first metric is created
HOUR_MS = 3_600_000
COUNT: dict[str, Any] = {
    "aggregation_type": "COUNT",
    "event_type_filter": {"in_values": ["use"]},
    "property_filters": [{"name": "k", "in_values": [str(each) for each in range(20)]}],
}
SUM: dict[str, Any] = {
    **COUNT,
    "aggregation_type": "SUM",
    "aggregation_key": "v",
    "property_filters": [{"name": "v"}],
}
KLAVIYO: dict[str, Any] = {
    "data": {
        "type": "custom-metric",
        "attributes": {
            "name": "by klaviyo",
            "definition": {
                "aggregation_method": "count",
                "metric_groups": [{"metric_id": "use", "metric_filters": []}],
            },
        },
    }
}
STATSIG: dict[str, Any] = {
    "name": "by statsig",
    "type": "event_count_custom",
    "unitTypes": ["userID"],
    "metricEvents": [{"name": "use", "criteria": []}],
}
PERIOD = {"starting_on": hour(-40).isoformat(), "ending_before": hour(30).isoformat()}


def definition(format_: str, body: Any) -> Definition:
    """The neutral definition of a body."""
    return parse(format_, json.dumps({"name": "any", **body} if "data" not in body else body))[1]


async def _records(recount: Recount) -> list[list[Record]]:
    names, found = topic_names(recount.deployment), []
    log = KafkaLog(recount.services.address, events=names["events"], rejected=names["rejected"])
    try:
        for number, span in (await log.spans()).items():
            records: list[Record] = []
            async for batch in log.read(number, span.start, span.end):
                records += [Record(item.offset, item.timestamp, item.value) for item in batch]
            found.append(records)
    finally:
        await log.close()
    return found


Table = dict[tuple[str | None, int], Decimal]


def recount_of(recount: Recount, metrics: dict[str, Definition]) -> dict[str, Table]:
    """Metric → (customer, hour) → its value, recounted from the log, where it is not 0."""
    found: dict[str, Table] = {name: defaultdict(Decimal) for name in metrics}
    for number, records in enumerate(asyncio.run(_records(recount))):
        books = recounted(records, metrics, TERMS, number)
        for (name, customer, bucket, set_, _), (answer, _) in answers(books, metrics).items():
            if set_ == 0 and answer is not None:
                found[name][customer, bucket * HOUR_MS] += Decimal(answer)
    return {
        name: {at: value for at, value in each.items() if value} for name, each in found.items()
    }


def together(table: Table) -> Table:
    """The same of all customers."""
    found: Table = defaultdict(Decimal)
    for (_, at_ms), value in table.items():
        found[None, at_ms] += value
    return dict(found)


def since(table: Table, from_ms: int) -> Table:
    """What lies in the hours from one on."""
    return {at: value for at, value in table.items() if at[1] >= from_ms}


def _at_ms(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp).timestamp() * 1000)


def usage(recount: Recount, metric: str, *options: str) -> Table:
    """What the command line tells of every hour, where it is not 0."""
    period = ("--starting-on", PERIOD["starting_on"], "--ending-before", PERIOD["ending_before"])
    lines = recount.run("usage", metric, *options, *period, "--window-size", "hour")[:-1]
    assert {line["history"] for line in lines} == {"complete"}
    return {
        (line.get("customer_id"), _at_ms(line["starting_on"])): Decimal(line["value"])
        for line in lines
        if line["value"] not in {None, "0"}
    }


class Doors:
    """The three systems, as their clients ask."""

    def __init__(self, server: Server) -> None:
        self.url = server.url
        self.keys = server.keys
        self.ids: dict[str, str] = {}

    def create(self, system: str) -> None:
        """Create the metric of a system."""
        if system == "metronome":
            body = {**COUNT, "name": "by metronome"}
            made = self._ask("post", "/v1/billable-metrics/create", json=body)
            self.ids[system] = made["data"]["id"]
        elif system == "klaviyo":
            self.ids[system] = self._ask("post", "/api/custom-metrics", json=KLAVIYO)["data"]["id"]
        else:
            self.ids[system] = self._ask("post", "/console/v1/metrics", json=STATSIG)["data"]["id"]

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.keys['manage']}", "revision": "2025-04-15"}
        answer = httpx.request(method, f"{self.url}{path}", headers=headers, timeout=60, **more)
        assert answer.is_success, answer.text
        return json.loads(answer.content, parse_float=Decimal)

    def metronome(self) -> Table:
        """Every hour of every customer."""
        asked = {"billable_metrics": [{"id": self.ids["metronome"]}], "window_size": "hour"}
        found: Table = {}
        more: dict[str, str] = {}
        while True:
            answer = self._ask("post", "/v1/usage", json={**asked, **PERIOD}, params=more)
            for row in answer["data"]:
                if row["value"]:
                    at = row["customer_id"], _at_ms(row["start_timestamp"])
                    found[at] = Decimal(row["value"])
            if answer["next_page"] is None:
                assert "history" not in answer["as_of"]
                return found
            more = {"next_page": answer["next_page"]}

    def klaviyo(self) -> Table:
        """Every hour of everybody."""
        attributes = {
            "metric_id": self.ids["klaviyo"],
            "measurements": ["count"],
            "interval": "hour",
            "filter": [
                f"greater-or-equal(datetime,{PERIOD['starting_on'][:19]})",
                f"less-than(datetime,{PERIOD['ending_before'][:19]})",
            ],
        }
        body = {"data": {"type": "metric-aggregate", "attributes": attributes}}
        told = self._ask("post", "/api/metric-aggregates", json=body)["data"]["attributes"]
        (row,) = told["data"]
        pairs = zip(told["dates"], row["measurements"]["count"], strict=True)
        return {(None, _at_ms(at)): Decimal(value) for at, value in pairs if value}

    def statsig(self, days: list[date]) -> Decimal:
        """The sum of some days, for everybody."""
        total = Decimal(0)
        for day in days:
            params = {"id": self.ids["statsig"], "date": day.isoformat()}
            rows = self._ask("get", "/console/v1/metrics", params=params)["data"]
            total += next(row["value"] for row in rows if row["unit_type"] == "overall")
        return total


def test_metrics_made_through_every_door_are_their_own_recount(
    recount: Recount, tmp_path: Path
) -> None:
    """By command with effective_from and without, and by the doors, while events come."""
    recount.run("init", "--partitions", "3")
    topic = topic_names(recount.deployment)["events"]
    stream = Traffic(recount.services.address, topic, partitions=3, seed=26, rate=RATE)
    starts = hour(-1)
    with serving(recount, tmp_path / "serve.log") as server, worker(recount):
        doors = Doors(server)
        stream.start()
        sent = BEFORE
        eventually(lambda: stream.sent > sent, within_s=60, because="events are there")
        options = ("--effective-from", starts.isoformat())
        made: list[Callable[[], Any]] = [
            lambda: recount.create({**SUM, "name": "whole"}),
            lambda: recount.create({**SUM, "name": "since"}, *options),
            lambda: doors.create("metronome"),
            lambda: doors.create("klaviyo"),
            lambda: doors.create("statsig"),
        ]
        for create in made:
            create()
            sent = stream.sent + RATE // 2
            eventually(
                lambda sent=sent: stream.sent > sent,  # type: ignore[misc]
                within_s=60,
                because="events come between two metrics",
            )
        stream.stop()
        for name in ("whole", "since", "by metronome", "by klaviyo", "by statsig"):
            eventually(
                lambda name=name: is_ready(recount, name),  # type: ignore[misc]
                within_s=60,
                because="its past is counted",
            )
        eventually(
            lambda: recount.run("status")[-1]["lag"] == 0, within_s=60, because="it catches up"
        )
        eventually(
            lambda: not any(line.get("stale") for line in recount.run("status")),
            within_s=60,
            because="what corrections reached is counted again",
        )
        bodies = {
            "sum": definition("metronome", SUM),
            "count": definition("metronome", COUNT),
            "klaviyo": definition("klaviyo", KLAVIYO),
            "statsig": definition("statsig", STATSIG),
        }
        due = recount_of(recount, bodies)
        assert usage(recount, "whole", "--each-customer") == due["sum"]
        from_ms = _at_ms(starts.isoformat())
        late = since(due["sum"], from_ms)
        assert since(usage(recount, "since", "--each-customer"), from_ms) == late
        assert 0 < len(late) < len(due["sum"])
        assert usage(recount, "by metronome", "--each-customer") == due["count"]
        assert doors.metronome() == due["count"]
        everybody = together(due["klaviyo"])
        assert doors.klaviyo() == everybody
        assert usage(recount, "by klaviyo") == everybody
        assert usage(recount, "by statsig") == together(due["statsig"])
        days = [hour(24 * number).date() for number in range(-2, 2)]
        assert doors.statsig(days) == sum(due["statsig"].values())
    assert recount.run("audit")[-1]["mismatches"] == 0
