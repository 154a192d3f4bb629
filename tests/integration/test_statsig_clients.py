"""Statsig's own clients, unchanged, against `recount serve`: they start, their events count."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from ..nodejs import NEEDS_NODE
from ..services import Recount, Services, fresh
from .clients import driven as driven_by
from .doors import Server, serving

pytestmark = pytest.mark.timeout(300)  # the first that needs Node installs its packages
KEYS = {"statsig-server": "secret-", "statsig-client": "client-"}
VALUES = [1.5, 2.25, 4]
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def server(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all clients, with a key in each of Statsig's forms besides."""
    recount = Recount(stack, fresh("statsig-clients"))
    recount.run("init", "--partitions", "2")
    with serving(recount, tmp_path_factory.mktemp("server") / "serve.log") as made:
        for like, head in KEYS.items():
            (key,) = recount.run("keys", "create", "--name", like, "--like", like)
            assert key["roles"] == ["ingest"]
            assert key["like"] == like
            assert key["key"].startswith(head)
            made.keys[like] = key["key"]
        yield made


def driven(file: str, server: Server, like: str, **told: Any) -> Any:
    """What a client says, which has logged VALUES."""
    return driven_by(file, url=server.url, key=server.keys[like], values=VALUES, **told)


def counted(server: Server, event: str) -> tuple[float, float]:
    """How many events of a name there are, and the sum of their values."""
    server.recount.catch_up()
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251  a test's clock
    span = ("--starting-on", (now - HOUR).isoformat(), "--ending-before", (now + HOUR).isoformat())
    found = []
    for name in (f"{event} count", f"{event} sum"):
        ((line, *_),) = [server.recount.run("usage", name, *span)]
        found.append(float(line["value"]))
    return found[0], found[1]


def follow(server: Server, event: str) -> None:
    """Create the metrics that counted() reads."""
    headers = {"STATSIG-API-KEY": server.keys["manage"]}
    events = [{"name": event, "type": "value", "criteria": []}]
    for name, type_ in ((f"{event} count", "event_count_custom"), (f"{event} sum", "sum")):
        body = {"name": name, "type": type_, "unitTypes": ["userID"], "metricEvents": events}
        path = f"{server.url}/console/v1/metrics"
        answer = httpx.post(path, json=body, headers=headers, timeout=30)
        assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    ("file", "like", "more"),
    [
        ("statsig_python.py", "statsig-server", {}),
        ("statsig_core.py", "statsig-server", {}),
        pytest.param("statsig_node.js", "statsig-server", {}, marks=NEEDS_NODE),
        pytest.param("statsig_node_core.js", "statsig-server", {}, marks=NEEDS_NODE),
        pytest.param("statsig_web.js", "statsig-client", {"packed": False}, marks=NEEDS_NODE),
        pytest.param("statsig_web.js", "statsig-client", {"packed": True}, marks=NEEDS_NODE),
    ],
)
def test_a_client_starts_and_its_events_count(
    server: Server, file: str, like: str, more: dict[str, Any]
) -> None:
    """It has a configuration without gates, checks one, logs events; every one counts once."""
    event = f"{Path(file).stem}_{int(bool(more.get('packed')))}"
    follow(server, event)
    said = driven(file, server, like, event=event, user="ann", **more)

    assert said == {"started": True, "gate": False, "config": {}}
    assert counted(server, event) == (len(VALUES), sum(VALUES))


def held(server: Server) -> list[bytes]:
    """Every record of the events topic."""
    topic = f"{server.recount.deployment}.usage.events"
    parts = [TopicPartition(topic, number) for number in range(2)]

    async def read() -> list[bytes]:
        # Not seek_to_beginning: aiokafka may already have asked for its default, the end.
        client = AIOKafkaConsumer(
            bootstrap_servers=server.recount.services.kafka, auto_offset_reset="earliest"
        )
        await client.start()
        try:
            client.assign(parts)
            ends = await client.end_offsets(parts)
            found: list[bytes] = []
            while any([await client.position(part) < end for part, end in ends.items()]):
                for records in (await client.getmany(timeout_ms=1_000)).values():
                    found += [record.value for record in records]
            return found
        finally:
            await client.stop()

    return asyncio.run(read())


def test_the_log_keeps_what_clients_add_and_never_a_key(server: Server) -> None:
    """Members unknown here are kept as they came; the key in a client's URLs is not (CS26)."""
    key = server.keys["statsig-server"]
    event = {
        "eventName": "kept",
        "user": {"userID": "ann", "statsigEnvironment": {"tier": "production"}},
        "secondaryExposures": [{"gate": "a"}],
        "statsigMetadata": {"samplingRate": 2},
        "of a later release": {"url": f"http://host/v1/download_config_specs/{key}.json"},
    }
    answer = httpx.post(
        f"{server.url}/v1/log_event",
        json={"events": [event], "of a later release": 1},
        headers={"STATSIG-API-KEY": key},
    )
    assert answer.status_code == 202, answer.text
    driven("statsig_python.py", server, "statsig-server", event="e", user="ann")

    records = held(server)
    (kept,) = [json.loads(each) for each in records if b'"kept"' in each]
    assert kept["context"]["more"] == {
        "secondaryExposures": [{"gate": "a"}],
        "statsigMetadata": {"samplingRate": 2},
        "of a later release": {"url": "http://host/v1/download_config_specs/secret-****.json"},
        "user": {"statsigEnvironment": {"tier": "production"}},
    }
    assert any(b"statsig::diagnostics" in each for each in records)
    assert not any(key.encode() in each for each in records)


def test_environments_that_count(server: Server, tmp_path: Path) -> None:
    """Events of another tier are taken and left out, unless the setting names it."""
    follow(server, "tiers")
    told = {"event": "tiers", "user": "ann", "tier": "staging"}
    assert driven("statsig_python.py", server, "statsig-server", **told)["started"]
    assert counted(server, "tiers") == (0, 0)
    more = ("RECOUNT_STATSIG_ENVIRONMENTS=production, Staging",)
    log = tmp_path / "serve.log"
    with serving(server.recount, log, server.keys, more=more) as other:
        assert driven("statsig_python.py", other, "statsig-server", **told)["started"]
    assert counted(server, "tiers") == (len(VALUES), sum(VALUES))


def test_a_key_that_anybody_can_read(server: Server) -> None:
    """A web client's key ingests events of web pages, from the URL too, and opens nothing else."""
    key, origin = server.keys["statsig-client"], {"Origin": "https://shop.example"}
    body = json.dumps({"events": [{"eventName": "web", "user": None}]}).encode()
    plain = {**origin, "Content-Type": "text/plain"}
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for sent, more in ((body, ""), (gzip.compress(body), "&gz=1")):
            taken = client.post(f"/v1/rgstr?k={key}&st=js{more}", content=sent, headers=plain)
            assert (taken.status_code, taken.json()) == (202, {"success": True})
            assert taken.headers["access-control-allow-origin"] == "*"
        wrong = client.post(f"/v1/rgstr?k={key}", content=b"{}", headers=plain)
        assert wrong.status_code == 400
        assert wrong.json()["errors"][0]["property"] == "events"
        assert wrong.headers["access-control-allow-origin"] == "*"
        asks = {**origin, "Access-Control-Request-Method": "POST"}
        asks["Access-Control-Request-Headers"] = "statsig-event-count"
        may = client.options("/v1/rgstr", headers=asks)
        assert may.status_code == 200
        assert may.headers["access-control-allow-headers"] == "statsig-event-count"
        other = client.options("/v1/ingest", headers=asks)
        assert "access-control-allow-origin" not in other.headers

        bearer = {"Authorization": f"Bearer {key}", "revision": "2026-07-15"}
        for path in ("/v1/ingest", "/api/events"):
            refused = client.post(path, json=[], headers=bearer)
            assert refused.status_code == 403, refused.text
            assert "web pages" in refused.text
        assert client.get("/console/v1/metrics/list", headers=bearer).status_code == 403
        # Only what web pages may do looks for a key in the URL.
        ours = server.keys["ingest"]
        assert client.post(f"/v1/ingest?k={ours}", json=[]).status_code == 401
        assert client.post(f"/v1/rgstr?k={key}x", content=body).status_code == 401
        assert client.post("/v1/rgstr", content=body).status_code == 401


def test_configurations(server: Server) -> None:
    """Each form of a configuration that a client may ask; who has it already is told so."""
    key = server.keys["statsig-server"]
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for version, kind in (("v1", list), ("v2", dict)):
            path = f"/{version}/download_config_specs"
            for url in (f"{path}/{key}.json", f"{path}?k={key}", f"{path}/{key}.json?sinceTime=0"):
                found = client.get(url).json()
                assert found["has_updates"] is True
                assert found["feature_gates"] == kind()
                again = client.get(f"{path}/{key}.json?sinceTime={found['time']}")
                assert again.json() == {"has_updates": False}
            assert client.get(f"{path}/secret-nobody.json").status_code == 401
        headers = {"STATSIG-API-KEY": key}
        assert client.post("/v1/get_id_lists", json={}, headers=headers).json() == {}
        assert client.get(f"/v1/get_id_lists/{key}.json").json() == {}
        posted = client.post("/v1/download_config_specs", json={}, headers=headers)
        assert posted.json()["has_updates"] is True
        started = client.post("/v1/initialize", json={"user": {}}, headers=headers).json()
        assert (started["has_updates"], started["feature_gates"]) == (True, {})


def test_keys_in_a_form_that_is_refused(server: Server) -> None:
    """A form that nobody has, a public key with a role that reads, no role: exit 2."""
    create = server.recount.ended
    for options, told in (
        (("--like", "statsig"), b"--like is one of statsig-server, statsig-client"),
        (("--like", "statsig-client", "--role", "read"), b"its only role is ingest"),
        ((), b"give at least one"),
    ):
        done = create("keys", "create", "--name", "k", *options)
        assert (done.returncode, told in done.stderr) == (2, True), done.stderr
