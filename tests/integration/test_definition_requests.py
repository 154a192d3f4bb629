"""Definitions by a record alone: a program with nothing but a Kafka client, and a worker."""

import hashlib
import hmac
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from ..services import Recount
from ..waiting import eventually
from .doors import serving
from .test_control_key import SECRET, Sealed

pytestmark = pytest.mark.timeout(400)
COUNT = {
    "name": "calls",
    "aggregation_type": "count",
    "event_type_filter": {"in_values": ["call"]},
}
PERIOD = ("--starting-on", "2026-11-29T00:00:00Z", "--ending-before", "2026-11-30T00:00:00Z")


class Outside:
    """A program that knows the names of three topics, and Kafka's own client."""

    def __init__(self, recount: Recount) -> None:
        self.prefix = f"{recount.deployment}.metrics."
        servers = {"bootstrap.servers": recount.services.kafka}
        self._producer = Producer(servers)
        self._settings = {**servers, "group.id": "none", "enable.auto.commit": False}

    def ask(self, *requests: Any, headers: Any = None) -> None:
        """Send requests; durable at return."""
        for request in requests:
            raw = request if isinstance(request, bytes) else json.dumps(request).encode()
            self._producer.produce(f"{self.prefix}requests", raw, headers=headers)
        assert self._producer.flush(20) == 0

    def read(self, role: str) -> list[tuple[str, dict[str, Any]]]:
        """Every record of a topic, in order: key and value."""
        consumer = Consumer(self._settings)
        point = TopicPartition(f"{self.prefix}{role}", 0, OFFSET_BEGINNING)
        _, end = consumer.get_watermark_offsets(point, timeout=20)
        found: list[tuple[str, dict[str, Any]]] = []
        consumer.assign([point])
        while end and (not found or consumer.position([point])[0].offset < end):
            message = consumer.poll(5)
            assert message is not None, f"{role}: {len(found)} of {end}"
            assert message.error() is None
            found.append((message.key().decode(), json.loads(message.value())))
        consumer.close()
        return found

    def result(self, request_id: str, *, within_s: float = 90) -> dict[str, Any]:
        """The result of a request."""

        def there() -> dict[str, Any]:
            return dict(self.read("results")).get(request_id, {})

        return eventually(there, within_s=within_s, because=f"the result of {request_id}")

    def entry(self, metric_id: str) -> dict[str, Any]:
        """What the catalogue says last of a metric."""
        return dict(self.read("catalogue")).get(metric_id, {})


@contextmanager
def working(recount: Recount, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that runs meanwhile."""
    with log.open("ab") as output:
        process = recount.start("worker", stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def test_a_metric_lives_by_records_alone(recount: Recount, tmp_path: Path) -> None:
    """Create, rename, supersede and archive by records; events count, the catalogue tells."""
    recount.run("init", "--partitions", "2")
    outside = Outside(recount)
    event = {"customer_id": "c", "event_type": "call", "timestamp": "2026-11-29T01:00:00Z"}
    recount.publish([{**event, "transaction_id": f"t{n}", "properties": {}} for n in range(5)])
    with working(recount, tmp_path / "worker.log"):
        outside.ask({"op": "create", "format": "metronome", "body": COUNT, "request_id": "1"})
        made = outside.result("1")
        metric = made["metric"]["id"]

        def counted() -> bool:
            entry = outside.entry(metric)
            return entry.get("history") == "complete" and entry["status"] == "active"

        eventually(counted, within_s=90, because="the catalogue says that the past is counted")
        (usage, _) = recount.run("usage", "calls", "--customer", "c", *PERIOD)
        outside.ask(
            {"op": "rename", "metric": "calls", "name": "all", "request_id": "2"},
            {"op": "create", "format": "metronome", "body": {"name": "x"}, "request_id": "3"},
            b"not json",
            {
                "op": "supersede",
                "metric": "all",
                "format": "klaviyo",
                "request_id": "5",
                "body": klaviyo("all"),
            },
            {"op": "archive", "metric": "all", "request_id": "6"},
        )
        results = {name: outside.result(name) for name in ("2", "3", "0@3", "5", "6")}
        last = results["6"]["control_offset"]

        def told() -> bool:
            entries = [outside.entry(metric), outside.entry(results["5"]["metric"]["id"])]
            return all(entry.get("control_offset", 0) >= last for entry in entries[1:]) and all(
                entry.get("status") == "archived" for entry in entries
            )

        eventually(told, within_s=90, because="the catalogue follows")
        old, new = outside.entry(metric), outside.entry(results["5"]["metric"]["id"])

    assert made["status"] == "done"
    assert usage["value"] == "5"
    assert {name: each["status"] for name, each in results.items()} == {
        "2": "done",
        "3": "refused",
        "0@3": "refused",
        "5": "done",
        "6": "done",
    }
    assert results["3"]["problems"][0]["pointer"].startswith("/body")
    assert results["0@3"]["problems"][0]["rule"] == "JSON"
    assert old["native"] == {**COUNT, "name": "all"}
    assert (old["format"], old["named"], old["name"]) == ("metronome", False, "all")
    assert new["native"] == klaviyo("all")
    assert new["neutral"]["measures"]
    assert old["versions"][0]["effective_to"] == new["versions"][0]["effective_from"]
    listed = {line["id"]: line for line in recount.run("metrics", "list", "--all")}
    assert {old["id"]: old["version"], new["id"]: new["version"]} == {
        each: line["version"] for each, line in listed.items()
    }
    assert [key for key, _ in outside.read("results")] == ["1", "2", "3", "0@3", "5", "6"]


def klaviyo(name: str) -> dict[str, Any]:
    """A create body of Klaviyo's."""
    definition = {
        "aggregation_method": "count",
        "metric_groups": [
            {"metric_id": "Placed Order", "metric_filters": [], "value_property": None}
        ],
    }
    attributes = {"name": name, "definition": definition}
    return {"data": {"type": "custom-metric", "attributes": attributes}}


def test_a_server_takes_requests_where_no_worker_does(recount: Recount, tmp_path: Path) -> None:
    """With a server alone, requests have results within seconds, beside metrics of its doors."""
    recount.run("init", "--partitions", "1")
    outside = Outside(recount)
    with serving(recount, tmp_path / "server.log") as server:
        key = {"Authorization": f"Bearer {server.keys['manage']}"}
        names = [f"m{number}" for number in range(10)]
        for name in names:
            body = {**COUNT, "name": name}
            outside.ask({"op": "create", "format": "metronome", "body": body, "request_id": name})
            answer = httpx.post(
                f"{server.url}/v1/billable-metrics/create",
                json={**body, "name": f"{name} by HTTP"},
                headers=key,
                timeout=20,
            )
            assert answer.status_code == 200, answer.text
        done = [outside.result(name) for name in names]
        listed = httpx.get(f"{server.url}/v1/billable-metrics?limit=100", headers=key, timeout=20)

    assert [each["status"] for each in done] == ["done"] * 10
    shown = sorted(metric["name"] for metric in listed.json()["data"])
    assert shown == sorted([*names, *(f"{name} by HTTP" for name in names)])


def test_a_deployment_of_before_gets_the_topics_by_init(recount: Recount, tmp_path: Path) -> None:
    """A deployment without these topics runs as it did; `init` makes them, and does it once."""
    recount.run("init", "--partitions", "1")
    admin = AdminClient({"bootstrap.servers": recount.services.kafka})
    names = [
        f"{recount.deployment}.metrics.{role}" for role in ("requests", "results", "catalogue")
    ]
    for future in admin.delete_topics(names).values():
        future.result(20)

    def gone() -> bool:
        return not set(names) & set(admin.list_topics(timeout=10).topics)

    eventually(gone, within_s=20, because="the topics are deleted")
    recount.create(COUNT)
    recount.catch_up()
    recount.run("init")
    recount.run("init", "--partitions", "2")
    outside = Outside(recount)
    with working(recount, tmp_path / "worker.log"):
        outside.ask({"op": "rename", "metric": "calls", "name": "new", "request_id": "r"})
        assert outside.result("r")["status"] == "done"


def test_with_a_control_key_a_request_needs_a_seal(recount: Recount, tmp_path: Path) -> None:
    """A request that is not sealed, or sealed for another topic, or sent again, is refused."""
    sealed = Sealed(recount.services, recount.deployment)
    sealed.run("init", "--partitions", "1")
    outside = Outside(recount)

    def seal(topic: str, value: bytes) -> list[tuple[str, bytes]]:
        said = len(topic).to_bytes(8, "big") + topic.encode() + value
        made = hmac.new(SECRET.encode(), said, hashlib.sha256).hexdigest().encode()
        return [("recount-seal", made)]

    def create(number: int) -> bytes:
        body = {**COUNT, "name": f"m{number}"}
        request = {"op": "create", "format": "metronome", "body": body}
        return json.dumps({**request, "request_id": str(number)}).encode()

    topic = f"{recount.deployment}.metrics.requests"
    with working(sealed, tmp_path / "worker.log"):
        outside.ask(create(0))
        outside.ask(create(1), headers=seal(topic, create(1)))
        outside.ask(create(2), headers=seal(f"{topic}x", create(2)))
        assert [outside.result(str(n))["status"] for n in range(3)] == [
            "refused",
            "done",
            "refused",
        ]
        archive = json.dumps({"op": "archive", "metric": "m1", "request_id": "3"}).encode()
        outside.ask(archive, headers=seal(topic, archive))
        resume = json.dumps({"op": "resume", "metric": "m1", "request_id": "4"}).encode()
        outside.ask(resume, headers=seal(topic, resume))
        assert outside.result("4")["status"] == "done"
        outside.ask(archive, headers=seal(topic, archive))

        def again() -> dict[str, Any]:
            last = outside.read("results")[-1][1]
            return last if last["request_id"] == "3" else {}

        told = eventually(again, within_s=90, because="the result of the second one")

    assert told["status"] == "refused"
    assert told["problems"][0]["rule"] == "SEAL"
    assert [line["status"] for line in sealed.run("metrics", "list")] == ["active"]
