"""What a server refuses at its start, warns of, and shows; gzip and sizes of what comes in."""

import gzip
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from pipeline.doors.http.paths import door_of
from pipeline.doors.statsig.models import EVENTS_MAX
from pipeline.edges.clock import SystemClock
from pipeline.stack.processes import free_port
from pipeline.telemetry import answer as telemetry

from ..services import Recount
from ..waiting import eventually
from .doors import Server, certified, serving


def _event(number: int) -> dict[str, Any]:
    return {
        "transaction_id": f"t{number}",
        "customer_id": "c",
        "event_type": "use",
        "timestamp": SystemClock().now().isoformat(),
        "properties": {},
    }


def _posted(server: Server, body: bytes, path: str = "/v1/ingest", **headers: str) -> Any:
    key = server.keys["ingest"]
    allowed = {"Authorization": f"Bearer {key}", "Statsig-Api-Key": key}
    content = {"Content-Type": "application/json", **allowed, **headers}
    return httpx.post(f"{server.url}{path}", content=body, headers=content, timeout=30)


def test_a_server_that_is_told_to_leave_ends_with_0(recount: Recount, tmp_path: Path) -> None:
    """SIGTERM is how it ends: no supervisor takes that for a failure."""
    recount.run("init", "--partitions", "1")
    with serving(recount, tmp_path / "log", keys={}) as server:
        pass

    assert server.process is not None
    assert server.process.returncode == 0, (tmp_path / "log").read_text()


def test_tls_that_cannot_work_is_refused_with_its_reason(recount: Recount, tmp_path: Path) -> None:
    """A lone part, a missing file, no PEM, another's key: exit 2, and which setting is wrong."""
    recount.run("init", "--partitions", "1")
    first, second = (trustme.CA().issue_cert("localhost") for _ in range(2))
    certificate, key, other = (tmp_path / name for name in ("cert.pem", "key.pem", "other.pem"))
    first.cert_chain_pems[0].write_to_path(certificate)
    first.private_key_pem.write_to_path(key)
    second.private_key_pem.write_to_path(other)
    (tmp_path / "text").write_text("no certificate")
    cases = [
        (certificate, None, "RECOUNT_TLS_KEY is not set"),
        (None, key, "RECOUNT_TLS_CERTIFICATE is not set"),
        (tmp_path / "nowhere", key, "No such file"),
        (certificate, tmp_path, "Is a directory"),
        (certificate, tmp_path / "text", "is not PEM"),
        (certificate, other, "is not the private key of"),
        (key, key, "PEM certificate"),
    ]
    for given, of_key, said in cases:
        more = {}
        if given is not None:
            more["RECOUNT_TLS_CERTIFICATE"] = str(given)
        if of_key is not None:
            more["RECOUNT_TLS_KEY"] = str(of_key)
        port = str(free_port())

        process = recount.start("serve", "--port", port, more=more, stderr=-1, stdout=-1)
        _, told = process.communicate(timeout=60)

        assert process.returncode == 2, told.decode()
        assert said in " ".join(told.decode().split()), told.decode()


def test_a_port_that_is_taken_is_refused(recount: Recount) -> None:
    """The port of the doors, or of telemetry, held by somebody else: exit 2, and which it is."""
    recount.run("init", "--partitions", "1")
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = str(held.getsockname()[1])

        for arguments, more in (
            (("--port", port), {}),
            (("--port", str(free_port())), {"RECOUNT_TELEMETRY_PORT": port}),
        ):
            process = recount.start("serve", *arguments, more=more, stderr=-1, stdout=-1)
            _, told = process.communicate(timeout=60)

            assert process.returncode == 2, told.decode()
            assert port in told.decode()
            assert "in use" in told.decode()


def test_a_host_that_others_reach_without_tls_is_warned_of(
    recount: Recount, tmp_path: Path
) -> None:
    """Beyond loopback and without TLS a line on stderr says that keys travel unencrypted."""
    recount.run("init", "--partitions", "1")
    log = tmp_path / "serve.log"
    with log.open("wb") as output:
        process = recount.start(
            "serve",
            "--host",
            "0.0.0.0",  # noqa: S104  that is the question
            "--port",
            str(free_port()),
            stderr=output,
        )
    try:
        eventually(lambda: b"unencrypted" in log.read_bytes(), within_s=30, because="it warns")
    finally:
        process.kill()
        process.wait()


def test_gzip_is_read_whole_or_refused(recount: Recount, tmp_path: Path) -> None:
    """Every member of a gzip body counts; a cut one is 400, rubbish behind it 400, a bomb 413."""
    recount.run("init", "--partitions", "1")
    recount.create({"name": "m", "aggregation_type": "count"})
    text = json.dumps([_event(number) for number in range(6)]).encode()
    half = len(text) // 2
    both = gzip.compress(text[:half]) + gzip.compress(text[half:])
    bomb = gzip.compress(b" " * 3_000_000)
    with serving(recount, tmp_path / "serve.log") as server:

        def status(body: bytes) -> int:
            return int(_posted(server, body, **{"Content-Encoding": "gzip"}).status_code)

        assert status(both + b"\0" * 100) == 200
        assert [status(both[:cut]) for cut in (5, len(both) // 2, len(both) - 1)] == [400] * 3
        assert status(gzip.compress(text) + b"rubbish") == 400
        assert status(bomb * 2) == 413
        assert status(gzip.compress(b"") * 200 + gzip.compress(text)) == 400
        assert status(b"") == 400
    recount.catch_up()

    assert recount.run("status")[-1]["counted"] == 6


def test_too_many_events_are_refused_by_their_number(recount: Recount, tmp_path: Path) -> None:
    """A body of log_event that can never be taken is 413 and says how many; 503 means later."""
    recount.run("init", "--partitions", "1")
    event = {"eventName": "e", "user": {"userID": "u"}}
    with serving(recount, tmp_path / "serve.log") as server:
        body = json.dumps({"events": [event] * (EVENTS_MAX + 1)}).encode()
        refused = _posted(server, body, "/v1/log_event")
        taken = _posted(server, json.dumps({"events": [event] * 9}).encode(), "/v1/log_event")

    assert (refused.status_code, taken.status_code) == (413, 202)
    assert "20001 events" in refused.text
    assert "20000" in refused.text


def test_the_page_needs_no_internet_and_takes_a_key(recount: Recount, tmp_path: Path) -> None:
    """/docs names nothing of another host, its assets are there, every call says which key."""
    recount.run("init", "--partitions", "1")
    with serving(recount, tmp_path / "serve.log", {}) as server:
        page = httpx.get(f"{server.url}/docs")
        assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        described = httpx.get(f"{server.url}/openapi.json").json()

        assert page.status_code == 200
        assert [asset for asset in assets if not asset.startswith("/")] == []
        assert {Path(asset).suffix for asset in assets} >= {".js", ".css"}
        for asset in assets:
            assert httpx.get(f"{server.url}{asset}").status_code == 200, asset
    kinds = described["components"]["securitySchemes"]
    calls = [
        (path, call["security"])
        for path, operations in described["paths"].items()
        for call in operations.values()
    ]
    for path, security in calls:
        kind = door_of(path) if door_of(path) in {"klaviyo", "statsig"} else "bearer"
        assert security == [{kind: []}], path
        assert kind in kinds


def test_settings_show_no_secret(recount: Recount, tmp_path: Path) -> None:
    """Passwords of Redis, of Kafka, of keys are hidden; what says nothing secret is shown."""
    secret = "s3cr3t@:/x"  # noqa: S105  a test's
    _, certificate, key = certified(tmp_path)
    more = {
        "RECOUNT_REDIS": f"redis://user:{secret}@h:1/0?password=s3cr3t",
        "RECOUNT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "RECOUNT_KAFKA_SECURITY_SASL_MECHANISM": "PLAIN",
        "RECOUNT_KAFKA_SECURITY_SASL_USERNAME": "who",
        "RECOUNT_KAFKA_SECURITY_SASL_PASSWORD": secret,
        "RECOUNT_KAFKA_SECURITY_SSL_CERTIFICATE_LOCATION": str(certificate),
        "RECOUNT_KAFKA_SECURITY_SSL_KEY_LOCATION": str(key),
        "RECOUNT_KAFKA_SECURITY_SSL_KEY_PASSWORD": secret,
        "RECOUNT_KAFKA_SECURITY_SSL_CA_LOCATION": str(certificate),
    }

    process = recount.start("settings", more=more, stdout=-1)
    told, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert b"s3cr3t" not in told
    rows = {row["variable"]: row["value"] for row in map(json.loads, told.splitlines())}
    assert rows["RECOUNT_REDIS"] == "redis://user:***@h:1/0?password=***"
    assert rows["RECOUNT_KAFKA_SECURITY_SASL_USERNAME"] == "who"
    assert rows["RECOUNT_KAFKA_SECURITY_SSL_CA_LOCATION"] == str(certificate)
    hidden = {rows[name] for name in more if name.endswith("PASSWORD")}
    assert hidden == {"***"}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[[], socket.socket]:
    """A telemetry port whose answers may take a second; connects to it."""
    monkeypatch.setattr(telemetry, "ANSWER_S_MAX", 1.0)
    port = free_port()
    telemetry.answer(
        "127.0.0.1",
        port,
        telemetry.Sampled({}, lambda: ()),
        is_alive=lambda: True,
        readiness=lambda: (True, "ready"),
    )
    return lambda: socket.create_connection(("127.0.0.1", port), timeout=5)


def test_telemetry_bounds_its_callers(told: Callable[[], socket.socket]) -> None:
    """Silent callers are hung up on after their time; one too many is hung up on at once."""
    silent = [told() for _ in range(telemetry.CALLERS_MAX)]
    one_more = told()

    assert one_more.recv(1) == b""
    for each in silent:
        each.sendall(b"GET /hea")
        assert each.recv(1) == b""
    again = told()
    again.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert again.makefile("rb").read().endswith(b"alive\n")
    for each in (*silent, one_more, again):
        each.close()


def test_telemetry_listens_where_it_is_told(told: Callable[[], socket.socket]) -> None:
    """By default only this machine can ask: another of its addresses does not answer."""
    with told() as here:
        port = here.getpeername()[1]

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)
