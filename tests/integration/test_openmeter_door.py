"""OpenMeter's own clients, unchanged, and what its door says of events and questions."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..nodejs import NEEDS_NODE
from ..services import Recount, Services, fresh
from .clients import driven
from .doors import Server, serving

pytestmark = pytest.mark.timeout(300)  # the first that needs Node installs its packages
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251  a test's clock
HOUR = timedelta(hours=1)
ONE, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


@pytest.fixture(scope="module")
def server(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for every test, which keeps its events apart by their types."""
    recount = Recount(stack, fresh("openmeter"))
    recount.run("init", "--partitions", "2")
    with serving(recount, tmp_path_factory.mktemp("server") / "serve.log") as made:
        yield made


def meter(server: Server, type_: str, aggregation: str = "SUM") -> str:
    """Create a metric of an event type by model, with its name; return the name."""
    name = f"{type_}_{aggregation.lower()}"
    body: dict[str, Any] = {
        "name": name,
        "aggregation_type": aggregation,
        "event_type_filter": {"in_values": [type_]},
        "property_filters": [{"name": "tokens"}, {"name": "model", "exists": True}],
        "group_keys": [["model"]],
    }
    server.recount.create({**body, **({} if aggregation == "COUNT" else KEYED)})
    return name


KEYED = {"aggregation_key": "tokens"}


def event(number: int, type_: str, **members: Any) -> dict[str, Any]:
    """An event: ann's and bob's in turn, large and small by twos."""
    return {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": f"/{type_}",
        "type": type_,
        "subject": ("ann", "bob")[number % 2],
        "time": (NOW - HOUR + timedelta(seconds=number)).isoformat(),
        "data": {"tokens": number, "model": ("large", "small")[number // 2 % 2]},
        **members,
    }


@pytest.mark.parametrize(
    "file", ["openmeter_python.py", pytest.param("openmeter_node.js", marks=NEEDS_NODE)]
)
def test_a_client_ingests_and_asks(server: Server, file: str) -> None:
    """Each event counts once, whatever it was sent by; each question has exact numbers."""
    type_ = file.split(".", maxsplit=1)[0]
    name = meter(server, type_)
    events = [event(number, type_) for number in range(8)]
    assert driven(file, url=server.url, key=server.keys["ingest"], events=events) == []
    server.recount.catch_up()
    period = {"from": (NOW - HOUR).isoformat(), "to": (NOW + HOUR).isoformat()}
    by_window, filtered, refused = driven(
        file, url=server.url, key=server.keys["read"], meter=name, **period
    )

    assert sorted(by_window, key=str) == [
        [10, "bob", {"model": "small"}],
        [4, "ann", {"model": "large"}],
        [6, "bob", {"model": "large"}],
        [8, "ann", {"model": "small"}],
    ]
    assert filtered == [[4 + 6, None, {}]]
    assert refused[0] == 400
    assert "windowSize is HOUR, DAY or MONTH" in refused[1]


def asked(server: Server, name: str, **params: Any) -> httpx.Response:
    """A question to a meter over the two hours around now's hour."""
    period = {"from": (NOW - HOUR).isoformat(), "to": (NOW + HOUR).isoformat()}
    return httpx.get(
        f"{server.url}/api/v1/meters/{name}/query",
        params={**period, **params},
        headers={"Authorization": f"Bearer {server.keys['read']}"},
        timeout=30,
    )


def sent(server: Server, body: Any, media: str = BATCH, role: str = "ingest") -> httpx.Response:
    """A body of events."""
    return httpx.post(
        f"{server.url}/api/v1/events",
        content=body if isinstance(body, bytes) else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {server.keys[role]}", "Content-Type": media},
        timeout=60,
    )


def test_what_adds_up_over_subjects(server: Server) -> None:
    """Counts, sums, greatest values of all subjects; distinct ones only of each (CE4, CE5)."""
    names = {each: meter(server, "added", each) for each in ("COUNT", "SUM", "MAX", "UNIQUE")}
    tokens = ("-5", 0, "2.5", "2.5")
    events = [
        event(number, "added", data={"tokens": held, "model": ("large", "small")[number % 2]})
        for number, held in enumerate(tokens)
    ]
    assert sent(server, events).status_code == 204
    assert sent(server, events[0], ONE).status_code == 204
    server.recount.catch_up()

    def values(name: str, **params: Any) -> list[Any]:
        answer = asked(server, names[name], **params)
        assert answer.status_code == 200, answer.text
        found = json.loads(answer.text, parse_float=Decimal)
        assert found["as_of"]["unapplied"] == 0
        return [(row["value"], row["subject"], row["groupBy"]) for row in found["data"]]

    assert values("COUNT") == [(4, None, {})]
    assert values("SUM") == []  # a sum of zero reads as no usage
    assert values("SUM", groupBy=["model"]) == [
        (Decimal("-2.5"), None, {"model": "large"}),
        (Decimal("2.5"), None, {"model": "small"}),
    ]
    assert values("MAX") == [(Decimal("2.5"), None, {})]
    assert values("MAX", subject=["ann", "ann"], groupBy=["subject", "subject"]) == [
        (Decimal("2.5"), "ann", {})
    ]
    assert values("UNIQUE", groupBy=["subject"]) == [(2, "ann", {}), (2, "bob", {})]
    assert values("COUNT", subject=["nobody"]) == []
    assert values("COUNT", groupBy=["model"], **{"filterGroupBy[model]": "large"}) == [
        (2, None, {"model": "large"})
    ]
    refused = asked(server, names["UNIQUE"])
    assert refused.status_code == 400
    assert "cannot be added up over all subjects: group by them" in refused.json()["detail"]


def test_an_answer_says_whether_it_is_whole(recount: Recount, tmp_path: Path) -> None:
    """While an event is not applied, an answer is not complete, though no row of it says so."""
    recount.run("init", "--partitions", "2")
    log, more = tmp_path / "serve.log", ("RECOUNT_LATENESS=0s",)
    with serving(recount, log, more=more) as made:
        name = meter(made, "whole", "COUNT")
        recount.catch_up()

        def told() -> tuple[list[Any], bool]:
            answer = asked(made, name, to=NOW.isoformat(), groupBy=["model"]).json()
            return [row["value"] for row in answer["data"]], answer["complete"]

        assert told() == ([], True)
        assert sent(made, event(1, "whole"), ONE).status_code == 204
        assert told() == ([], False)
        recount.catch_up()
        assert told() == ([1], True)


def test_events_that_are_refused(server: Server) -> None:
    """The media type, the form of a batch, what an event lacks, too many: problem details."""
    good = event(1, "refused")
    lacks = {name: held for name, held in good.items() if name != "subject"}
    for body, media, status, told in (
        (good, "text/plain", 415, "Content-Type is"),
        (good, BATCH, 400, "a list of events"),
        ([good], ONE, 400, "one event, an object"),
        (lacks, ONE, 400, "subject is required"),
        ([good, {**good, "data": [1]}], BATCH, 400, "data is an object"),
        ([{**good, "data_base64": "AA=="}], BATCH, 400, "data_base64 cannot be counted"),
        ({**good, "time": "2020-01-01T00:00:00Z"}, ONE, 400, "days old"),
        (b"{", "application/json", 400, ""),
        ([good] * 20_001, BATCH, 413, "send several"),
    ):
        answer = sent(server, body, media)
        problem = answer.json()
        assert (answer.status_code, problem["status"]) == (status, status), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert told in problem["detail"], problem
        assert {"type", "title", "instance"} <= set(problem)
    field = sent(server, [good, lacks]).json()["extensions"]["validationErrors"][0]
    assert (field["code"], field["field"]) == ("CE-REQ", "/1/subject")
    assert sent(server, [], BATCH).status_code == 204
    assert sent(server, [good], "application/json; charset=utf-8").status_code == 204
    assert sent(server, good, "application/json", role="read").status_code == 403
    nulls = dict.fromkeys(("time", "data", "dataschema", "datacontenttype"))
    assert sent(server, {**event(2, "refused"), **nulls}, ONE).status_code == 204
    listed = httpx.get(f"{server.url}/api/v1/events")
    assert listed.status_code == 405
    assert listed.headers["content-type"] == "application/problem+json"


def test_questions_that_are_refused(server: Server) -> None:
    """What has no meaning here is named: sizes, filters, group keys, members, meters, forms."""
    name = meter(server, "questions")
    for params, status, told in (
        ({"windowSize": "MINUTE"}, 400, "less than an hour"),
        ({"windowSize": "day"}, 400, "HOUR, DAY or MONTH"),
        ({"windowTimeZone": "Mars/Base"}, 400, "windowTimeZone"),
        ({"from": "yesterday"}, 400, "from: "),
        ({"from": (NOW - HOUR + timedelta(seconds=1)).isoformat()}, 400, "base bucket"),
        ({"filterGroupBy": "{'model': 'large'}"}, 400, "filterGroupBy[NAME]=VALUE"),
        ({"filterCustomerId": "c"}, 400, "filterCustomerId"),
        ({"advancedMeterGroupByFilters": "{}"}, 400, "advancedMeterGroupByFilters"),
        ({"groupBy": ["region"]}, 400, "no group key"),
        ({"subject": [f"s{number}" for number in range(101)]}, 400, "100"),
    ):
        answer = asked(server, name, **params)
        assert answer.status_code == status, (params, answer.text)
        assert told in answer.json()["detail"], (params, answer.text)
    url = f"{server.url}/api/v1/meters/{name}/query"
    headers = {"Authorization": f"Bearer {server.keys['read']}"}
    unbounded = httpx.get(url, params={"windowSize": "DAY"}, headers=headers)
    assert "windowSize needs from" in unbounded.json()["detail"]
    whole = httpx.get(url, headers=headers)
    assert (whole.status_code, whole.json()["data"]) == (200, [])
    csv = httpx.get(url, headers={**headers, "Accept": "text/csv"})
    assert csv.status_code == 406
    wrong = httpx.post(url, json={"subject": "ann", "limit": 1}, headers=headers).json()
    assert {each["field"] for each in wrong["extensions"]["validationErrors"]} == {
        "/limit",
        "/subject",
    }
    assert asked(server, "nothing").status_code == 404
    events = httpx.get(url, headers={"Authorization": f"Bearer {server.keys['ingest']}"})
    assert events.status_code == 403
