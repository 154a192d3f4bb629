"""What the doors do with requests that nobody means well: generated ones, and raw sockets."""

import gzip
import json
import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import zstandard
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ..services import ROOT, Recount
from .doors import Server, certified, serving

pytestmark = pytest.mark.timeout(400)
EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "12"))  # of each operation
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture
def server(recount: Recount, tmp_path: Path) -> Iterator[Server]:
    """A server of a deployment of its own."""
    recount.run("init", "--partitions", "2")
    with serving(recount, tmp_path / "serve.log") as made:
        yield made


def every_key(server: Server) -> str:
    """A key that may do everything."""
    made = server.recount.run(
        "keys", "create", "--name", "all", "--role", "manage", "--role", "ingest"
    )
    key: str = made[0]["key"]
    return key


def test_no_generated_request_breaks_a_door(server: Server) -> None:
    """Of every operation: never a 5xx, never an answer that the OpenAPI page does not tell of."""
    key = every_key(server)
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    headers = {"Authorization": f"Bearer {key}", "revision": "2025-04-15"}
    tried = 0
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def asked(case: Any) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS, timeout=30)

        asked()
        tried += 1
    assert tried > 35
    assert server.answers()


def bodies() -> list[tuple[str, str, Any]]:
    """Every native body that the payloads have: method, path, body."""
    paths = {
        ("metronome", "create_definition"): "/v1/billable-metrics/create",
        ("metronome", "event"): "/v1/ingest",
        ("metronome", "archive"): "/v1/billable-metrics/archive",
        ("klaviyo", "create_definition"): "/api/custom-metrics",
        ("klaviyo", "event"): "/api/events",
        ("klaviyo", "read_query"): "/api/metric-aggregates",
        ("statsig", "create_definition"): "/console/v1/metrics",
        ("statsig", "event"): "/v1/log_event",
    }
    folder = ROOT / "tests/data/formats/payloads"
    found = []
    for name, entry in json.loads((folder / "index.json").read_text()).items():
        path = paths.get((entry["system"], entry["kind"]))
        body = json.loads((folder / f"{name}.json").read_text())
        if name.startswith("metronome_usage") and "response" not in name:
            path = "/v1/usage/groups" if "groups" in name else "/v1/usage"
        if path and len(json.dumps(body)) < 20_000:
            found.append(("POST", path, body))
            if entry["kind"] == "create_definition":
                patched = {"metronome": "PUT", "klaviyo": "PATCH", "statsig": "POST"}
                other = path.removesuffix("/create") + "/some%2Fid"
                found.append((patched[entry["system"]], other, body))
    return found


junk = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
        st.sampled_from(["", "\0", "a" * 3_000, "2026-11-19T01:00:00Z", "day", "__proto__", "::"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def spoilt(draw: Any) -> tuple[str, str, Any]:
    """A native body with some member, at any depth, replaced, left out, added or repeated."""
    method, path, body = draw(st.sampled_from(BODIES))
    body = json.loads(json.dumps(body))
    for _ in range(draw(st.integers(1, 3))):
        place, depth = body, draw(st.integers(0, 8))
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            if depth == 0 or not isinstance(place[key], dict | list) or not place[key]:
                kind = draw(st.integers(0, 3))
                if kind == 0:
                    del place[key]
                elif kind == 1 and isinstance(place, list):
                    place.append(place[key])
                elif kind == 1:
                    place[draw(st.text(max_size=4))] = place[key]
                else:
                    place[key] = draw(junk)
                break
            place, depth = place[key], depth - 1
    return method, path, body


BODIES = bodies()


def test_no_spoilt_body_breaks_a_door(server: Server) -> None:
    """Every native body with something wrong at any depth: taken or refused, never a 5xx."""
    headers = {"Authorization": f"Bearer {every_key(server)}", "revision": "2025-04-15"}
    seen: Counter[int] = Counter()
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:

        @settings(
            max_examples=EXAMPLES * 25,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(asked=spoilt())
        def ask(asked: tuple[str, str, Any]) -> None:
            method, path, body = asked
            answer = client.request(method, path, content=json.dumps(body))
            seen[answer.status_code] += 1
            assert answer.status_code < 500, (asked, answer.text)
            if answer.content:
                json.loads(answer.content)

        ask()
    assert seen[400] > EXAMPLES
    assert set(seen) <= {200, 201, 202, 400, 403, 404, 409, 413}


def send(server: Server, raw: bytes, *, within_s: float = 20) -> bytes:
    """Send bytes and return what comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=within_s) as client:
        client.sendall(raw)
        found = b""
        while part := client.recv(65_536):
            found += part
            if b"\r\n\r\n" in found and b"HTTP/1.1 4" in found[:12]:
                break
        return found


def test_headers_have_bounds(server: Server) -> None:
    """One endless header, a great many, no HTTP at all: 400, closed, and the server goes on."""
    bombs = (
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"\x16\x03\x01 what is this\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    for bomb in bombs:
        with suppress(ConnectionError):  # closed while we were still sending: as good
            assert send(server, bomb).startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))
        assert server.answers()


def test_silent_clients_do_not_hold_the_server(server: Server) -> None:
    """Headers that never end are given up; meanwhile others are served."""
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    try:
        for each in silent:
            each.sendall(b"POST /v1/ingest HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert server.answers()
        silent[0].settimeout(20)
        assert silent[0].recv(100) == b""
    finally:
        for each in silent:
            each.close()


def test_a_slow_body_ends_in_time(server: Server) -> None:
    """A body that does not come within its time is 408; others are served meanwhile."""
    key = every_key(server)
    head = f"POST /v1/ingest HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as slow:
        slow.sendall(f"{head}Content-Length: 1000\r\n\r\n[".encode())
        assert server.answers()
        assert slow.recv(65_536).startswith(b"HTTP/1.1 408")


# A frame whose window is larger than HTTP allows: memory for who unpacks it.
_WIDE = zstandard.ZstdCompressionParameters(window_log=24, enable_ldm=True)
_packer = zstandard.ZstdCompressor(compression_params=_WIDE).compressobj()
WIDE = _packer.compress(b"[]") + _packer.flush()
HARMFUL = (
    (b"\xff\xfe[\x00", "identity", 400),
    ("[]".encode("utf-16"), "identity", 400),
    (b'{"a": 1' + b"0" * 4_000_000 + b"}", "identity", 400),
    (b"[" * 1_000_000, "identity", 400),
    (b'{"a":' * 500_000, "identity", 400),
    (gzip.compress(b"0" * 50_000_000), "gzip", 413),
    (gzip.compress(b"[]")[:-4], "gzip", 400),
    (zstandard.compress(b"0" * 50_000_000), "zstd", 413),
    (zstandard.compress(b"[]")[:-1], "zstd", 400),
    (zstandard.compress(b"[]") + b"more", "zstd", 400),
    (zstandard.compress(b"") * 101, "zstd", 400),
    (gzip.compress(b"[]"), "zstd", 400),
    (WIDE, "zstd", 400),
    (b"[]", "br", 415),
    (b"[1e999999999]", "identity", 400),
    (b"[NaN]", "identity", 400),
    (b'"\\ud800"', "identity", 400),
)
PATHS = (
    "/v1/ingest",
    "/v1/usage",
    "/v1/billable-metrics/create",
    "/v1/events/search",
    "/api/events",
    "/api/custom-metrics",
    "/api/metric-aggregates",
    "/console/v1/metrics",
    "/v1/log_event",
    "/v1/rgstr",
    "/api/v1/events",
    "/api/v1/meters/m/query",
)


def test_bodies_that_mean_harm(server: Server) -> None:
    """Bad encodings, bombs, depth, huge numbers: the same clear answer at every door."""
    headers = {"Authorization": f"Bearer {every_key(server)}", "revision": "2025-04-15"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        for body, encoding, status in HARMFUL:
            for path in PATHS:
                more = {"Content-Encoding": encoding, "Content-Type": "application/json"}
                answer = client.post(path, content=body, headers=more)
                assert answer.status_code == status, (path, body[:20], answer.text[:300])
                assert len(answer.content) < 10_000
                json.loads(answer.content)


def test_it_speaks_tls(recount: Recount, tmp_path: Path) -> None:
    """With a certificate and its key, HTTPS; no key of ours is ever in a log."""
    recount.run("init", "--partitions", "1")
    trusting, pem, key = certified(tmp_path)
    log = tmp_path / "serve.log"
    more = (f"RECOUNT_TLS_CERTIFICATE={pem}", f"RECOUNT_TLS_KEY={key}")
    with serving(recount, log, more=more) as made:
        headers = {"Authorization": f"Bearer {made.keys['read']}"}
        answer = httpx.get(f"{made.url}/recount/v1/status", headers=headers, verify=trusting)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
    assert not any(text in log.read_text() for text in made.keys.values())
