"""Real Kafka and Redis for tests and runners, and the shipped command as a user runs it."""

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.edges.kafka_client import KafkaAddress
from pipeline.edges.kafka_security import variable
from pipeline.stack import local
from pipeline.stack.probe import kafka_answers, redis_answers
from pipeline.stack.processes import free_port

from .forked import ended

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Services:
    """Where Kafka and Redis answer. login: to Kafka, in librdkafka's names."""

    kafka: str
    redis: str
    login: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> KafkaAddress:
        """Kafka, as clients of ours know it."""
        return KafkaAddress(self.kafka, self.login)


@contextmanager
def services(folder: Path | None = None) -> Iterator[Services]:
    """Yield the configured services where they answer, else native ones that end with us."""
    kafka, redis = os.environ.get("RECOUNT_KAFKA"), os.environ.get("RECOUNT_REDIS")
    if kafka and redis and kafka_answers(kafka) and redis_answers(redis):
        yield Services(kafka, redis)
        return
    with (
        tempfile.TemporaryDirectory(prefix="recount-") as made,
        local.running(
            folder or Path(made), kafka_port=free_port(), redis_port=free_port()
        ) as addresses,
    ):
        yield Services(addresses["kafka"], addresses["redis"])


@dataclass(frozen=True)
class Recount:
    """The `recount` command against one deployment."""

    services: Services
    deployment: str

    @property
    def environment(self) -> dict[str, str]:
        """What the command's processes see."""
        own = {
            "RECOUNT_KAFKA": self.services.kafka,
            "RECOUNT_REDIS": self.services.redis,
            "RECOUNT_DEPLOYMENT": self.deployment,
            **{variable(name): text for name, text in self.services.login.items()},
            # On a busy machine Kafka is slow, not away: what is tested is how it answers.
            "RECOUNT_KAFKA_WAIT_MS": "20000",
        }
        kept = {name: text for name, text in os.environ.items() if not name.startswith("RECOUNT_")}
        return {**kept, **own}

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Start the command and return its process."""
        command = [sys.executable, "-m", "pipeline", *arguments]
        environment = {**self.environment, **options.pop("more", {})}
        return subprocess.Popen(command, env=environment, cwd=options.pop("cwd", ROOT), **options)

    def run(
        self, *arguments: str, exits: int = 0, stdin: bytes = b"", within_s: float = 100
    ) -> list[Any]:
        """Run the command to its end and return its JSON lines; assert its exit code."""
        done = self.ended(*arguments, stdin=stdin, within_s=within_s)
        assert done.returncode == exits, (
            f"recount {' '.join(arguments)}: exit {done.returncode}, not {exits}\n"
            f"{done.stdout.decode()[-2000:]}\n{done.stderr.decode()[-4000:]}"
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def ended(
        self, *arguments: str, stdin: bytes = b"", within_s: float = 100
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run the command to its end, whatever that is."""
        return ended(arguments, environment=self.environment, stdin=stdin, within_s=within_s)

    def create(self, body: dict[str, Any], *options: str) -> str:
        """Create a Metronome metric and return its id."""
        text = json.dumps(body).encode()
        lines = self.run("metrics", "create", "--format", "metronome", "-", *options, stdin=text)
        return str(lines[0]["id"])

    def publish(self, events: Sequence[dict[str, Any] | bytes], *options: str) -> None:
        """Publish events; bytes go out as they are."""
        lines = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in events]
        text = b"".join(line + b"\n" for line in lines)
        sent = self.run("publish", "-", "--send-anyway", *options, stdin=text)
        assert [line["published"] for line in sent] == [len(lines)]

    def catch_up(self, *options: str) -> None:
        """Run a worker to the end of the log."""
        self.run("worker", "--until-caught-up", *options)


def fresh(name: str) -> str:
    """Return a deployment name that nobody has used."""
    return f"{name}-{uuid.uuid4().hex[:8]}"
