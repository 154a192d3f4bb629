"""A server whose Kafka goes away, or is away when it starts: reads go on, and say so."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..fault.own import OwnKafka
from ..services import Recount, Services, fresh
from ..stored import kept
from ..waiting import eventually
from .doors import Server, serving
from .test_away import gone, kafka, working  # noqa: F401  the fixture
from .test_reading_doors import PLAYS, client_of, event, prepared, reads

pytestmark = pytest.mark.timeout(300)
WITHIN_S = 6.0  # two seconds, on a machine that others use as well; Kafka's own limits are longer
HASTY = "RECOUNT_KAFKA_WAIT_MS=1000"
PLAYS_AT = f"/console/v1/metrics/{PLAYS['name']}::{PLAYS['type']}"
WHOLE = {"starting_on": "2020-01-01T00:00:00Z", "ending_before": "2100-01-01T00:00:00Z"}
ONLY_THE_LOG = {"search", "own explain"}


def asked(client: httpx.Client, metronome: str, klaviyo: str) -> dict[str, Callable[[], Any]]:
    """Every read of numbers and of definitions, at every door."""
    return {
        **reads(client, metronome, klaviyo),
        "billable": lambda: client.get("/v1/billable-metrics"),
        "one billable": lambda: client.get(f"/v1/billable-metrics/{metronome}"),
        "custom": lambda: client.get("/api/custom-metrics"),
        "statsig": lambda: client.get("/console/v1/metrics/list"),
        "one of statsig": lambda: client.get(PLAYS_AT),
        "own status": lambda: client.get("/recount/v1/status"),
        "own metrics": lambda: client.get("/recount/v1/metrics"),
        "own metric": lambda: client.get("/recount/v1/metrics/n"),
    }


def writes(client: httpx.Client, key: str) -> dict[str, Callable[[], Any]]:
    """What needs Kafka. key: of who sends."""
    sends = {"Authorization": f"Bearer {key}"}
    return {
        "ingest": lambda: client.post("/v1/ingest", json=[event(7)], headers=sends),
        "create": lambda: client.post(
            "/v1/billable-metrics/create", json={"name": "x", "aggregation_type": "COUNT"}
        ),
        "delete": lambda: client.delete(PLAYS_AT),
        "letters": lambda: client.get("/recount/v1/rejected"),
    }


def values_in(body: Any) -> list[Any]:
    """Every number that an answer names a value, at any depth."""
    if isinstance(body, list):
        return [each for item in body for each in values_in(item)]
    if not isinstance(body, dict):
        return []
    mine = [held for name, held in body.items() if name in {"value", "measurements"}]
    return mine + [each for item in body.values() for each in values_in(item)]


def check_away(
    server: Server, client: httpx.Client, before: dict[str, Any], metronome: str, klaviyo: str
) -> None:
    """Reads are the numbers of before, at once, as half an answer; all else is 503, at once."""
    for name, ask in asked(client, metronome, klaviyo).items():
        began = time.monotonic()
        answer = ask()
        assert time.monotonic() - began < WITHIN_S, name
        if name in ONLY_THE_LOG:
            assert answer.status_code == 503, (name, answer.text)
            continue
        assert answer.status_code == 200, (name, answer.text)
        assert answer.headers["x-recount-kafka"] == "unreachable", name
        assert values_in(answer.json()) == values_in(before[name]), name
        if name.startswith("own "):
            assert '"kafka": "unreachable"' in answer.text.replace('":"', '": "'), name
            assert '"complete": true' not in answer.text.replace('":', '": '), name
    for name in ("usage", "aggregates", "values"):
        assert "unreachable" in asked(client, metronome, klaviyo)[name]().text, name
    for name, ask in writes(client, server.keys["ingest"]).items():
        began = time.monotonic()
        answer = ask()
        assert time.monotonic() - began < WITHIN_S, name
        assert answer.status_code == 503, (name, answer.text)
        assert int(answer.headers["Retry-After"]) >= 1
        if name != "ingest":
            assert "Kafka does not answer" in answer.text
    nobody = httpx.get(f"{client.base_url}/v1/billable-metrics", headers={"Authorization": "x"})
    assert nobody.status_code == 401


def is_back(client: httpx.Client) -> bool:
    """Whether a read is whole again."""
    return "x-recount-kafka" not in client.get("/recount/v1/status").headers


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_server_that_runs_and_one_that_starts(
    stack: Services,
    kafka: OwnKafka,  # noqa: F811
    tmp_path: Path,
    how: str,
) -> None:
    """Both come back by themselves, and take events then."""
    recount = Recount(Services(kafka.address, stack.redis), fresh("doors"))
    metronome, klaviyo = prepared(recount)
    with serving(recount, tmp_path / "first", more=[HASTY]) as first:
        with working(recount, tmp_path / "worker"):
            eventually(lambda: kept(recount) == 7, within_s=60, because="the copy is there")
        with client_of(first) as client:
            eventually(lambda: is_back(client), within_s=30, because="it was never away")
            before = {
                name: ask().json() for name, ask in asked(client, metronome, klaviyo).items()
            }
            with ExitStack() as absence:
                absence.enter_context(gone(kafka, how))
                check_away(first, client, before, metronome, klaviyo)
                with (
                    serving(recount, tmp_path / "second", first.keys, more=[HASTY]) as second,
                    client_of(second) as other,
                ):
                    check_away(second, other, before, metronome, klaviyo)
                    absence.close()
                    check_back(first, client)
                    check_back(second, other)


def check_back(server: Server, client: httpx.Client) -> None:
    """It comes back by itself, takes events, and knows what is not applied."""
    eventually(lambda: is_back(client), within_s=40, because="it comes back by itself")
    sends = {"Authorization": f"Bearer {server.keys['ingest']}"}
    answer = client.post("/v1/ingest", json=[event(8)], headers=sends)
    assert answer.status_code == 200, answer.text
    told = client.get("/recount/v1/usage/n", params=WHOLE).json()
    assert told["as_of"]["unapplied"] > 0
