"""Rebuilds beside what readers see: under traffic and reads, killed, two at once, given up."""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import redis

from pipeline.edges.redis_epochs import RedisEpochs
from pipeline.errors import PipelineError

from ..stored import keys_of, store_of
from ..waiting import eventually
from .stage import PARTITIONS, Stage

PERIOD = ("--starting-on", "2026-01-01T00:00:00Z", "--ending-before", "2028-01-01T00:00:00Z")


class Reading:
    """A reader that asks again and again, with a store that it opened long before."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.seen: list[tuple[tuple[int, int], ...]] = []  # by partition: `next`, and its total
        self.epochs: set[int] = set()
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._read()))

    async def _read(self) -> None:
        store = store_of(self._stage.recount.services.redis, self._stage.recount.deployment)
        measure = f"{next(iter(self._stage.metrics))}#1.0"
        customers = [f"c{number}" for number in range(self._stage.customers)]
        days = range(20_000, 22_500)
        while not self._stop.is_set():
            try:
                books = await store.read_each([*range(PARTITIONS)], [measure], customers, days)
            except PipelineError as error:
                self.failed.append(str(error))
                continue
            found = []
            for number in range(PARTITIONS):
                book = books[number]
                assert book is not None
                total = sum(int(text) for text in book.cells.values())
                found.append((book.state.next, total))
                self.epochs.add(book.state.epoch)
                # The first metric counts every event: a part of an epoch would not add up.
                if total != book.state.counters["counted"]:
                    self.failed.append(f"{total} of {book.state}")
            self.seen.append(tuple(found))
        await store.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def is_whole(self) -> None:
        """Every read was answered by a whole epoch, and none stood before an earlier one."""
        assert self.failed == []
        assert len(self.seen) > 20
        for number in range(PARTITIONS):
            stood = [each[number] for each in self.seen]
            assert stood == sorted(stood)


@contextmanager
def streaming(stage: Stage) -> Iterator[None]:
    """Some hundred live events a second."""
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.05):
            stage.publish(20)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def begun(stage: Stage, says: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
    """A rebuild, in a process group of its own."""
    return stage.recount.start("rebuild", stderr=says, start_new_session=True)


def home_keys(stage: Stage) -> set[str]:
    """What lies beside the current epochs."""
    held: set[str] = set()
    for number in range(PARTITIONS):
        keys = keys_of(stage.recount, number)
        names = {name.decode() for name in stage.redis.client.keys(f"{keys.home}*")}
        own = {name for name in names if name.startswith(keys.prefix) and keys.epoch}
        held |= names - own - {keys.state, keys.epochs}
    return held


def is_clean(stage: Stage) -> bool:
    """Whether nothing of an old epoch is left."""
    return not home_keys(stage)


def test_readers_see_one_epoch_or_the_other(stage: Stage) -> None:
    """Under traffic: no read fails, none has a part, none stands before an earlier one."""
    worker = stage.running()
    children = stage.workers.children(worker)
    stage.publish(20_000)
    with Reading(stage) as reading, streaming(stage):
        for _ in range(2):
            done = stage.recount.run("rebuild", within_s=200)[0]
            assert done["rebuilt"] == [0, 1]
            assert done["in_place"] == []
        stage.publish()
        stage.recovers(live=True)

    reading.is_whole()
    assert reading.epochs == {0, 1, 2}
    stage.exact()
    assert stage.workers.children(worker) == children
    eventually(lambda: is_clean(stage), within_s=60, because="old epochs are dropped")


def test_f30_killed_anywhere_and_run_again(stage: Stage) -> None:
    """Killed with all its processes at any moment, under traffic and reads; the last one ends."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    sys.stderr.write(f"SEED={seed}\n")
    draw = random.Random(seed)
    stage.running()
    stage.publish(20_000)
    with Reading(stage) as reading, streaming(stage):
        for _ in range(5):
            process = begun(stage)
            try:
                process.wait(draw.uniform(0.5, 6))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        stage.recount.run("rebuild", within_s=200)

    reading.is_whole()
    stage.exact()
    eventually(lambda: is_clean(stage), within_s=60, because="old epochs are dropped")


def test_what_is_given_up_leaves_nothing(stage: Stage) -> None:
    """A rebuild that was killed half way is given up: readers and workers never notice."""
    stage.running()
    epochs = asyncio.run(_half_built(stage))
    assert epochs == [1, 1]
    line = stage.recount.run("status")[0]
    assert line["rebuild"] == {"epoch": 1, "next": 0, "percent": 0}

    found = stage.recount.run("rebuild", "--abandon")[0]

    assert found["abandoned"] == [0, 1]
    assert found["dropped_keys"] == 0
    assert "rebuild" not in stage.recount.run("status")[0]
    assert stage.recount.run("rebuild")[0]["rebuilt"] == [0, 1]
    assert keys_of(stage.recount).epoch == 2
    stage.exact()


async def _half_built(stage: Stage) -> list[int]:
    """Begin what a rebuild begins."""
    store = store_of(stage.recount.services.redis, stage.recount.deployment)
    try:
        found = []
        for number in range(PARTITIONS):
            state = await store.state(number)
            assert state is not None
            first = type(state)(state.store_id, state.topic_id, 0, 0)
            begun = await RedisEpochs(store).begin(number, first)
            assert begun is not None
            found.append(begun.epoch)
        return found
    finally:
        await store.close()


def test_two_rebuilds_at_once(stage: Stage) -> None:
    """One of them may give way; at least one comes to its end, and it is exact."""
    stage.running()
    stage.publish(20_000)
    with Reading(stage) as reading, streaming(stage):
        both = [begun(stage, subprocess.PIPE), begun(stage, subprocess.PIPE)]
        said = [process.communicate(timeout=200)[1] for process in both]
        codes = sorted(process.returncode for process in both)

    reading.is_whole()
    assert codes[0] == 0, said
    assert codes[1] in {0, 3}, said
    stage.exact()


def test_a_wrong_number_is_right_afterwards(stage: Stage) -> None:
    """Somebody wrote to a cell that the owner remembers: no commit takes it over."""
    stage.running()
    client = stage.redis.client
    keys = sorted(client.keys(f"{keys_of(stage.recount).prefix}c:*"))
    for field in client.hkeys(keys[0]):
        client.hset(keys[0], field, "777777")
    assert stage.recount.run("audit", exits=1)[-1]["mismatches"] > 0

    stage.recount.run("rebuild")
    stage.publish()
    stage.exact()


def test_too_little_memory_is_refused_with_the_figures(stage: Stage) -> None:
    """Where two epochs do not fit, nothing is begun; in place it works."""
    stage.running()
    stage.publish(20_000)
    stage.caught_up()
    client = stage.redis.client
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", int(used * 1.15))
    done = stage.recount.ended("rebuild")

    assert done.returncode == 2
    figures = re.findall(r"[\d,]{7,}", done.stderr.decode())
    assert len(figures) >= 4, done.stderr
    assert b"--in-place" in done.stderr
    assert b"maxmemory" in done.stderr
    assert "rebuild" not in stage.recount.run("status")[0]
    client.config_set("maxmemory", 0)
    assert stage.recount.run("rebuild", "--in-place")[0]["in_place"] == [0, 1]
    stage.exact()


def test_a_worker_drops_what_a_killed_rebuild_left(stage: Stage) -> None:
    """Killed right after the switch: the owner deletes the old epoch, and nothing else."""
    stage.running()
    stage.publish(2_000)
    process = begun(stage)
    client: redis.Redis = stage.redis.client
    key = keys_of(stage.recount).state
    eventually(
        lambda: b"." in (client.hget(key, "store_id") or b""), within_s=100, because="it switched"
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)

    def is_dropped() -> Any:
        return b"0" not in client.hkeys(keys_of(stage.recount).epochs)

    eventually(is_dropped, within_s=60, because="the owner has dropped the old epoch")
    stage.publish()
    stage.exact()
    assert stage.recount.run("audit")[-1]["mismatches"] == 0
