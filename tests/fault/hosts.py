"""Hosts of one test: network namespaces, and the wire between them, with delay and loss.

Kafka and Redis stay where the tests are. Each host has a TUN device whose packets this process
carries, so that the kernel needs no module for delay and loss, and a test can lose just the
packets that it wants to be lost.
"""

import fcntl
import os
import select
import shutil
import struct
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

import pytest

_TUNSETIFF: Final = 0x400454CA
_TUN_WITHOUT_HEADER: Final = 0x1001
_PACKET_BYTES_MAX: Final = 65_536
_TCP: Final = 6
_TUN: Final = Path("/dev/net/tun")


def _is_possible() -> bool:
    """Whether this machine makes a namespace for us. A container may forbid it even to root."""
    if os.geteuid() != 0 or shutil.which("ip") is None or not _TUN.exists():
        return False
    name = f"recount-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return False
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=True)
    return True


# The reason stands at the end of a run, under CI too: nothing that is installed mends this.
NEEDS_HOSTS: Final = pytest.mark.skipif(
    not _is_possible(),
    reason="namespaces need root, ip (iproute2) and /dev/net/tun: two hosts were not tried",
)


class Packet(NamedTuple):
    """What matters of a packet of TCP. payload: empty where it only acknowledges."""

    source: str
    source_port: int
    target: str
    target_port: int
    payload: bytes

    @classmethod
    def of(cls, raw: bytes) -> Self | None:
        """Read a packet; None where it is not TCP over IPv4."""
        if raw[0] >> 4 != 4 or raw[9] != _TCP:
            return None
        head = (raw[0] & 15) * 4
        source_port, target_port = struct.unpack_from("!HH", raw, head)
        payload = raw[head + (raw[head + 12] >> 4) * 4 :]
        return cls(_text(raw[12:16]), source_port, _text(raw[16:20]), target_port, payload)

    @property
    def ends(self) -> frozenset[tuple[str, int]]:
        """Both ends: what its connection is known by."""
        return frozenset({(self.source, self.source_port), (self.target, self.target_port)})


def _text(address: bytes) -> str:
    return ".".join(map(str, address))


class Host:
    """A network namespace with one address."""

    def __init__(self, name: str, address: str, device: str) -> None:
        self.name = name
        self.address = address
        self.device = device

    def inside(self, *command: str) -> list[str]:
        """The command line that runs a command on this host."""
        return ["ip", "netns", "exec", self.name, *command]

    def plug(self, *, into: bool) -> None:
        """Pull the cable, or put it back: whoever sends is told that there is no route."""
        _run(*self.inside("ip", "link", "set", self.device, "up" if into else "down"))


class Wire:
    """Carries packets between hosts and this namespace, each some time after it was sent.

    loses: which packets vanish; asked of each packet of TCP. lost, carried: how many, by what
    `noting` called them.
    """

    def __init__(self, delay_s: float, noting: Callable[[Packet], str]) -> None:
        self.loses: Callable[[Packet], bool] = lambda _: False
        self.lost: Counter[str] = Counter()
        self.carried: Counter[str] = Counter()
        self.connections: set[frozenset[tuple[str, int]]] = set()
        self._noting = noting
        self._delay_s = delay_s
        self._ends: dict[str, int] = {}  # address → file of its device
        self._elsewhere = -1
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def attach(self, device: str, address: str = "") -> None:
        """Make the device of an address; without one, that of this namespace."""
        file = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
        asked = struct.pack("16sH22x", device.encode(), _TUN_WITHOUT_HEADER)
        fcntl.ioctl(file, _TUNSETIFF, asked)
        if address:
            self._ends[address] = file
        else:
            self._elsewhere = file

    def start(self) -> None:
        """Carry from now on."""
        self._thread.start()

    def close(self) -> None:
        """Take the devices away."""
        self._leaving.set()
        if self._thread.is_alive():
            self._thread.join(10)
        for file in {*self._ends.values(), self._elsewhere} - {-1}:
            os.close(file)

    def _carry(self) -> None:
        files = [*self._ends.values(), self._elsewhere]
        under_way: deque[tuple[float, bytes]] = deque()
        while not self._leaving.is_set():
            now = time.monotonic()
            while under_way and under_way[0][0] <= now:
                self._arrive(under_way.popleft()[1])
            wait_s = min(under_way[0][0] - now, 0.2) if under_way else 0.2
            for file in select.select(files, [], [], wait_s)[0]:
                raw = _read(file)
                if raw and self._takes(raw):
                    under_way.append((time.monotonic() + self._delay_s, raw))

    def _takes(self, raw: bytes) -> bool:
        packet = Packet.of(raw)
        if packet is None:
            return False
        if self.loses(packet):
            self.lost[self._noting(packet)] += 1
            return False
        self.connections.add(packet.ends)
        self.carried[self._noting(packet)] += 1
        return True

    def _arrive(self, raw: bytes) -> None:
        with suppress(OSError):  # the device is down: the cable is out
            os.write(self._ends.get(_text(raw[16:20]), self._elsewhere), raw)


def _read(file: int) -> bytes:
    try:
        return os.read(file, _PACKET_BYTES_MAX)
    except OSError:
        return b""  # the device is down


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


class Hosts(NamedTuple):
    """Two hosts, the wire, and the address under which services are reached from them."""

    near: Host
    far: Host
    wire: Wire
    services: str


@contextmanager
def two_hosts(delay_s: float, noting: Callable[[Packet], str]) -> Iterator[Hosts]:
    """Make two hosts that end with the block. noting: see Wire."""
    own = os.getpid()
    net = f"10.213.{own % 250 + 1}"
    here, wire = f"rw{own}s", Wire(delay_s, noting)
    near = Host(f"recount-{own}-near", f"{net}.2", f"rw{own}n")
    far = Host(f"recount-{own}-far", f"{net}.3", f"rw{own}f")
    try:
        wire.attach(here)
        for host in (near, far):
            _run("ip", "netns", "add", host.name)
            wire.attach(host.device, host.address)
            _run("ip", "link", "set", host.device, "netns", host.name)
            inside = host.inside("ip")
            _run(*inside, "address", "add", f"{host.address}/24", "dev", host.device)
            _run(*inside, "link", "set", "lo", "up")
            _run(*inside, "link", "set", host.device, "up")
        _run("ip", "address", "add", f"{net}.1/24", "dev", here)
        _run("ip", "link", "set", here, "up")
        wire.start()
        yield Hosts(near, far, wire, f"{net}.1")
    finally:
        wire.close()
        for host in (near, far):
            subprocess.run(["ip", "netns", "del", host.name], capture_output=True, check=False)
