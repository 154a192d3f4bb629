"""A Kafka that asks for TLS, a login or a certificate: every command works, and is exact."""

import json
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from pipeline.edges.kafka import consumer, durable, producer, read_span, sending
from pipeline.edges.kafka_client import KafkaAddress, KafkaAdmin
from pipeline.edges.kafka_names import topic_names
from pipeline.errors import Halt, LogUnavailable, UsageError
from pipeline.settings import load_settings
from pipeline.stack.probe import kafka_answers
from pipeline.stack.processes import free_port

from ..secure import PASSWORD, SECURITY, SecureKafka, secure_kafka
from ..services import Recount, Services, fresh
from ..waiting import eventually
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
        sent = await sending(writer, topic, b"v", key=None, partition=0)
        offset = await durable(writer, topic, sent)
    assert offset == 0
    async with consumer(address) as reader:
        read = [each.value async for batch in read_span(reader, topic, 0, 0, 1) for each in batch]
    assert read == [b"v"]


WRONG = {
    "password": ("SASL_SSL", {"SASL_PASSWORD": "other"}, "refuses the login of 'meterer'"),
    "user": ("SASL_PLAINTEXT", {"SASL_USERNAME": "other"}, "refuses the login of 'other'"),
    "authority": ("SASL_SSL", {"SSL_CA_LOCATION": "stranger.pem"}, "certificate is not trusted"),
    "tls": ("SASL_PLAINTEXT", {"at": "SASL_SSL"}, "speaks TLS, and we do not: .* SASL_SSL"),
    "no tls": ("SASL_SSL", {"at": "SASL_PLAINTEXT"}, "does not speak TLS, .* SASL_PLAINTEXT"),
    "login": ("SSL", {"at": "SASL_SSL"}, "asks for a login .*SCRAM-SHA-512"),
    "no login": ("SASL_SSL", {"at": "SSL"}, "takes no login; .* SSL"),
    "no certificate": ("SSL", {"at": "MUTUAL"}, "asks for a certificate of ours"),
    "certificate": (
        "MUTUAL",
        {"SSL_CERTIFICATE_LOCATION": "other.pem", "SSL_KEY_LOCATION": "other.key"},
        "refuses our certificate",
    ),
    "name": ("SSL", {"host": "localhost.localdomain"}, "certificate is not for this name"),
}


@pytest.mark.parametrize("what", WRONG)
async def test_each_wrong_setting_has_its_sentence(
    broker: SecureKafka, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Address, cause and what to change, within five seconds; HALT: waiting mends nothing."""
    listener, changes, said = WRONG[what]
    given = broker.environment(listener, "SCRAM-SHA-512" if "SASL" in listener else None)
    host = changes.get("host", "127.0.0.1")
    if host != "127.0.0.1":
        monkeypatch.setattr(socket, "getaddrinfo", _loopback)
    given["RECOUNT_KAFKA"] = at = broker.at(changes.get("at", listener), host)
    for name, text in changes.items():
        path = broker.folder / text
        given[f"{SECURITY}{name}"] = str(path) if name.endswith("LOCATION") else text
    given = {name: text for name, text in given.items() if not name.endswith(("at", "host"))}
    for name, text in given.items():
        monkeypatch.setenv(name, text)

    began = time.monotonic()
    with pytest.raises(Halt, match=f"Kafka at {at}: .*{said}"):
        await KafkaAdmin(load_settings().address).describe(["any"])
    assert time.monotonic() - began < 5


def _loopback(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
    """Every name is this machine."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


async def test_a_broker_that_is_away_frozen_or_beyond_a_firewall(broker: SecureKafka) -> None:
    """Each has its sentence within five seconds; trying again may help, so it is no HALT."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        beyond = f"127.0.0.1:{full.getsockname()[1]}"
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:  # the queue is full: further requests are dropped, as a firewall does
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        away, frozen = f"127.0.0.1:{free_port()}", broker.at("PLAINTEXT")
        assert broker.process is not None
        broker.process.send_signal(signal.SIGSTOP)
        try:
            for place, said in (
                (away, "nothing listens there"),
                (frozen, "does not answer as Kafka does"),
                (beyond, "the host does not answer"),
                ("no.such.invalid:9092", "no host has the name 'no.such.invalid'"),
                (f"{away},{beyond}", f"{away}: nothing .*; Kafka at {beyond}: the host"),
            ):
                began = time.monotonic()
                with pytest.raises(LogUnavailable, match=said):
                    await KafkaAdmin(KafkaAddress(place, {})).describe(["any"])
                assert time.monotonic() - began < 5, place
        finally:
            broker.process.send_signal(signal.SIGCONT)
            for each in waiting:
                each.close()


@pytest.mark.parametrize("there", ["nothing listens there", "does not answer as Kafka does"])
async def test_a_server_that_leads_nowhere(broker: SecureKafka, there: str) -> None:
    """It answers, and gives an address of its broker at which no Kafka is: that one is named."""
    place, plain = broker.at("ASTRAY"), broker.at("PLAINTEXT")
    # One that was frozen is no part of its cluster for some seconds, and gives no address then.
    eventually(lambda: kafka_answers(plain), within_s=60, because="the broker is back")
    if there == "does not answer as Kafka does":
        broker.nowhere.listen(8)  # it takes connections, and says nothing
    try:
        began = time.monotonic()
        with pytest.raises(LogUnavailable) as told:
            await KafkaAdmin(KafkaAddress(place, {})).describe(["any"])
        assert time.monotonic() - began < 5
    finally:
        with suppress(OSError):  # that it was not listening
            broker.nowhere.shutdown(socket.SHUT_RDWR)
    assert f"Kafka at {place}: it answers" in str(told.value)
    assert f"advertised.listeners) are not reached from here: 127.0.0.1:{broker.astray}" in str(
        told.value
    )
    assert there in str(told.value)


async def test_a_silent_server_delays_nobody(broker: SecureKafka) -> None:
    """The rest of the bootstrap list is used at once, by both clients."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)  # it takes connections, and says nothing
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        address = KafkaAddress(f"{place}, {broker.at('PLAINTEXT')},", {})

        began = time.monotonic()
        await KafkaAdmin(address).describe(["any"])
        async with consumer(address), producer(address):
            pass
        assert time.monotonic() - began < 3


def test_a_list_that_is_none_is_refused(broker: SecureKafka) -> None:
    """Exit 2 for what is no address."""
    for wrong in ("", " , ", "host:port", "host:0"):
        with pytest.raises(UsageError, match="RECOUNT_KAFKA"):
            KafkaAddress(wrong, {}).rdkafka()


def test_exit_codes(stack: Services, broker: SecureKafka) -> None:
    """Away is 4, a wrong password 5 for a command and for a supervisor; one line each, in time."""
    good = broker.environment("SASL_SSL", "PLAIN")
    away = {**good, "RECOUNT_KAFKA": f"127.0.0.1:{free_port()}"}
    wrong = {**good, f"{SECURITY}SASL_PASSWORD": "other"}
    for arguments, more, exits, said in (
        (("status",), away, 4, b"nothing listens there"),
        (("status",), wrong, 5, b"refuses the login"),
        (("init",), wrong, 5, b"refuses the login"),
        (("worker",), wrong, 5, b"refuses the login"),
        (("serve", "--port", str(free_port())), wrong, 5, b"refuses the login"),
    ):
        done = Secured(stack, fresh("exit"), more).ended(*arguments, within_s=20)
        assert done.returncode == exits, (arguments, done.stderr)
        assert said in done.stderr
        told = [line for line in done.stderr.splitlines() if b" info    start " not in line]
        assert len(told) == 1, done.stderr


def test_what_an_authorizer_forbids(stack: Services, broker: SecureKafka) -> None:
    """HALT with user, right and thing, before anything is counted or sent."""
    recount = Secured(stack, fresh("rights"), broker.environment("SASL_PLAINTEXT", "PLAIN"))
    recount.run("init", "--partitions", "1")
    topics = topic_names(recount.deployment)
    for kind, name, right, arguments, said in (
        (ResourceType.TOPIC, topics["control"], "DESCRIBE", ("status",), "to DESCRIBE topic"),
        (ResourceType.TOPIC, topics["events"], "READ", ("worker",), "to READ topic"),
        (ResourceType.TOPIC, topics["rejected"], "WRITE", ("worker",), "to WRITE topic"),
        (ResourceType.GROUP, f"{recount.deployment}.recount", "READ", ("worker",), "READ group"),
        (ResourceType.TOPIC, topics["events"], "WRITE", ("publish", "-"), "TopicAuthorization"),
    ):
        line = json.dumps(events(1)[0]).encode() + b"\n"
        with broker.forbidden(kind, name, AclOperation[right]):
            done = recount.ended(*arguments, stdin=line, within_s=60)
        told = done.stderr.decode()
        assert done.returncode == 5, (name, right, told)
        assert said in told
        assert name in told
        assert "Rights on Kafka" in told
    recount.publish(events(5))
    recount.catch_up()
    assert recount.run("status")[-1]["consumed"] == 6


@pytest.mark.parametrize(
    ("role", "right"),
    [
        ("events", "READ"),
        ("rejected", "WRITE"),
        ("control", "READ"),
        ("control", "DESCRIBE"),
        ("group", "READ"),
    ],
)
def test_a_right_that_is_taken_away(
    stack: Services, broker: SecureKafka, tmp_path: Path, role: str, right: str
) -> None:
    """HALT of the worker that runs, with what is missing; nothing more is counted."""
    recount = Secured(stack, fresh("taken"), broker.environment("SASL_PLAINTEXT", "PLAIN"))
    recount.run("init", "--partitions", "1")
    names = {**topic_names(recount.deployment), "group": f"{recount.deployment}.recount"}
    kind = ResourceType.GROUP if role == "group" else ResourceType.TOPIC
    with (tmp_path / "log").open("ab") as output:
        worker = recount.start("worker", stdin=subprocess.DEVNULL, stderr=output)
    try:
        recount.publish(events(5))
        eventually(
            lambda: recount.run("status")[-1]["consumed"] == 6, within_s=60, because="it works"
        )
        with broker.forbidden(kind, names[role], AclOperation[right]):
            assert worker.wait(40) == 5
    finally:
        worker.kill()
    told = (tmp_path / "log").read_text()
    assert names[role] in told
    assert "Rights on Kafka" in told
    assert "Traceback" not in told
