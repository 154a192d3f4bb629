"""Workers on two hosts, 20 ms from Kafka and Redis; one host is cut off and comes back."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka.admin import AdminClient

from ..services import Recount, Services
from ..waiting import eventually
from .harness import Workers
from .hosts import NEEDS_HOSTS, Host, Hosts, Packet, two_hosts
from .own import own_kafka, own_redis
from .proxy import is_commit
from .stage import Scene
from .watch import Watch

pytestmark = NEEDS_HOSTS
PARTITIONS: Final = 4
DELAY_S: Final = 0.02  # each way
SESSION_S: Final = 6.0  # as shipped
BUSY_S: Final = 15.0  # what a busy machine may add
RETURNS_S_MAX: Final = 60.0  # until a host that is back has its share again
_REFUSED: Final = b"$7\r\nrefused\r\n"


def called(packet: Packet) -> str:
    """What a packet is to these tests."""
    if is_commit(packet.payload):
        return f"commit from {packet.source}"
    return f"refusal to {packet.target}" if _REFUSED in packet.payload else ""


@dataclass(kw_only=True)
class Wide(Scene):
    """A deployment whose workers run on two hosts. here: the second one's workers."""

    hosts: Hosts
    far: Workers
    redis_port: int
    admin: AdminClient

    def owned(self) -> dict[str, set[int]]:
        """Which partitions each host owns, as the group's coordinator knows it."""
        group = f"{self.recount.deployment}.recount"
        found = self.admin.describe_consumer_groups([group])[group].result()
        owned: dict[str, set[int]] = {}
        for member in found.members:
            points = member.assignment.topic_partitions if member.assignment else ()
            host = member.host.lstrip("/")
            owned.setdefault(host, set()).update(each.partition for each in points)
        return owned

    def shared(self) -> None:
        """Wait until each host owns half of the partitions."""
        hosts = self.hosts
        wanted = {hosts.near.address: 2, hosts.far.address: 2}
        eventually(
            lambda: {host: len(owned) for host, owned in self.owned().items()} == wanted,
            within_s=RETURNS_S_MAX,
            because="both hosts own half of the partitions",
        )

    def leave_a_commit_under_way(self) -> None:
        """Lose what the near host sends to Redis, until a commit is among it."""
        near, wire = self.hosts.near, self.hosts.wire
        wire.loses = lambda packet: (
            packet.source == near.address and packet.target_port == self.redis_port
        )
        self.publish()
        eventually(
            lambda: wire.lost[f"commit from {near.address}"],
            within_s=20,
            because="a commit of the near host is lost on its way",
        )

    def taken_over(self, began: float) -> None:
        """Wait until the far host has all partitions, and has gone on with them."""
        stood, far = self.watch.nexts(), self.hosts.far.address
        self.publish()
        within_s = SESSION_S + BUSY_S
        eventually(
            lambda: len(self.owned().get(far, ())) == PARTITIONS,
            within_s=within_s,
            because="the group gives all partitions to the far host",
        )
        self.note("given to the other host", time.monotonic() - began)

        def goes_on() -> bool:
            return all(at > before for at, before in zip(self.watch.nexts(), stood, strict=True))

        eventually(goes_on, within_s=within_s, because="the far host goes on with them")
        self.note("taken over", time.monotonic() - began)


@pytest.fixture
def wide(recount: Recount, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Wide]:
    """Two hosts with one worker each, which share four partitions."""
    with two_hosts(DELAY_S, called) as hosts, _wide(hosts, recount, tmp_path) as made:
        made.name = request.node.name
        yield made


@contextmanager
def _wide(hosts: Hosts, recount: Recount, folder: Path) -> Iterator[Wide]:
    bound = ("--bind", "127.0.0.1", hosts.services, "--protected-mode", "no")
    with own_kafka(folder, hosts.services) as kafka, own_redis(folder, *bound) as redis:
        direct = replace(recount, services=Services(kafka.address, redis.url))
        outside = Services(
            f"{hosts.services}:{kafka.secure}", f"redis://{hosts.services}:{redis.port}/0"
        )
        workers = [
            Workers(
                replace(recount, services=outside),
                _made(folder / host.name),
                SESSION_S,
                host.inside(),
            )
            for host in (hosts.near, hosts.far)
        ]
        made = Wide(
            direct,
            workers[0],
            Watch(direct, PARTITIONS),
            "",
            partitions=PARTITIONS,
            hosts=hosts,
            far=workers[1],
            redis_port=redis.port,
            admin=AdminClient({"bootstrap.servers": kafka.address}),
        )
        try:
            made.prepare()
            for each in workers:
                each.start()
            made.shared()
            made.publish()
            made.caught_up()
            yield made
        finally:
            for each in workers:
                each.end()
                sys.stderr.write(each.logs())
            made.watch.close()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def of(host: Host) -> Callable[[Packet], bool]:
    """Every packet from a host and to it."""
    return lambda packet: host.address in {packet.source, packet.target}


def away(wide: Wide, seconds: float) -> None:
    """From now on the near host is away: the far one takes over, and then time passes."""
    began = time.monotonic()
    wide.taken_over(began)
    eventually(
        lambda: time.monotonic() - began > seconds,
        within_s=seconds + BUSY_S,
        because="it is away for long enough",
    )


def back(wide: Wide) -> None:
    """The near host is back: it gets its share again, and everything is exact."""
    began = time.monotonic()
    wide.publish()
    wide.shared()
    wide.note("has its share again", time.monotonic() - began)
    wide.publish()

    assert wide.exact() == wide.sent


def cut_off(wide: Wide, seconds: float) -> None:
    """Cut the near host off without a word, a commit under way, and let it come back."""
    near, wire = wide.hosts.near, wide.hosts.wire
    wide.leave_a_commit_under_way()
    wire.loses = of(near)
    away(wide, seconds)
    refused = wire.carried[f"refusal to {near.address}"]
    wire.loses, began = (lambda _: False), time.monotonic()
    eventually(
        lambda: wire.carried[f"refusal to {near.address}"] > refused,
        within_s=seconds + BUSY_S,
        because="the commit that was under way arrives, and is refused",
    )
    wide.note("late commit refused", time.monotonic() - began)
    back(wide)


def test_f63_a_host_cut_off(wide: Wide) -> None:
    """One host is cut off for 12 s: the other takes over, the late commit is refused, exact."""
    cut_off(wide, 12)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_f63_a_host_cut_off_for_half_a_minute(wide: Wide) -> None:
    """The same for 30 s."""
    cut_off(wide, 30)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_f63_a_host_whose_cable_is_out(wide: Wide) -> None:
    """One host has no route for 30 s, and is told so: the other takes over, exact."""
    wide.hosts.near.plug(into=False)
    away(wide, 30)
    wide.hosts.near.plug(into=True)
    back(wide)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_f63_connections_that_a_firewall_forgot(wide: Wide) -> None:
    """Every open connection of a host is dead without a word: it makes new ones, exact."""
    wire, near = wide.hosts.wire, of(wide.hosts.near)
    forgotten = frozenset(wire.connections)
    wire.loses = lambda packet: near(packet) and packet.ends in forgotten
    away(wide, 0)
    back(wide)
