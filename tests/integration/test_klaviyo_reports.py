"""Klaviyo's reports, by the official client, against numbers made by hand from the same events."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from openapi_client.exceptions import ApiException

from definitions.errors import DefinitionError
from pipeline.doors.klaviyo.reporting import CAMPAIGNS, TIMEFRAMES, check

from ..services import Recount
from .doors import Server, serving
from .test_klaviyo_door import HOUR, NOW, aggregates, client_of, custom, event

pytestmark = pytest.mark.timeout(240)  # many commands, each a process of its own
ONLINE: dict[str, Any] = {
    "aggregation_method": "value",
    "metric_groups": [
        {
            "metric_id": "Placed Order",
            "metric_filters": [
                {
                    "property": "Source",
                    "filter": {"type": "string", "operator": "equals", "value": "web"},
                }
            ],
        }
    ],
}


@pytest.fixture
def server(recount: Recount, tmp_path: Path) -> Iterator[Server]:
    """A server that knows which campaign two messages belong to."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"klaviyo": {"campaigns": {"m1": "sale", "m2": "sale"}}}))
    recount.run("init", "--partitions", "2", "--config", str(file))
    with serving(recount, tmp_path / "serve.log") as made:
        yield made


def sent(number: int, name: str, message: str, flow: str | None = None) -> dict[str, Any]:
    """An event of a message."""
    properties = {"$message": message, **({} if flow is None else {"$flow": flow})}
    return event(number, name, properties=properties, value=None)


def order(
    number: int, message: str | None, flow: str | None = None, **more: Any
) -> dict[str, Any]:
    """An order, attributed to a message."""
    led = {"$attributed_message": message, "$attributed_flow": flow}
    properties = {"Source": "web", **{key: each for key, each in led.items() if each}, **more}
    return event(number, properties=properties)


# Profiles are number % 3. Message m1 of a campaign: four sent to three, opened by two.
EVENTS = [
    *(sent(number, "Received Email", "m1") for number in (0, 1, 2, 3)),
    sent(4, "Bounced Email", "m1"),
    *(sent(number, "Opened Email", "m1") for number in (0, 3, 1)),
    sent(0, "Clicked Email", "m1"),
    sent(5, "Received Email", "m2"),
    *(sent(number, "Received Email", "f1", "welcome") for number in (6, 7)),
    sent(6, "Opened Email", "f1", "welcome"),
    order(10, "m1"),
    order(13, "m1"),
    order(11, "m1"),
    order(12, "m1", Source="pos"),  # no conversion of this metric
    order(20, "f1", "welcome"),
    order(21, None),  # nothing led to it
]


def report(kind: str, metric_id: str, *statistics: str, **members: Any) -> dict[str, Any]:
    """A question about the last two days."""
    days = [NOW.replace(hour=0) + timedelta(days=shift) for shift in (-1, 1)]
    frame = dict(zip(("start", "end"), (day.isoformat() for day in days), strict=True))
    attributes = {
        "statistics": list(statistics),
        "timeframe": frame,
        "conversion_metric_id": metric_id,
        **members,
    }
    return {"data": {"type": kind, "attributes": attributes}}


def test_reports_of_campaigns_and_flows(server: Server, recount: Recount) -> None:
    """Conversions, values, uniques and rates of each message; the whole past; typed answers."""
    manage, read = client_of(server, "manage"), client_of(server, "read")
    for body in EVENTS:
        client_of(server, "ingest").Events.create_event(body)
    made = manage.Metrics.create_custom_metric(custom("Online", ONLINE)).data.id
    names = ("conversions", "conversion_value", "conversion_uniques", "conversion_rate")
    mail = ("delivered", "recipients", "opens", "opens_unique", "open_rate", "clicks", "bounced")
    asked = report("campaign-values-report", made, *names, *mail)
    recount.run("worker", "--until-caught-up")
    with pytest.raises(ApiException) as refused:  # a key that reads begins to count nothing
        read.Reporting.query_campaign_values(asked)
    assert refused.value.status == 403
    manage.Reporting.query_campaign_values(asked)  # now it is counted, with its past
    recount.run("worker", "--until-caught-up")

    found = read.Reporting.query_campaign_values(asked).data.attributes.results

    rows = {each.groupings["campaign_message_id"]: each for each in found}
    assert rows.keys() == {"m1", "m2"}
    assert rows["m1"].groupings == {
        "campaign_id": "sale",
        "campaign_message_id": "m1",
        "send_channel": "email",
    }
    assert rows["m1"].statistics == {
        "conversions": 3,
        "conversion_value": 10.5 + 13.5 + 11.5,
        "conversion_uniques": 2,
        "conversion_rate": 0.5,
        "delivered": 4,
        "recipients": 5,
        "opens": 3,
        "opens_unique": 2,
        "open_rate": 0.5,
        "clicks": 1,
        "bounced": 1,
    }
    assert rows["m2"].statistics["open_rate"] == 0

    filtered = report(
        "campaign-values-report",
        made,
        "opens",
        filter='and(equals(campaign_id,"sale"),contains-any(campaign_message_id,["m2"]))',
    )
    (only,) = read.Reporting.query_campaign_values(filtered).data.attributes.results
    assert (only.groupings["campaign_message_id"], only.statistics) == ("m2", {"opens": 0})

    flows = report("flow-values-report", made, *names, "opens")
    (flow,) = read.Reporting.query_flow_values(flows).data.attributes.results
    assert (flow.groupings["flow_id"], flow.groupings["flow_message_id"]) == ("welcome", "f1")
    assert flow.statistics == {
        "conversions": 1,
        "conversion_value": 20.5,
        "conversion_uniques": 1,
        "conversion_rate": 0.5,
        "opens": 1,
    }

    series = report("flow-series-report", made, "conversions", "opens", interval="daily")
    answer = read.Reporting.query_flow_series(series).data.attributes
    (row,) = answer.results
    assert len(answer.date_times) == 2
    assert {name: sum(held) for name, held in row.statistics.items()} == {
        "conversions": 1,
        "opens": 1,
    }
    day = (NOW - HOUR).date()
    at = [moment.date() for moment in answer.date_times].index(day)
    assert [row.statistics["opens"][at], row.statistics["conversions"][at]] == [1, 1]
    recount.run("audit")


def test_a_custom_metric_by_its_messages(server: Server, recount: Recount) -> None:
    """metric-aggregates group a custom metric as they group any other (CK21)."""
    manage = client_of(server, "manage")
    for body in EVENTS:
        client_of(server, "ingest").Events.create_event(body)
    made = manage.Metrics.create_custom_metric(custom("Online", ONLINE)).data.id
    asked = aggregates(made, by=["$attributed_message"], measurements=["count", "sum_value"])
    manage.Metrics.query_metric_aggregates(asked)
    recount.run("worker", "--until-caught-up")

    found = client_of(server, "read").Metrics.query_metric_aggregates(asked).data.attributes.data

    assert {each.dimensions[0]: each.measurements["count"] for each in found} == {
        "": [1.0],
        "f1": [1.0],
        "m1": [3.0],
    }


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"statistics": ["text_message_spend"]}, "statistics"),
    ({"statistics": []}, "statistics"),
    ({"timeframe": {"key": "forever"}}, "timeframe/key"),
    ({"timeframe": {"start": "2026-01-01T00:00:00Z"}}, "timeframe"),
    ({"timeframe": {"start": "2026-01-02", "end": "2024-01-01"}}, "timeframe"),
    ({"group_by": ["campaign_id"]}, "group_by"),
    ({"group_by": ["campaign_id", "campaign_message_id", "tag_id"]}, "group_by"),
    ({"filter": 'equals(tag_id,"x")'}, "filter"),
    ({"filter": 'or(equals(campaign_id,"x"))'}, "filter"),
    ({"filter": 'equals(send_channel,"pigeon")'}, "filter"),
    ({"interval": "daily"}, "interval"),
]


def test_what_a_report_refuses() -> None:
    """Each has one problem, which names the member."""
    for members, place in REFUSED:
        body = report("campaign-values-report", "Placed Order", "opens")
        body["data"]["attributes"] |= members

        with pytest.raises(DefinitionError) as refused:
            check(body, CAMPAIGNS, NOW)

        (problem,) = refused.value.problems
        assert problem.pointer == f"/data/attributes/{place}", members


def test_timeframes() -> None:
    """CK20: each key is whole days of UTC; of a leap day the months before end with February."""
    now = datetime(2028, 2, 29, 15, 30, tzinfo=UTC)

    found = {}
    for key in TIMEFRAMES:
        body = report("campaign-values-report", "Placed Order", "opens", timeframe={"key": key})
        asked = check(body, CAMPAIGNS, now)
        found[key] = (f"{asked.starting_on:%Y-%m-%d}", f"{asked.ending_before:%Y-%m-%d}")
        assert (asked.starting_on.hour, asked.ending_before.hour) == (0, 0)

    assert found == {
        "today": ("2028-02-29", "2028-03-01"),
        "yesterday": ("2028-02-28", "2028-02-29"),
        "last_7_days": ("2028-02-22", "2028-02-29"),
        "last_30_days": ("2028-01-30", "2028-02-29"),
        "last_90_days": ("2027-12-01", "2028-02-29"),
        "last_365_days": ("2027-03-01", "2028-02-29"),
        "last_3_months": ("2027-11-29", "2028-02-29"),
        "last_12_months": ("2027-02-28", "2028-02-29"),
        "this_week": ("2028-02-28", "2028-03-01"),
        "last_week": ("2028-02-21", "2028-02-28"),
        "this_month": ("2028-02-01", "2028-03-01"),
        "last_month": ("2028-01-01", "2028-02-01"),
        "this_year": ("2028-01-01", "2028-03-01"),
        "last_year": ("2027-01-01", "2028-01-01"),
    }
