"""A Kafka that asks for TLS, a login or a certificate: every command works, and is exact."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.edges.kafka import consumer, durable, producer, read_span, sending
from pipeline.edges.kafka_client import KafkaAdmin
from pipeline.settings import load_settings
from pipeline.stack.processes import free_port

from ..secure import PASSWORD, SECURITY, SecureKafka, secure_kafka
from ..services import Recount, Services, fresh
from .doors import serving

pytestmark = pytest.mark.timeout(240)
CALLS = {
    "name": "calls",
    "aggregation_type": "COUNT",
    "event_type_filter": {"in_values": ["call"]},
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """One broker with every kind of listener."""
    with secure_kafka(tmp_path_factory.mktemp("secure")) as made:
        yield made


@dataclass(frozen=True)
class Secured(Recount):
    """The command with the variables of a login. folder: where its processes run."""

    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What the command's processes see."""
        return {**super().environment, **self.more}


def events(count: int) -> list[dict[str, Any] | bytes]:
    """Events of seven customers, with one that no worker can read."""
    now = datetime.now(UTC).isoformat()  # noqa: TID251  an event of now
    made: list[dict[str, Any] | bytes] = [
        {
            "transaction_id": uuid.uuid4().hex,
            "customer_id": f"c{number % 7}",
            "event_type": "call",
            "timestamp": now,
        }
        for number in range(count)
    ]
    return [*made, b"no event"]


def used(recount: Recount, metric: str) -> int:
    """What all customers used together."""
    period = ("--starting-on", "2020-01-01T00:00:00Z", "--ending-before", "2100-01-01T00:00:00Z")
    lines = recount.run("usage", metric, "--each-customer", *period)
    return sum(int(line["value"]) for line in lines if "value" in line)


def test_every_command_over_a_login_and_tls(
    stack: Services, broker: SecureKafka, tmp_path: Path
) -> None:
    """SASL_SSL with SCRAM, the password in a file, the first two bootstrap servers down.

    This broker knows no other way in at this address, so a client that any process opened
    without the login would end its command.
    """
    more = broker.environment("SASL_SSL", "SCRAM-SHA-512")
    (tmp_path / "word").write_text(more.pop(f"{SECURITY}SASL_PASSWORD") + "\n")
    more[f"{SECURITY}SASL_PASSWORD_FILE"] = str(tmp_path / "word")
    down = f"127.0.0.1:{free_port()},localhost:{free_port()}"
    more["RECOUNT_KAFKA"] = f"{down},{broker.at('SASL_SSL', 'localhost')}"
    recount = Secured(stack, fresh("secure"), more)
    sent = events(300)

    recount.run("init", "--partitions", "2")
    metric = recount.create(CALLS)
    recount.publish(sent)
    recount.catch_up("--processes", "2")
    assert used(recount, metric) == 300
    first = sent[0]
    assert isinstance(first, dict)
    assert first["transaction_id"] in json.dumps(
        recount.run("explain", str(first["transaction_id"]))
    )
    assert len(recount.run("rejected", "list")) == 1
    recount.run("rejected", "redrive")
    assert recount.run("status")[-1]["balanced"]
    with serving(recount, tmp_path / "log") as server:
        answer = httpx.post(
            f"{server.url}/v1/ingest",
            json=events(20)[:-1],
            headers={"Authorization": f"Bearer {server.keys['ingest']}"},
        )
        assert answer.status_code == 200, answer.text
    recount.run("rebuild")
    recount.catch_up()
    assert used(recount, metric) == 320
    audit = recount.run("audit")[-1]
    assert (audit["mismatches"], audit["events"]) == (0, 321)
    settings = recount.ended("settings")
    assert PASSWORD.encode() not in settings.stdout + settings.stderr


def test_a_worker_with_a_certificate(stack: Services, broker: SecureKafka) -> None:
    """Mutual TLS: the listener asks for a certificate, the key has a password."""
    recount = Secured(stack, fresh("mutual"), broker.environment("MUTUAL"))

    recount.run("init", "--partitions", "1")
    recount.create(CALLS)
    recount.publish(events(50))
    recount.catch_up()

    audit = recount.run("audit")[-1]
    assert (audit["mismatches"], audit["events"]) == (0, 51)


@pytest.mark.parametrize(
    ("listener", "mechanism"),
    [
        ("SSL", None),
        ("MUTUAL", None),
        *(
            (listener, mechanism)
            for listener in ("SASL_PLAINTEXT", "SASL_SSL")
            for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
        ),
    ],
)
async def test_both_clients_over_every_listener(
    broker: SecureKafka, monkeypatch: pytest.MonkeyPatch, listener: str, mechanism: str | None
) -> None:
    """A topic is made by one client, written and read by the other."""
    for name, text in broker.environment(listener, mechanism).items():
        monkeypatch.setenv(name, text)
    address, topic = load_settings().address, fresh("over")

    await KafkaAdmin(address).create(topic, partitions=1, replication=1, config={})
    async with producer(address) as writer:
        offset = await durable(await sending(writer, topic, b"v", key=None, partition=0))
    assert offset == 0
    async with consumer(address) as reader:
        read = [each.value async for batch in read_span(reader, topic, 0, 0, 1) for each in batch]
    assert read == [b"v"]
