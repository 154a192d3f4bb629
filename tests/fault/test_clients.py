"""Every client that the processes of every command open: all encrypted, all logged in."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import redis
from typer.core import TyperGroup

from pipeline.cli import COMMANDS, loaded
from pipeline.stack.processes import free_port

from ..connects import NEEDS_COMPILER, Connects
from ..integration.doors import serving
from ..roles import AUTHENTICATED, EVENTS, METRIC
from ..services import Recount, Services
from .sealed import Sealed, sealed

DEPLOYMENT = "sealed"
PERIOD = ("--starting-on", "2026-11-29T00:00:00Z", "--ending-before", "2026-11-30T00:00:00Z")
BOTH, KAFKA, NONE = {"kafka", "redis"}, {"kafka"}, set[str]()
OF_NONE = ("settings", "size", "stack status", "stack down", "metrics check")
OF_KAFKA = (
    *("publish", "rejected list", "rejected redrive", "metrics create", "metrics update"),
    *("keys create", "keys list", "keys revoke", "period list", "period show", "ingest"),
    "control export",
)
# They read the copy of the control log in Redis too, where Kafka takes a moment (deploy/spare.py).
OF_SPARE = ("period list", "period show")
HOUR = "2026-11-29T01"
BODY = json.dumps(METRIC).encode()
OTHER = json.dumps({**METRIC, "name": "other"}).encode()
LINES = b"".join(json.dumps(event).encode() + b"\n" for event in EVENTS) + b"no event\n"

pytestmark = [NEEDS_COMPILER, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    """One Kafka and one Redis for the tests of this file."""
    with sealed(tmp_path_factory.mktemp("sealed"), DEPLOYMENT) as made:
        yield made


@pytest.fixture
def connects(tmp_path: Path) -> Connects:
    """What the processes of a test connect to."""
    return Connects(tmp_path)


@dataclass(frozen=True)
class Watched(Recount):
    """The command with nothing but these variables; its connections are written down."""

    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What the command's processes see."""
        plain = ("RECOUNT_KAFKA", "RECOUNT_REDIS", "RECOUNT_DEPLOYMENT")
        kept = {name: text for name, text in super().environment.items() if name not in plain}
        return {**kept, **self.more}


@dataclass
class Ledger:
    """Runs commands, and notes which services each of them reached. seen: by command."""

    services: Sealed
    connects: Connects
    seen: dict[str, set[str]] = field(default_factory=dict)

    def by(self, role: str, **more: str) -> Watched:
        """The command by a user of Redis with just the rights of a role."""
        variables = {**self.services.environment(role), **self.connects.environment, **more}
        return Watched(Services("", ""), DEPLOYMENT, variables)

    def run(
        self, role: str, command: str, *arguments: str, stdin: bytes = b"", exits: int = 0
    ) -> str:
        """Run a command to its end, and note where it went; return what it said."""
        done = self.by(role).ended(*command.split(), *arguments, stdin=stdin, within_s=300)
        assert done.returncode == exits, (command, done.stdout[-1000:], done.stderr[-3000:])
        self.note(command)
        return done.stdout.decode()

    def note(self, command: str) -> None:
        """Note where the processes of a command went since the last note."""
        taken = self.connects.taken()
        elsewhere = set(taken) - set(self.services.places)
        assert not elsewhere, f"recount {command} also connects to {elsewhere}"
        sys.stderr.write(f"recount {command}: {self.told(taken)}\n")
        self.seen.setdefault(command, set()).update(self.services.places[at] for at in taken)

    def told(self, taken: Mapping[str, int]) -> str:
        """How many connections to which service."""
        named = (f"{self.services.places[at]} {count}" for at, count in sorted(taken.items()))
        return ", ".join(named) or "none"


def commands() -> set[str]:
    """Every command of the command line, those of groups with their group."""
    found = set()
    for name in COMMANDS:
        command = loaded(name)
        if isinstance(command, TyperGroup):
            found |= {f"{name} {each}" for each in command.commands}
        else:
            found.add(name)
    return found


def served(ledger: Ledger, keys: dict[str, str], log: Path) -> None:
    """Run a server, ask it to take an event and for usage, and note where it went."""
    as_server = ledger.by("server", RECOUNT_KEY_REQUESTS_PER_S_MAX="1000")
    with serving(as_server, log, keys) as server:
        period = {"starting_on": PERIOD[1], "ending_before": PERIOD[3]}
        for role, path, body in (
            ("ingest", "/v1/ingest", [{**EVENTS[0], "transaction_id": "by a door"}]),
            ("read", "/v1/usage", {**period, "window_size": "none"}),
        ):
            answer = httpx.post(
                f"{server.url}{path}",
                json=body,
                headers={"Authorization": f"Bearer {keys[role]}"},
                timeout=20,
            )
            assert answer.status_code == 200, answer.text
    ledger.note("serve")


def without_services(run: Callable[..., str], folder: tuple[str, str]) -> None:
    """Run what needs no service."""
    run("worker", "stack status", *folder, exits=4)
    run("worker", "stack down", *folder)
    run("reader", "settings")
    run("reader", "size", "--events-per-second", "100")


def backed_up(run: Callable[..., str], path: str) -> None:
    """Write the control log to a file, and try to bring it back."""
    run("reader", "control export", "--output", path)
    run("worker", "control import", path, exits=2)  # the topic is not empty


def test_every_command_opens_secure_connections_alone(
    services: Sealed, connects: Connects, tmp_path: Path
) -> None:
    """Each client of each process goes to the secure port, begins with TLS, and logs in.

    What opens it does not matter: Python, librdkafka, a child. No command is left out.
    """
    ledger = Ledger(services, connects)
    run = ledger.run
    folder = ("--dir", str(tmp_path / "stack"))
    periods = ("--to", str(tmp_path / "periods"))

    # This role may not use PING: Redis notes that, and answers all the same.
    assert json.loads(run("worker", "stack up", *folder))["kind"] == "external"
    before = services.strangers()
    without_services(run, folder)
    run("init", "init", "--partitions", "2")
    made = run("reader", "metrics create", "--format", "metronome", "-", stdin=BODY)
    metric = str(json.loads(made)["id"])
    run("reader", "metrics create", "--format", "metronome", "-", stdin=OTHER)
    run("reader", "publish", "-", "--send-anyway", stdin=LINES)
    source = services.hosted.deployment + ".metrics.results"  # any topic that is there
    run("reader", "ingest", "--from", source, "--until-caught-up")
    run("worker", "worker", "--until-caught-up", "--processes", "2")
    said = json.loads(run("reader", "usage", metric, "--customer", "c1", *PERIOD).splitlines()[0])
    assert said["value"] == str(sum(range(1, 100, 5)))
    run("reader", "events of", metric, "--customer", "c1", *PERIOD)
    run("reader", "events search", "--customer", "c1", *PERIOD)
    run("reader", "period close", HOUR, "--grace", "1m", *periods)
    for command in ("period show", "period verify", "period revise"):
        run("reader", command, HOUR, *periods)
    run("reader", "status")
    run("worker", "doctor", exits=1)  # there is no worker now
    run("reader", "explain", "t1", "--customer", "c1")
    for command, more in (("amend", ("--properties", '{"n": 3}')), ("void", ())):
        run("reader", command, "t1", "--customer", "c1", "--revise", *more)
    assert json.loads(run("reader", "rejected list"))["reason"] == "not_json"
    for command in ("rejected redrive", "metrics list", "keys list", "period list"):
        run("reader", command)
    run("reader", "metrics show", metric)
    run("reader", "metrics check", "-", "--format", "metronome", stdin=OTHER)
    run("reader", "metrics try", "-", "--format", "metronome", *PERIOD, stdin=OTHER)
    run("reader", "metrics update", metric, "-", stdin=BODY)
    run("reader", "metrics rename", metric, "renamed")
    run("reader", "metrics replace", metric, "other")
    run("reader", "metrics archive", metric)
    keys = {}
    for role in ("ingest", "read"):
        key = json.loads(run("reader", "keys create", "--name", role, "--role", role))
        keys[role] = str(key["key"])
    served(ledger, keys, tmp_path / "log")
    run("reader", "keys revoke", str(key["id"]))
    backed_up(run, str(tmp_path / "control.jsonl"))
    run("rebuild", "rebuild", "--processes", "2")
    audit = json.loads(run("audit", "audit", "--processes", "2").splitlines()[-1])

    assert (audit["mismatches"], audit["events"]) == (0, len(EVENTS) + 4)
    assert set(ledger.seen) == commands() - {"demo"}
    alone = {name: went for name, went in ledger.seen.items() if went != BOTH}
    waited = {name for name in OF_SPARE if ledger.seen[name] == BOTH}
    assert alone == dict.fromkeys(OF_NONE, NONE) | dict.fromkeys({*OF_KAFKA} - waited, KAFKA)
    assert services.strangers() == before


@pytest.mark.long
def test_the_demo_opens_secure_connections_alone(services: Sealed, connects: Connects) -> None:
    """It uses the services that are configured, and so does every command that it runs."""
    before = services.strangers()
    ledger = Ledger(services, connects)
    assert "matches recount: yes" in ledger.run("admin", "demo")
    assert ledger.seen["demo"] == BOTH
    assert services.strangers() == before


OPENS = """
import socket
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
with socket.socket() as made:
    made.connect_ex(("127.0.0.1", {ours}))
try:
    client = AdminClient({{"bootstrap.servers": "127.0.0.1:{theirs}", "log_level": 0}})
    client.list_topics(timeout=1)
except KafkaException:
    pass
"""


def test_whatever_is_not_secure_is_seen(services: Sealed, connects: Connects) -> None:
    """A connection elsewhere, one without TLS, one without a login, one with a wrong one."""
    ours, theirs = free_port(), free_port()
    program = OPENS.format(ours=ours, theirs=theirs)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **connects.environment},
        timeout=30,
        check=False,
    )
    assert done.returncode == 0
    assert set(connects.taken()) >= {f"127.0.0.1:{ours}", f"127.0.0.1:{theirs}"}

    before = services.strangers()
    for proxy in (services.kafka, services.redis):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as plain:
            plain.sendall(b"PING\r\n")
            with suppress(OSError):
                plain.recv(1)
    bare = services.hosted.url("").replace(f":{AUTHENTICATED}@", "")
    with redis.Redis.from_url(bare) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    wrong = services.environment("reader", password="not this")  # noqa: S106  a test's
    refused = Watched(Services("", ""), DEPLOYMENT, wrong).ended("status")

    assert refused.returncode == 5, refused.stderr
    told = "\n".join(each for each in services.strangers() if each not in before)
    for said in (
        "kafka: . began with byte 80",
        "redis: . began with byte 80",
        r"kafka: \d+ were shown out",
        "redis: errorstat_NOAUTH",
    ):
        assert re.search(said, told), (said, told)
