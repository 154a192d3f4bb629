"""The HTTP doors beside a bare FastAPI echo: `python -m benchmarks.doors`.

Queries: one customer's day at 100 requests a second, open loop, from a deployment with a million
cells; latency counts from when a request was due. Ingest: batches of 100 events over a few
connections, as fast as they go, beside FastAPI giving the same body back, and beside one that only
parses it. They take turns.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import uvicorn
from fastapi import Body, FastAPI, Request
from rich.console import Console
from rich.table import Table

from pipeline.stack.processes import free_port
from tests.integration.doors import Server, serving
from tests.services import ROOT, Recount, Services, fresh, services
from tests.waiting import eventually

from .jobs import METRICS

CUSTOMERS = 14_000
HOURS = 24
RATE = 100
CONNECTIONS = 8
BATCH = 100
BODIES = 500
_BODY: Any = Body()
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251  a benchmark
START = NOW - timedelta(hours=HOURS)


def echo() -> FastAPI:
    """An application that says what it was told, and one that only parses it."""
    app = FastAPI()

    @app.post("/echo")
    async def say(body: Any = _BODY) -> Any:
        return body

    @app.post("/parse")
    async def parse(request: Request) -> dict[str, Any]:
        await request.json()
        return {}

    return app


@contextmanager
def echoing() -> Iterator[str]:
    """The echo as a process of its own; yields its base URL."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.doors", "--echo", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ.copy())
    try:
        server = Server(Recount(Services("", ""), ""), port)  # only its URL is used
        eventually(server.answers, within_s=20, because="the echo answers")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def event(number: int, hour: int) -> dict[str, Any]:
    """An event of about 280 bytes."""
    return {
        "transaction_id": f"{number:09d}-{hour:02d}-4bf92f3577b34da6",
        "customer_id": f"customer-{number % CUSTOMERS:06d}",
        "event_type": "api_request",
        "timestamp": (START + timedelta(hours=hour, seconds=number % 3600)).isoformat(),
        "properties": {
            "tokens": str(number % 5000),
            "latency": number % 900 + 0.25,
            "region": "eu-central-1",
            "model": "large-2026",
            "request_path": "/v1/chat/completions",
        },
    }


def fill(recount: Recount) -> None:
    """One event for each customer and hour: three cells each."""
    lines = (
        json.dumps(event(number, hour)).encode()
        for hour in range(HOURS)
        for number in range(CUSTOMERS)
    )
    recount.run("publish", "-", stdin=b"\n".join(lines), within_s=600)
    recount.run("worker", "--until-caught-up", within_s=600)


async def open_loop(ask: Callable[[int], Awaitable[None]], seconds: int) -> list[float]:
    """Ask RATE times a second; return each latency in ms, counted from when it was due."""
    took: list[float] = []
    began = time.perf_counter() + 0.1

    async def one(number: int) -> None:
        due = began + number / RATE
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        await ask(number)
        took.append((time.perf_counter() - due) * 1000)

    await asyncio.gather(*(one(number) for number in range(RATE * seconds)))
    return sorted(took)


async def flood(post: Callable[[int], Awaitable[None]], seconds: float) -> float:
    """Post batches over CONNECTIONS until the time is over; return events a second."""
    sent, ends = 0, time.perf_counter() + seconds

    async def one(lane: int) -> None:
        nonlocal sent
        number = lane * BODIES // CONNECTIONS
        while time.perf_counter() < ends:
            await post(number)
            number += 1
            sent += BATCH

    began = time.perf_counter()
    await asyncio.gather(*(one(lane) for lane in range(CONNECTIONS)))
    return sent / (time.perf_counter() - began)


async def measure(server: Server, url: str, metric: str, seconds: int, rounds: int) -> list[Any]:
    """Return, for each round, p50 and p99 of both queries, and the rates of ingest."""
    read = {"Authorization": f"Bearer {server.keys['read']}"}
    write = {"Authorization": f"Bearer {server.keys['ingest']}"}
    found = []
    async with aiohttp.ClientSession() as client:

        async def post(to: str, body: Any, headers: dict[str, str]) -> None:
            more = {**headers, "Content-Type": "application/json"}
            async with client.post(to, data=body, headers=more) as answer:
                text = await answer.read()
                assert answer.status == 200, text

        def question(number: int) -> bytes:
            body = {
                "starting_on": START.isoformat(),
                "ending_before": NOW.isoformat(),
                "window_size": "DAY",
                "customer_ids": [f"customer-{number * 7 % CUSTOMERS:06d}"],
                "billable_metrics": [{"id": metric}],
            }
            return json.dumps(body).encode()

        for turn in range(rounds):
            # Made before, and sent in turns: what a client costs is not the question.
            made = [batch(turn * BODIES + number) for number in range(BODIES)]

            asked = [
                await open_loop(lambda n, to=to: post(to, question(n), read), seconds)  # type: ignore[misc]
                for to in (f"{url}/echo", f"{server.url}/v1/usage")
            ]
            bodies: list[Callable[[int], Awaitable[None]]] = [
                lambda n, to=to, made=made: post(to, made[n % BODIES], write)  # type: ignore[misc]
                for to in (f"{url}/echo", f"{url}/parse", f"{server.url}/v1/ingest")
            ]
            rates = [await flood(each, seconds / 2) for each in bodies]
            found.append([*(_points(each) for each in asked), *rates])
    return found


def batch(number: int) -> bytes:
    """A body of new events."""
    first = CUSTOMERS * 1_000 + number * BATCH
    return json.dumps([event(first + n, HOURS - 1) for n in range(BATCH)]).encode()


def _points(latencies: list[float]) -> tuple[float, float]:
    return latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doors")
    parser.add_argument("--echo", type=int)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.echo:
        uvicorn.run(echo(), port=options.echo, log_level="warning", access_log=False)
        return
    with (
        services() as found,
        tempfile.TemporaryDirectory() as folder,
        echoing() as url,
    ):
        recount = Recount(found, fresh("doors"))
        recount.run("init")
        ids = [recount.create(metric) for metric in METRICS]
        fill(recount)
        with serving(recount, Path(folder) / "serve.log") as server:
            rounds = asyncio.run(measure(server, url, ids[1], options.seconds, options.rounds))
        recount.run("worker", "--until-caught-up", within_s=600)
        audit = recount.run("audit", within_s=600)[-1]
    table = Table("", "echo", "door", "ratio")
    for name, place in (("query p50, ms", 0), ("query p99, ms", 1)):
        own, door = (median(each[side][place] for each in rounds) for side in (0, 1))
        table.add_row(name, f"{own:.1f}", f"{door:.1f}", f"{door / own:.2f}")
    for name, place in (("an echo", 2), ("one that only parses", 3)):
        own, door = (median(each[side] for each in rounds) for side in (place, 4))
        told = (f"ingest beside {name}, events/s", f"{own:,.0f}", f"{door:,.0f}")
        table.add_row(*told, f"{door / own:.2f}")
    Console().print(table)
    print(json.dumps({"cells": audit["cells"], "mismatches": audit["mismatches"]}))


if __name__ == "__main__":
    main()
