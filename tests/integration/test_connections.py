"""What a server does with clients that stop half way, that are many, and that are slow."""

import json
import socket
import ssl
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.edges.clock import SystemClock

from ..services import Recount
from ..waiting import eventually
from .doors import Server, certified, serving

OF_ADDRESS_MAX = 20


def _connected(server: Server, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(
        ("127.0.0.1", server.port), timeout=10, source_address=(source, 0)
    )


def _status(connection: socket.socket) -> tuple[int, bytes]:
    """The status of an answer, and its headers."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(65_536)
        assert part, head
        head += part
    head, _, body = head.lower().partition(b"\r\n\r\n")
    length = int(head.partition(b"content-length:")[2].split()[0])
    while len(body) < length:
        body += connection.recv(65_536)
    return int(head.split()[1]), head


def _is_closed(connection: socket.socket) -> bool:
    """Whether the other side hangs up by itself."""
    try:
        while connection.recv(65_536):
            pass
    except (ConnectionResetError, BrokenPipeError):
        return True
    return True


HALVES = {
    "nobody reads it": b"GET /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\na",
    "no key": b"POST /v1/ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n[",
    "in chunks": b"POST /api/events HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    "asks first": b"POST /nope HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    b"Content-Length: 99\r\n\r\n",
}


def test_an_answer_before_the_end_of_a_body_ends_the_connection(
    recount: Recount, tmp_path: Path
) -> None:
    """However the body is cut, the answer comes, and then the connection is closed."""
    recount.run("init", "--partitions", "1")
    with serving(recount, tmp_path / "serve.log") as server:
        for name, half in HALVES.items():
            with _connected(server) as connection:
                connection.sendall(half)
                status, head = _status(connection)
                assert status in {400, 401, 404}, name
                assert b"connection: close" in head, name
                connection.settimeout(10)
                assert _is_closed(connection), name

        with _connected(server) as connection:  # what was read whole goes on
            for _ in range(3):
                connection.sendall(b"GET /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab")
                status, head = _status(connection)
                assert status == 404
                assert b"connection: close" not in head


@pytest.mark.parametrize("tls", [False, True])
def test_one_address_cannot_take_the_server(recount: Recount, tmp_path: Path, tls: bool) -> None:
    """Past its bound an address is hung up on; another address, and itself later, are served.

    With TLS the connections that are held have not even begun to shake hands.
    """
    recount.run("init", "--partitions", "1")
    more = [f"RECOUNT_CONNECTIONS_PER_ADDRESS_MAX={OF_ADDRESS_MAX}"]
    trusting: ssl.SSLContext | None = None
    if tls:
        trusting, pem, key = certified(tmp_path)
        more += [f"RECOUNT_TLS_CERTIFICATE={pem}", f"RECOUNT_TLS_KEY={key}"]
    with serving(recount, tmp_path / "serve.log", {}, more=more) as server:
        held = [_connected(server, "127.0.0.3") for _ in range(OF_ADDRESS_MAX)]
        for connection in held if not tls else ():
            connection.sendall(b"GET /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\na")
        one_more = _connected(server, "127.0.0.3")
        assert _is_closed(one_more)

        verify = trusting or False
        assert httpx.get(f"{server.url}/nope", verify=verify).status_code == 404

        for connection in (*held, one_more):
            connection.close()

        def served() -> bool:
            source = httpx.HTTPTransport(local_address="127.0.0.3", verify=verify)
            with httpx.Client(transport=source) as client:
                try:
                    return client.get(f"{server.url}/nope").status_code == 404
                except httpx.HTTPError:
                    return False

        eventually(served, within_s=20, because="closed connections are forgotten")


def _event(age_s: float) -> dict[str, Any]:
    return {
        "transaction_id": f"t{age_s}",
        "customer_id": "c",
        "event_type": "use",
        "timestamp": (SystemClock().now() - timedelta(seconds=age_s)).isoformat(),
        "properties": {},
    }


def test_age_is_judged_when_the_body_is_there(recount: Recount, tmp_path: Path) -> None:
    """An event that grew too old while its body came is refused, by which event it is.

    The deployment takes 100 s; its doors take a tenth less, so that a worker takes what they took.
    """
    recount.run("init", "--partitions", "1", "--max-age-days", str(100 / 86_400))
    with serving(recount, tmp_path / "serve.log") as server:
        body = json.dumps([_event(5), _event(88)]).encode()
        with _connected(server) as connection:
            connection.sendall(
                b"POST /v1/ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
                % (server.keys["ingest"].encode(), len(body), body[:-1])
            )
            sent = time.monotonic()
            eventually(
                lambda: time.monotonic() - sent > 4, within_s=10, because="the body is slow"
            )
            connection.sendall(body[-1:])
            status, _ = _status(connection)
        fast = httpx.post(
            f"{server.url}/v1/ingest",
            json=[_event(5), _event(95)],
            headers={"Authorization": f"Bearer {server.keys['ingest']}"},
        )
        taken = httpx.post(
            f"{server.url}/v1/ingest",
            json=[_event(7), _event(80)],
            headers={"Authorization": f"Bearer {server.keys['ingest']}"},
        )

    assert status == 400
    assert fast.status_code == 400
    assert 'events[1] (transaction_id "t95")' in fast.json()["message"]
    assert taken.status_code == 200
    recount.catch_up()
    total = recount.run("status")[-1]
    assert (total["unmatched"], total["rejected"]) == (2, 0)


def test_the_deployments_age_limits_hold_at_every_door(recount: Recount, tmp_path: Path) -> None:
    """A deployment of 120 days takes an event of 100 days and refuses one of 130, at each door."""
    recount.run("init", "--partitions", "1", "--max-age-days", "120", "--dedup-window-days", "121")
    day = 86_400.0
    with serving(recount, tmp_path / "serve.log") as server:
        for age_s, wanted in ((100 * day, True), (130 * day, False)):
            at = (SystemClock().now() - timedelta(seconds=age_s)).isoformat()
            answers = [
                _post(server, "/v1/ingest", [_event(age_s)]),
                _post(server, "/v1/ingest", [{**_event(age_s), "properties": {"a": "\u00e9"}}]),
                _post(server, "/v1/log_event", {"events": [{"eventName": "e", "time": at}]}),
                _post(server, "/api/events", _klaviyo(at), revision="2026-07-15"),
            ]
            assert [answer.is_success for answer in answers] == [wanted] * 4, [
                answer.text for answer in answers
            ]
            if not wanted:
                assert all("130 days old" in answer.text for answer in answers)


def test_every_problem_of_a_batch_names_its_event(recount: Recount, tmp_path: Path) -> None:
    """One bad event among a hundred is named by place and id; of very many, how many more."""
    recount.run("init", "--partitions", "1")
    batch = [_event(number) for number in range(100)]
    batch[57] = {name: text for name, text in batch[57].items() if name != "customer_id"}
    with serving(recount, tmp_path / "serve.log") as server:
        one = _post(server, "/v1/ingest", batch)
        every = _post(server, "/v1/ingest", [{"transaction_id": f"t-{n}"} for n in range(100)])

    assert one.json() == {"message": 'events[57] (transaction_id "t57"): customer_id is required'}
    assert 'events[0] (transaction_id "t-0"): customer_id is required' in every.json()["message"]
    assert every.json()["message"].endswith("; and 200 more")


def _klaviyo(at: str) -> dict[str, Any]:
    attributes = {
        "time": at,
        "properties": {},
        "metric": {"data": {"type": "metric", "attributes": {"name": "m"}}},
        "profile": {"data": {"type": "profile", "attributes": {"email": "a@example.com"}}},
    }
    return {"data": {"type": "event", "attributes": attributes}}


def _post(server: Server, path: str, body: Any, **headers: str) -> httpx.Response:
    key = server.keys["ingest"]
    allowed = {"Authorization": f"Bearer {key}", "Statsig-Api-Key": key, **headers}
    if path.startswith("/api/"):
        allowed["Authorization"] = f"Klaviyo-API-Key {key}"
    return httpx.post(f"{server.url}{path}", json=body, headers=allowed, timeout=20)
