"""A Redis and a Kafka of one test: to kill, to freeze, to damage, to start again."""

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from pipeline.stack.probe import kafka_answers, redis_answers
from pipeline.stack.processes import Ports, Quorum, free_port, kafka_command, redis_command

from ..secure import login_lines
from ..waiting import eventually
from .proxy import Proxy


@dataclass
class _Process:
    """A service that a test starts, damages and ends."""

    folder: Path
    process: "subprocess.Popen[bytes] | None" = None

    def _run(self, command: list[str], log: str) -> None:
        with (self.folder / log).open("ab") as output:
            # Signals stay as Python has them: a file over its limit is an error, not a death.
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, restore_signals=False
            )

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def pause(self) -> None:
        """Freeze."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Thaw."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def terminate(self) -> None:
        """End cleanly."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(40)


@dataclass
class OwnRedis(_Process):
    """A Redis of one test. options: of redis-server, over those of the local stack.

    binary: another server than that of the local stack.
    """

    port: int = field(default_factory=free_port)
    options: tuple[str, ...] = ()
    other_url: str = ""
    binary: str = ""

    @property
    def url(self) -> str:
        """Its address; other_url: that of one whose options let nobody in otherwise."""
        return self.other_url or f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> Any:
        """A plain client; redis-py types its answers by a setting that no type shows."""
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        """Start on the same files, again if it gives up, as a supervisor would.

        Redis 7.0 ends at once where an append-only file that is not the last one was torn; it has
        repaired the file by then.
        """
        command = redis_command(self.folder, Ports(kafka=0, controller=0, redis=self.port))
        if self.binary:
            command[0] = self.binary

        def answers() -> bool:
            if self.process is None or self.process.poll() is not None:
                self._run([*command, *self.options], "redis.log")
            return redis_answers(self.url)

        eventually(answers, within_s=20, because="Redis answers")

    def limit_files(self, size: int) -> None:
        """Let no file grow past a size: a full disk; -1 is no limit."""
        assert self.process is not None
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, -1))

    def last_aof(self) -> Path:
        """The append-only file that is written to."""
        data = self.folder / "redis"
        found = [*data.rglob("*.incr.aof"), *data.glob("appendonly.aof")]
        return max(found, key=lambda path: path.stat().st_mtime)


@dataclass
class OwnKafka(_Process):
    """A broker of one test, with a second listener behind a proxy.

    quorum: its place among others. certificates: the folder where they lie; then clients log in
    over TLS, at `address` and behind the proxy. outside: an address of this machine that other
    hosts reach; then it answers there as well.
    """

    port: int = field(default_factory=free_port)
    controller: int = field(default_factory=free_port)
    hidden: int = field(default_factory=free_port)
    secure: int = field(default_factory=free_port)
    quorum: Quorum | None = None
    certificates: Path | None = None
    outside: str = ""
    proxy: Proxy = field(init=False)

    def __post_init__(self) -> None:
        self.proxy = Proxy(self.hidden)

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"127.0.0.1:{self.secure}" if self.certificates else self.plain

    @property
    def plain(self) -> str:
        """Where it answers without a login."""
        return f"127.0.0.1:{self.port}"

    @property
    def proxied(self) -> str:
        """Where it answers behind the proxy: what it advertises there is the proxy's port."""
        return f"127.0.0.1:{self.proxy.port}"

    def begin(self) -> list[str]:
        """Start on the same files, and do not wait; return how it was started."""
        ports = Ports(kafka=self.port, controller=self.controller, redis=0)
        command = kafka_command(self.folder, ports, self.quorum)
        config = self.folder / "kafka.properties"
        lines = dict(line.split("=", 1) for line in config.read_text().splitlines())
        more = {"PROXIED": (self.hidden, self.proxied)}
        if self.certificates is not None:
            more["SECURE"] = (self.secure, self.address)
            lines |= login_lines(self.certificates, list(more))
        protocol = "PLAINTEXT" if self.certificates is None else "SASL_SSL"
        if self.outside:
            more["OUTSIDE"] = (self.secure, f"{self.outside}:{self.secure}")
        for name, (port, advertised) in more.items():
            bound = self.outside if name == "OUTSIDE" else "127.0.0.1"
            lines["listeners"] += f",{name}://{bound}:{port}"
            lines["advertised.listeners"] += f",{name}://{advertised}"
            lines["listener.security.protocol.map"] += f",{name}:{protocol}"
        lines["inter.broker.listener.name"] = "PLAINTEXT"
        config.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        self._run(command, "kafka.log")
        return command

    def start(self) -> None:
        """Start on the same files; of several, enough others run."""
        self.wait(self.begin())

    def wait(self, command: list[str]) -> None:
        """Wait until it answers; start it again where another process had a port of it."""

        def answers() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                self._run(command, "kafka.log")
            return kafka_answers(self.plain)

        eventually(answers, within_s=120, because="Kafka answers")


@contextmanager
def own_redis(folder: Path, *options: str, url: str = "", binary: str = "") -> Iterator[OwnRedis]:
    """A Redis that ends with the block. url: where it answers, if the options move it."""
    made = OwnRedis(folder, options=options, other_url=url, binary=binary)
    made.start()
    try:
        yield made
    finally:
        made.kill()


@contextmanager
def own_kafka(folder: Path, outside: str = "") -> Iterator[OwnKafka]:
    """A broker that ends with the block."""
    made = OwnKafka(folder, outside=outside)
    made.start()
    try:
        yield made
    finally:
        made.kill()
        made.proxy.close()
