"""Requests of definitions while workers are killed and doors write: one outcome for each."""

import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..integration.doors import serving
from ..integration.test_definition_requests import Outside
from ..services import Recount
from ..waiting import eventually
from .harness import Workers

SEED = int(os.environ.get("SEED") or 0)
REQUESTS = 80


def bodies(chance: random.Random, number: int) -> dict[str, Any] | bytes:
    """A request: of few names, so that they are in each other's way; now and then rubbish."""
    name = f"m{chance.randrange(6)}"
    body = {"name": name, "aggregation_type": "count"}
    made: dict[str, Any] = chance.choice(
        [
            {"op": "create", "format": "metronome", "body": body},
            {"op": "create", "format": "metronome", "body": body},
            {"op": "rename", "metric": name, "name": f"m{chance.randrange(6)}"},
            {
                "op": "update",
                "metric": name,
                "body": {**body, "event_type_filter": {"in_values": [f"e{number}"]}},
            },
            {"op": "supersede", "metric": name, "format": "metronome", "body": body},
            {"op": "archive", "metric": name},
            {"op": "resume", "metric": name},
            {"op": "create", "format": "metronome", "body": {"name": name}},
        ]
    )
    return b"rubbish" if number % 17 == 9 else {**made, "request_id": f"r{number}"}


@contextmanager
def killing(workers: Workers, chance: random.Random) -> Iterator[list[int]]:
    """Kill a worker process every half second meanwhile; the supervisors start them again."""
    stop, killed = threading.Event(), list[int]()

    def kill() -> None:
        while not stop.wait(chance.uniform(0.3, 1.2)):
            children = [pid for each in workers.all for pid in workers.children(each)]
            if children:
                victim = chance.choice(children)
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def doors(url: str, key: str, stop: threading.Event, made: list[str]) -> None:
    """Create metrics of the same names by HTTP, until told to stop."""
    chance = random.Random(SEED + 1)
    while not stop.wait(0.2):
        body = {"name": f"m{chance.randrange(6)}", "aggregation_type": "count"}
        answer = httpx.post(
            f"{url}/v1/billable-metrics/create",
            json=body,
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        )
        assert answer.status_code in {200, 400, 409, 503}, answer.text
        if answer.status_code == 200:
            made.append(answer.json()["data"]["id"])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_request_has_one_outcome(recount: Recount, tmp_path: Path) -> None:
    """Under kills, with doors in the way: each request has one result, as the log has it."""
    recount.run("init", "--partitions", "2")
    outside, chance, workers = Outside(recount), random.Random(SEED), Workers(recount, tmp_path)
    stop, made = threading.Event(), list[str]()
    with serving(recount, tmp_path / "server.log") as server:
        posting = threading.Thread(
            target=doors, args=(server.url, server.keys["manage"], stop, made)
        )
        posting.start()
        try:
            for _ in range(2):
                workers.start("--processes", "2")
            with killing(workers, chance) as killed:
                for number in range(REQUESTS):
                    outside.ask(bodies(chance, number))
                    if number % 8 == 7:
                        stop.wait(0.7)
                eventually(lambda: len(killed) > 8, within_s=60, because="workers are killed")
            stop.set()
            posting.join()
            wanted = {f"r{n}" if n % 17 != 9 else f"0@{n}" for n in range(REQUESTS)}

            def all_told() -> bool:
                return {key for key, _ in outside.read("results")} == wanted

            eventually(all_told, within_s=90, because="each request has its result")
            eventually(
                lambda: follows(recount, outside), within_s=60, because="the catalogue follows"
            )
        finally:
            stop.set()
            posting.join()
            workers.end()
    results: dict[str, set[str]] = {}
    for key, told in outside.read("results"):
        results.setdefault(key, set()).add(json.dumps(told, sort_keys=True))

    # Told twice after a kill it says the same: one outcome.
    assert {key: len(each) for key, each in results.items()} == dict.fromkeys(wanted, 1)
    by_offset = sorted(
        (json.loads(told)["control_offset"], key) for key, (told,) in results.items()
    )
    order = [f"r{n}" if n % 17 != 9 else f"0@{n}" for n in range(REQUESTS)]
    assert [key for _, key in by_offset] == order
    done = [json.loads(told) for (told,) in results.values()]
    created = {
        each["metric"]["id"]
        for each in done
        if each["op"] in {"create", "supersede"} and each["status"] == "done"
    }
    listed = recount.run("metrics", "list", "--all")
    assert {line["id"] for line in listed} == created | set(made)
    assert sum(each["status"] == "done" for each in done) > 10
    assert recount.run("worker", "--until-caught-up") == []
    assert recount.run("audit")[-1]["mismatches"] == 0


def follows(recount: Recount, outside: Outside) -> bool:
    """Whether the catalogue says of every metric what the control log says."""
    listed = {
        line["id"]: (line["name"], line["version"], line["archived_at"])
        for line in recount.run("metrics", "list", "--all")
    }
    told = {
        key: (entry["name"], entry["version"], entry["archived_at"])
        for key, entry in outside.read("catalogue")
    }
    return listed == told
