"""What the fault suite needs: workers to kill, a Redis to damage, and the oracle."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from definitions.formats import metronome
from definitions.metric import Definition
from pipeline.core.aggregations import AGGREGATIONS, Partial, decode_partial, merge_partials
from pipeline.edges.kafka import KafkaLog
from pipeline.edges.kafka_names import topic_names
from pipeline.ports import Book

from ..recount import Record, Terms, answers, recount
from ..services import Recount
from ..stored import store_of
from ..waiting import eventually
from ..whole import whole

DAY_MS = 86_400_000
TERMS = Terms(35 * DAY_MS, 34 * DAY_MS, DAY_MS, 3600)
SESSION_S = 2.0


KINDS = ("COUNT", "SUM", "MAX", "LATEST", "UNIQUE")


def create_five(command: Recount) -> dict[str, dict[str, Any]]:
    """One metric of every kind, by group g of events of type `use`; return id → native body."""
    made = {}
    for kind in KINDS:
        body: dict[str, Any] = {
            "name": kind,
            "aggregation_type": kind,
            "event_type_filter": {"in_values": ["use"]},
            "property_filters": [{"name": "v"}, {"name": "g", "exists": True}],
            "group_keys": [["g"]],
        }
        if kind != "COUNT":
            body["aggregation_key"] = "v"
        made[command.create(body)] = body
    return made


class Workers:
    """`recount worker` processes of one deployment, each with a log file.

    inside: what a command line begins with, to run on another host.
    """

    def __init__(
        self,
        command: Recount,
        folder: Path,
        session_s: float = SESSION_S,
        inside: Sequence[str] = (),
    ) -> None:
        self.command = command
        self.session_s = session_s
        self.folder = folder
        self._inside = inside
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str, **environment: str) -> "subprocess.Popen[bytes]":
        """Start a supervisor with its worker process, in a process group of its own."""
        own = {"RECOUNT_SESSION_TIMEOUT_S": str(self.session_s), **environment}
        with (self.folder / f"worker-{len(self.all)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*self._inside, *_PYTHON, "worker", *options],
                env={**self.command.environment, **own},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.all.append(process)
        return process

    @staticmethod
    def children(process: "subprocess.Popen[bytes]") -> list[int]:
        """The worker processes of a supervisor."""
        found = subprocess.run(
            ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in found.stdout.split()]

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """Kill -9 the supervisor and its worker process."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def signal_children(self, process: "subprocess.Popen[bytes]", number: int) -> None:
        """Send a signal to the worker processes, not to the supervisor."""
        for pid in eventually(
            lambda: self.children(process), within_s=10, because="a worker process starts"
        ):
            os.kill(pid, number)

    def end(self) -> None:
        """End whatever still runs."""
        for process in self.all:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)

    def logs(self) -> str:
        """What the workers said."""
        texts = (path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))
        return "\n".join(texts)[-6000:]


_PYTHON = [sys.executable, "-m", "pipeline"]


def with_redis(command: Recount, url: str) -> Recount:
    """The same deployment name on another Redis."""
    return replace(command, services=replace(command.services, redis=url))


def lag(command: Recount) -> int:
    """How many offsets are not applied yet."""
    return int(command.run("status")[-1]["lag"])


def nexts(command: Recount) -> int:
    """The sum of every partition's next."""

    async def read() -> int:
        store = store_of(command.services.redis, command.deployment)
        try:
            states = [await store.state(number) for number in range(4)]
        finally:
            await store.close()
        return sum(state.next for state in states if state is not None)

    return asyncio.run(read())


async def _read(command: Recount) -> list[tuple[Book, list[Record]]]:
    store = store_of(command.services.redis, command.deployment)
    names = topic_names(command.deployment)
    log = KafkaLog(command.services.address, events=names["events"], rejected=names["rejected"])
    found = []
    try:
        for number in await log.spans():
            book = await whole(store, number)
            assert book is not None
            records: list[Record] = []
            async for batch in log.read(number, book.state.start, book.state.next):
                records += [Record(item.offset, item.timestamp, item.value) for item in batch]
            found.append((book, records))
    finally:
        await store.close()
        await log.close()
    return found


def assert_exact(
    command: Recount,
    metrics: dict[str, dict[str, Any]],
    terms: Terms = TERMS,
    *,
    others: bool = False,
) -> int:
    """Compare every partition with the oracle and with `recount audit`; return the events seen.

    Args:
        metrics: id → native body, all active from the first offset. others: whether the
            deployment has more than these, which the oracle does not look at.
    """
    bodies: dict[str, Definition] = {
        metric_id: metronome.parse(json.dumps(body))[1] for metric_id, body in metrics.items()
    }
    events = 0
    for number, (book, records) in enumerate(asyncio.run(_read(command))):
        books = recount(records, bodies, terms, number)
        fates = {name: book.state.counters[name] for name in books.fates}
        if others:
            fates, books.fates = _of_any_metric(fates), _of_any_metric(books.fates)
        assert fates == books.fates
        found, wanted = _answers(book, bodies), answers(books, bodies)
        differ = {key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)}
        assert not differ, [(key, found.get(key), wanted.get(key)) for key in [*differ][:5]]
        events += books.fates["consumed"]
    audit = command.run("audit", within_s=900)[-1]
    assert audit["mismatches"] == 0
    assert audit["events"] == events
    assert command.run("status")[-1]["balanced"] is True
    return events


def _of_any_metric(fates: dict[str, int]) -> dict[str, int]:
    """The same, where it does not matter which metrics there are."""
    accepted = fates["counted"] + fates["unmatched"]
    kept = {name: fates[name] for name in ("consumed", "duplicate", "rejected", "corrected")}
    return {**kept, "counted or unmatched": accepted}


def _answers(book: Book, bodies: dict[str, Definition]) -> dict[tuple[Any, ...], Any]:
    partials: dict[tuple[Any, ...], tuple[Any, Partial]] = {}

    def add(cell: Any, partial: Partial | str) -> None:
        metric_id = cell.measure.split("#")[0]
        if metric_id not in bodies:
            return
        kind = bodies[metric_id].measures[0].aggregation
        made = decode_partial(kind, partial) if isinstance(partial, str) else partial
        key = (metric_id, cell.customer, cell.bucket, cell.grouping_set, cell.groups)
        if key in partials:
            made = merge_partials(kind, partials[key][1], made)
        partials[key] = (kind, made)

    for cell, text in book.cells.items():
        add(cell, text)
    for cell, members in book.elements.items():
        add(cell, Partial(members, 0))
    return {
        key: (AGGREGATIONS[kind].finish(partial.value), partial.unreadable)
        for key, (kind, partial) in partials.items()
    }
