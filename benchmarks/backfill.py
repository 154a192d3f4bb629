"""How fast the past of a new metric is counted: `python -m benchmarks.backfill`.

Two deployments get the same events. In one the metrics are there before a worker comes, and all
events are live. In the other the worker finds no metric, the metrics are made when all is applied,
and everything is past. One worker process each, nothing else runs, and both are audited.
"""

import argparse
import json
import subprocess
import time

import redis
from rich.console import Console
from rich.table import Table

from pipeline.core.past import past_of
from tests.services import Recount, Services, fresh, services

from . import aims
from .jobs import METRONOME
from .measuring import Around, Standing, deployed, run_worker
from .traffic import PARTITIONS, Traffic, fill, now

EVENTS = 1_000_000
SHARES = (0.0, 0.01, 0.02, 0.1)  # of duplicates
_POLL_S = 0.01
_WITHIN_S = 1_800


def live(found: Services, traffic: Traffic) -> float:
    """Return thousand events/s of a worker that finds the metrics and the log."""
    recount = deployed(found, "live")
    fill(found.kafka, f"{recount.deployment}.usage.events", traffic, expect=False)
    around = Around(redis.Redis.from_url(found.redis), None)
    told = run_worker(recount, traffic.events, around)
    _audit(recount)
    return told["events"] / told["seconds"] / 1000


def past(found: Services, traffic: Traffic) -> float:
    """Return thousand events/s of a worker that counts the past of metrics."""
    recount = Recount(found, fresh("past"))
    recount.run("init", "--partitions", str(PARTITIONS))
    fill(found.kafka, f"{recount.deployment}.usage.events", traffic, expect=False)
    recount.run("worker", "--until-caught-up", within_s=_WITHIN_S)
    for metric in METRONOME.metrics:
        body = json.dumps(metric).encode()
        recount.run("metrics", "create", "--format", METRONOME.system, "-", stdin=body)
    worker = recount.start("worker", "--until-caught-up")
    try:
        rate = _followed(redis.Redis.from_url(found.redis), Standing(recount).keys, worker)
    finally:
        worker.terminate()
        worker.wait(30)
    _audit(recount)
    return rate


def _followed(store: "redis.Redis", keys: list[bytes], worker: "subprocess.Popen[bytes]") -> float:
    """Follow a worker until it ends: from the first slice that is counted to the last."""
    first, last = (0, 0.0), (0, 0.0)
    deadline = time.perf_counter() + _WITHIN_S
    while worker.poll() is None:
        if time.perf_counter() > deadline:
            raise TimeoutError(f"the past is counted up to {last[0]}; see the worker's log above")
        done, at = _counted(store, keys), time.perf_counter()
        if done > last[0]:
            last = (done, at)
            first = first if first[0] else last
        time.sleep(_POLL_S)
    return (last[0] - first[0]) / (last[1] - first[1]) / 1000


def _counted(store: "redis.Redis", keys: list[bytes]) -> int:
    """How many offsets of the past are counted, of the version that is furthest back."""
    total = 0
    for key in keys:
        fields = store.hgetall(key)
        pasts = [past_of(text.decode()) for name, text in fields.items() if name[:5] == b"hist:"]
        total += min((each.next for each in pasts), default=0)
    return total


def _audit(recount: Recount) -> None:
    audit = recount.run("audit", within_s=_WITHIN_S)[-1]
    assert audit["mismatches"] == 0, audit


def main() -> None:
    """Print both speeds for each share of duplicates, and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backfill")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="of duplicates")
    given = parser.parse_args()
    table = Table("duplicates", "live, k events/s", "past", "past of live")
    found: dict[str, float] = {}
    with services() as running:
        for share in given.shares:
            pairs = []
            for _ in range(given.rounds):
                traffic = Traffic(given.events, now(), duplicates=share)
                pairs.append((live(running, traffic), past(running, traffic)))
                print(
                    f"{share:g}: live {pairs[-1][0]:.0f} k/s, past {pairs[-1][1]:.0f}", flush=True
                )
            ordered = sorted(pairs, key=lambda pair: pair[1] / pair[0])
            was, is_ = ordered[len(ordered) // 2]
            table.add_row(f"{share:.0%}", f"{was:.0f}", f"{is_:.0f}", f"{is_ / was:.2f}")
            found[f"past of a million events, {share:.0%} duplicates: speed of live"] = is_ / was
    Console().print(table)
    aims.note(aims.BACKFILL, found, now(), short=given.events < EVENTS)
    Console(width=170).print(aims.table(aims.BACKFILL))


if __name__ == "__main__":
    main()
