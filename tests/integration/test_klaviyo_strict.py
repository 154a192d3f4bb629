"""A strict catalogue of Klaviyo's metrics: what a definition names must have been seen (CK18)."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..services import Recount
from .doors import serving
from .test_klaviyo_door import custom, event

pytestmark = pytest.mark.timeout(180)  # many commands, each a process of its own
GROUPS = "/data/attributes/definition/metric_groups/0"


def test_what_a_strict_catalogue_refuses(recount: Recount, tmp_path: Path) -> None:
    """A metric that is not listed, and filters and values that no event of it was seen with."""
    file = tmp_path / "config.json"
    file.write_text(
        json.dumps({"klaviyo": {"strict": True, "metrics": {"M1": "Placed Order", "M2": "View"}}})
    )
    recount.run("init", "--partitions", "1", "--config", str(file))

    def answered(client: httpx.Client, method: str = "value", **group: Any) -> list[str]:
        """The places that a create names; none where it was taken."""
        definition = {
            "aggregation_method": method,
            "metric_groups": [{"metric_id": "M1", **group}],
        }
        body = custom(f"metric {method} {json.dumps(group)}", definition)
        found = client.post("/api/custom-metrics", json=body)
        assert found.status_code in {201, 400}, found.text
        errors = found.json().get("errors", ())
        return [each["source"]["pointer"].removeprefix(GROUPS) for each in errors]

    with serving(recount, tmp_path / "serve.log") as server:
        headers = {"Authorization": f"Klaviyo-API-Key {server.keys['manage']}", "revision": "r"}
        sending = {**headers, "Authorization": f"Klaviyo-API-Key {server.keys['ingest']}"}
        seen = [event(1), event(2, "View", value=None)]
        for body in seen:
            posted = httpx.post(f"{server.url}/api/events", json=body, headers=sending)
            assert posted.status_code == 202, posted.text
        recount.run("worker", "--until-caught-up")
        with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
            like = {"filter": {"type": "string", "operator": "equals", "value": "web"}}
            assert answered(client) == []
            assert answered(client, value_property="n") == []
            assert answered(client, metric_filters=[{"property": "Source", **like}]) == []
            assert answered(client, metric_id="M3") == ["/metric_id"]
            assert answered(client, metric_id="M2") == ["/value_property"]  # no View has $value
            assert answered(client, "count", metric_id="M2") == []
            assert answered(
                client,
                value_property="Revenue",
                metric_filters=[{"property": "Colour", **like}],
            ) == ["/metric_filters/0/property", "/value_property"]
