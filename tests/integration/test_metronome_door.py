"""Metronome's official client, unchanged, against `recount serve`."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import metronome
import pytest

from pipeline.stack.processes import free_port

from ..services import Recount
from ..waiting import eventually
from .doors import Server, serving

pytestmark = pytest.mark.timeout(180)  # many commands, each a process of its own
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251  a test's clock
HOUR = timedelta(hours=1)
SUM: dict[str, Any] = {
    "name": "Tokens",
    "aggregation_type": "SUM",
    "aggregation_key": "tokens",
    "property_filters": [
        {"name": "tokens", "exists": True},
        {"name": "region", "exists": True},
    ],
    "group_keys": [["region"]],
}


@pytest.fixture
def server(recount: Recount, tmp_path: Path) -> Iterator[Server]:
    """A server of a deployment of its own."""
    recount.run("init", "--partitions", "2")
    with serving(recount, tmp_path / "serve.log") as made:
        yield made


def client_of(server: Server, role: str) -> metronome.Metronome:
    """The official client with a key of a role."""
    return metronome.Metronome(
        base_url=server.url,
        bearer_token=server.keys[role],
        max_retries=0,
        _strict_response_validation=True,
    )


def event(number: int, **members: Any) -> Any:
    """An event of the last hour."""
    made = {
        "transaction_id": f"t{number}",
        "customer_id": f"c{number % 2}",
        "event_type": "call",
        "timestamp": (NOW - HOUR + timedelta(seconds=number)).isoformat(),
        "properties": {"tokens": f"{number}.5", "region": "eu" if number % 3 else "us"},
    }
    return {**made, **members}


def test_every_call_of_the_official_client(server: Server) -> None:
    """Create, retrieve, list, rename, ingest, usage, groups, search, archive: typed answers."""
    manage, read = client_of(server, "manage"), client_of(server, "read")
    made = manage.v1.billable_metrics.create(**SUM)
    count = manage.v1.billable_metrics.create(name="Calls", aggregation_type="COUNT")
    found = read.v1.billable_metrics.retrieve(billable_metric_id=made.data.id)
    assert (found.data.name, found.data.group_keys) == ("Tokens", [["region"]])
    listed = list(read.v1.billable_metrics.list(limit=1))
    assert [metric.name for metric in listed] == ["Tokens", "Calls"]
    events = [event(number) for number in range(40)]
    client_of(server, "ingest").v1.usage.ingest(usage=[*events, events[0]])
    server.recount.catch_up()

    period: dict[str, Any] = {"starting_on": NOW - HOUR, "ending_before": NOW}
    rows = list(
        read.v1.usage.list(
            **period,
            window_size="NONE",
            billable_metrics=[{"id": made.data.id, "group_by": {"key": "region"}}],
            customer_ids=["c0", "c1", "nobody"],
        )
    )
    told = server.recount.run("usage", "Tokens", "--each-customer", *_options(NOW - HOUR, NOW))
    values = {line["customer_id"]: line["value"] for line in told[:-1]}
    assert {row.customer_id: row.value for row in rows} == {
        **{name: float(value) for name, value in values.items()},
        "nobody": 0.0,
    }
    assert set(rows[0].groups or {}) == {"eu", "us"}
    everything = list(read.v1.usage.list(**period, window_size="HOUR"))
    assert {(row.billable_metric_name, row.customer_id) for row in everything} == {
        (metric, customer) for metric in ("Tokens", "Calls") for customer in ("c0", "c1")
    }
    groups = list(
        read.v1.usage.list_with_groups(
            **period,
            billable_metric_id=made.data.id,
            customer_id="c0",
            window_size="HOUR",
            group_key=["region"],
            group_filters={"region": ["eu"]},
            limit=1,
        )
    )
    assert [row.group for row in groups] == [{"region": "eu"}]
    seen = read.v1.usage.search(transaction_ids=["t0", "t7"])
    assert sorted((each.transaction_id, each.is_duplicate) for each in seen) == [
        ("t0", False),
        ("t0", True),
        ("t7", False),
    ]
    assert {each.name for each in seen[0].matched_billable_metrics or []} == {"Tokens", "Calls"}

    manage.v1.billable_metrics.update(billable_metric_id=made.data.id, name="Tokens 2")
    manage.v1.billable_metrics.archive(id=count.data.id)
    assert [metric.name for metric in read.v1.billable_metrics.list()] == ["Tokens 2"]
    both = list(read.v1.billable_metrics.list(include_archived=True))
    assert [metric.archived_at is not None for metric in both] == [False, True]


def test_the_current_period_is_the_calendar_month(server: Server) -> None:
    """CM21: from the first of this month on, in UTC; the same as those dates given."""
    made = client_of(server, "manage").v1.billable_metrics.create(**SUM)
    month = NOW.replace(day=1, hour=0)
    ends = (month + timedelta(days=31)).replace(day=1)
    events = [
        event(0, timestamp=(month - HOUR).isoformat()),
        event(2, timestamp=month.isoformat()),
        event(4, timestamp=NOW.isoformat()),
    ]
    client_of(server, "ingest").v1.usage.ingest(usage=events)
    server.recount.catch_up()
    asked: dict[str, Any] = {
        "billable_metric_id": made.data.id,
        "customer_id": "c0",
        "window_size": "NONE",
    }
    usage = client_of(server, "read").v1.usage

    (now,) = usage.list_with_groups(**asked, current_period=True)

    (given,) = usage.list_with_groups(**asked, starting_on=month, ending_before=ends)
    assert (now.value, now.starting_on, now.ending_before) == (7, month, ends)
    assert now == given


def test_aliases_of_customers(server: Server) -> None:
    """CM22: what comes under an alias is its customer's; an alias moves, and can be listed by."""
    manage, read = client_of(server, "manage"), client_of(server, "read")
    made = manage.v1.customers.create(name="Example, Inc.", ingest_aliases=["c0", "team"]).data
    other = manage.v1.customers.create(name="Other").data
    metric = manage.v1.billable_metrics.create(**SUM).data.id
    ingest = client_of(server, "ingest").v1.usage.ingest

    def usage() -> dict[str, float | None]:
        server.recount.catch_up()
        rows = read.v1.usage.list(
            starting_on=NOW - HOUR,
            ending_before=NOW,
            window_size="NONE",
            billable_metrics=[{"id": metric}],
        )
        return {row.customer_id: row.value for row in rows}

    ingest(usage=[event(0), event(1), event(2, customer_id="team"), event(3, customer_id=made.id)])
    assert usage() == {made.id: 0.5 + 2.5 + 3.5, "c1": 1.5}

    manage.v1.customers.set_ingest_aliases(customer_id=other.id, ingest_aliases=["team", "t2"])
    ingest(usage=[event(4), event(6, customer_id="team")])
    ingest(usage=[event(0)])  # the same event, under the same alias, counts once
    assert usage() == {made.id: 0.5 + 2.5 + 3.5 + 4.5, other.id: 6.5, "c1": 1.5}

    found = read.v1.customers.retrieve(customer_id=made.id).data
    assert (found.name, found.ingest_aliases, found.external_id) == ("Example, Inc.", ["c0"], "c0")
    assert [each.id for each in read.v1.customers.list(ingest_alias="team")] == [other.id]
    assert [each.id for each in read.v1.customers.list(limit=1)] == [made.id, other.id]
    assert manage.v1.customers.set_name(customer_id=other.id, name="New").data.name == "New"
    manage.v1.customers.archive(id=other.id)
    assert [each.id for each in read.v1.customers.list()] == [made.id]
    assert [each.name for each in read.v1.customers.list(only_archived=True)] == ["New"]
    with pytest.raises(metronome.NotFoundError):
        manage.v1.customers.set_ingest_aliases(customer_id="nobody", ingest_aliases=[])
    with pytest.raises(metronome.BadRequestError):
        manage.v1.customers.create(name="Long", ingest_aliases=["x" * 257])
    assert read.v1.billable_metrics.retrieve(billable_metric_id=metric).data.id == metric


def _options(start: datetime, end: datetime) -> list[str]:
    return ["--starting-on", start.isoformat(), "--ending-before", end.isoformat()]


def test_decimals_are_exact_in_the_raw_body(server: Server) -> None:
    """The client makes floats; the bytes have every digit (C16)."""
    made = client_of(server, "manage").v1.billable_metrics.create(**SUM)
    exact = "123456789012345678901.000000000000000000001"
    client_of(server, "ingest").v1.usage.ingest(
        usage=[event(1, properties={"tokens": exact, "region": "eu"})]
    )
    server.recount.catch_up()
    raw = client_of(server, "read").v1.usage.with_raw_response.list(
        starting_on=NOW - HOUR,
        ending_before=NOW,
        window_size="NONE",
        billable_metrics=[{"id": made.data.id}],
    )

    assert exact in raw.text()


def test_errors_are_typed(server: Server) -> None:
    """Broken rules, unknown ids, wrong keys and wrong roles: the client's own exceptions."""
    manage, read = client_of(server, "manage"), client_of(server, "read")
    with pytest.raises(metronome.BadRequestError) as refused:
        manage.v1.billable_metrics.create(**{**SUM, "aggregation_key": "other"})
    assert "aggregation key" in str(refused.value.body)
    with pytest.raises(metronome.NotFoundError):
        read.v1.billable_metrics.retrieve(
            billable_metric_id="00000000-0000-0000-0000-000000000000"
        )
    with pytest.raises(metronome.PermissionDeniedError):
        read.v1.billable_metrics.create(name="x", aggregation_type="COUNT")
    stranger = Server(server.recount, server.port, {"read": "rk_000000000000_nothing"})
    with pytest.raises(metronome.AuthenticationError):
        client_of(stranger, "read").v1.billable_metrics.list()
    manage.v1.billable_metrics.create(**SUM)
    with pytest.raises(metronome.ConflictError):
        manage.v1.billable_metrics.create(**SUM)
    with pytest.raises(metronome.BadRequestError):
        client_of(server, "ingest").v1.usage.ingest(usage=[event(1), event(2, timestamp="now")])
    assert server.recount.run("status")[-1]["end"] == 0  # nothing of a refused batch was taken


def test_a_second_server_reads_what_the_first_wrote(server: Server, tmp_path: Path) -> None:
    """After a create returns, any server sees it, also a key, and a key's end."""
    with serving(server.recount, tmp_path / "second.log", server.keys) as second:
        for number in range(5):
            made = client_of(server, "manage").v1.billable_metrics.create(
                name=f"m{number}", aggregation_type="COUNT"
            )
            found = client_of(second, "read").v1.billable_metrics.retrieve(
                billable_metric_id=made.data.id
            )
            assert found.data.name == f"m{number}"
        key = server.recount.run("keys", "create", "--name", "new", "--role", "read")[0]
        new = Server(server.recount, second.port, {"read": key["key"]})
        assert len(list(client_of(new, "read").v1.billable_metrics.list())) == 5
        server.recount.run("keys", "revoke", key["id"])
        client_of(second, "manage").v1.billable_metrics.create(name="m", aggregation_type="COUNT")
        with pytest.raises(metronome.AuthenticationError):
            client_of(new, "read").v1.billable_metrics.list()
    listed = server.recount.run("keys", "list")
    assert {line["name"] for line in listed} == {"ingest", "read", "manage"}
    assert not any("key" in line for line in listed)


def test_recounts_own_door(server: Server) -> None:
    """Status, metrics, usage, rejected and explain say what the command line says."""
    client_of(server, "manage").v1.billable_metrics.create(**SUM)
    client_of(server, "ingest").v1.usage.ingest(usage=[event(number) for number in range(9)])
    server.recount.publish([b"rubbish"])
    server.recount.catch_up()
    with httpx.Client(
        base_url=server.url, headers={"Authorization": f"Bearer {server.keys['read']}"}
    ) as own:
        status = own.get("/recount/v1/status").json()["data"]
        assert status[-1]["counted"] == 9
        assert own.get("/recount/v1/metrics").json()["data"][0]["name"] == "Tokens"
        asked = {
            "customer": "c1",
            "starting_on": (NOW - HOUR).isoformat(),
            "ending_before": NOW.isoformat(),
        }
        (listed,) = own.get("/recount/v1/metrics").json()["data"]
        assert listed == server.recount.run("metrics", "show", "Tokens")[0]
        shown = own.get("/recount/v1/metrics/Tokens").json()["data"]
        assert {**listed, "native": SUM, "neutral": shown["neutral"]} == shown
        grouped = {**asked, "group_key": "region", "group_filter": "region=eu"}
        (line,) = own.get("/recount/v1/usage/Tokens", params=grouped).json()["data"]
        assert line["group"] == {"region": "eu"}
        usage = own.get("/recount/v1/usage/Tokens", params=asked).json()
        options = ["--customer", "c1", *_options(NOW - HOUR, NOW)]
        assert usage["data"] == server.recount.run("usage", "Tokens", *options)[:-1]
        assert usage["as_of"]["offsets"]
        assert own.get("/recount/v1/rejected").json()["data"][0]["original"] == "rubbish"
        (line,) = own.get("/recount/v1/explain/t3").json()["data"]
        assert line["fate"] == "counted"
        assert own.get("/recount/v1/usage/nothing", params=asked).status_code == 404
        assert own.get("/recount/v1/usage/Tokens").status_code == 400
        assert own.get("/nothing").json() == {"message": "The specified resource was not found"}


def test_bodies_have_bounds(server: Server) -> None:
    """Too large, not gzip, not JSON, nested, huge numbers: a clear answer, and never a 500."""
    headers = {"Authorization": f"Bearer {server.keys['ingest']}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=20) as own:
        for body, more, status in (
            (b"[" * 100_000, {}, 400),
            (b"x" * 6_000_000, {}, 413),
            (b"{", {}, 400),
            (b"\xff\xfe", {}, 400),
            (b"not gzip", {"Content-Encoding": "gzip"}, 400),
            (b"[]", {"Content-Encoding": "br"}, 415),
            (json.dumps([event(1)] * 101).encode(), {}, 400),
            (b'[{"transaction_id": ' + b"9" * 5_000 + b"}]", {}, 400),
            (b'[{"transaction_id": "\\ud800"}]', {}, 400),
        ):
            answer = own.post("/v1/ingest", content=body, headers=more)
            assert answer.status_code == status, answer.text
            assert set(answer.json()) == {"message"}
            assert answer.headers["x-request-id"]


def test_a_server_tells_how_it_is(recount: Recount, tmp_path: Path) -> None:
    """/healthz, /readyz and /metrics on a port of their own: requests by door, events taken."""
    recount.run("init", "--partitions", "1")
    port = free_port()
    with serving(recount, tmp_path / "serve.log", more=(f"RECOUNT_TELEMETRY_PORT={port}",)) as one:
        client_of(one, "ingest").v1.usage.ingest(usage=[event(number) for number in range(7)])
        with pytest.raises(metronome.PermissionDeniedError):
            client_of(one, "ingest").v1.billable_metrics.list()

        def ask(path: str) -> httpx.Response:
            return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5)

        eventually(lambda: ask("/readyz").text == "ready\n", within_s=10, because="it is ready")
        assert ask("/healthz").text == "alive\n"
        told = ask("/metrics").text
        assert "recount_taken_events_total 7.0" in told
        assert 'recount_requests_total{door="metronome",status="200"} 1.0' in told
        assert 'recount_requests_total{door="metronome",status="403"} 1.0' in told
        assert "recount_in_flight_events 0.0" in told


def test_a_keys_limit_holds_over_servers(recount: Recount, tmp_path: Path) -> None:
    """Two servers count one key's requests together; another key is not touched by it."""
    recount.run("init", "--partitions", "1")
    more = ("RECOUNT_KEY_REQUESTS_PER_S_MAX=3",)
    with (
        serving(recount, tmp_path / "one.log", more=more) as one,
        serving(recount, tmp_path / "two.log", one.keys, more=more) as two,
    ):
        headers = {"Authorization": f"Bearer {one.keys['read']}"}
        urls = [f"{each.url}/v1/billable-metrics" for each in (one, two)] * 10
        with httpx.Client(headers=headers, timeout=20) as own:
            began = time.monotonic()
            answers = [own.get(url) for url in urls]
            seconds = int(time.monotonic() - began) + 2
        passed = [answer for answer in answers if answer.status_code == 200]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(passed) + len(refused) == len(urls)
        assert 3 <= len(passed) <= 3 * seconds
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        client_of(one, "manage").v1.billable_metrics.list()
