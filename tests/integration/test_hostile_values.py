"""Every parameter, path segment and member with values that no client sends by accident."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ..services import Recount
from .doors import Server, serving
from .test_hostile_clients import BODIES, EXAMPLES, PATHS, every_key

pytestmark = pytest.mark.timeout(400)
NESTED = "[" * 4_000
# JSON texts: numbers, lengths and nesting that a parser takes and a computation may not.
TOKENS = (
    *("1e99999999999999999999", "-1e99999999999999999999", "1.5E-99999999999999999999"),
    *("1e999999999999999999", "1e-999999999999999999", "-1e999999999", "1e400", "0e999999999"),
    *("9" * 5_000, "-" + "9" * 19, "0." + "0" * 5_000 + "1", "1.5", "0", "-0.0"),
    *('"1e99999999999999999999"', '"-1e999999999"', '"' + "9" * 5_000 + '"', '"\u0663"'),
    *('"0001-01-01T00:00:00+23:59"', '"9999-12-31T23:59:59-23:59"', '"9999-12-31T23:00:00Z"'),
    *('"greater-or-equal(datetime,0001-01-01T00:00:00)"', '"http://["', '"://"', '"\\u0000"'),
    *("[]", "{}", "[[]]", "null", "true", "[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900),
    "[" + ",".join(["1e99999999999999999999"] * 3) + "]",
    '"' + "x" * 70_000 + '"',
    '"' + "\N{SNOWMAN}" * 400_000 + '"',
    '"SELECT COUNT(*) AS value FROM events WHERE ' + " AND ".join(["a = 1"] * 3_000) + '"',
    '"SELECT SUM(n) AS value FROM events WHERE n > 1e99999999999999999999"',
    '"SELECT SUM(n) AS value FROM events GROUP BY ' + "9" * 5_000 + '"',
)
TEXTS = (
    *("000000001", "000000001" + "9" * 5_000, "0000000019999999999", "9" * 5_000, "-1", "1e9"),
    *("\u0663", "\u00b2", "", " ", "0", "1.0", "true", "null", "http://[", "http://[::1", "://"),
    *("https://x/?page%5Bcursor%5D=http://[", "https://x/?" + "a=1&" * 1_000, "\0", "%", "%%%"),
    *("x" * 20_000, "[" * 4_000, "=", "==", "name=", "a=b=c", "2026-02-30", "0000-00-00"),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0001-01-01", "9999-12-31"),
    *("YXQ6Mg==", base64.urlsafe_b64encode(NESTED.encode()).decode(), "../../etc", "a::sum"),
    *(
        base64.urlsafe_b64encode(each.encode()).decode()
        for each in ("[]", "[1e99999999999999999999,1]", '[["a"],"b"]', '{"a":"b"}', '["a"]')
    ),
)
UNKNOWN = ("filter", "sort", "filters", "page[size]", "page[number]", "offset")


@pytest.fixture
def client(recount: Recount, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a server of its own, with a key that may do everything."""
    recount.run("init", "--partitions", "1")
    with serving(recount, tmp_path / "serve.log") as made:
        headers = {"Authorization": f"Bearer {every_key(made)}", "revision": "2025-04-15"}
        with httpx.Client(base_url=made.url, headers=headers, timeout=60) as client:
            yield client
            assert Server.answers(made)


@st.composite
def monstrous(draw: Any) -> tuple[str, str, str]:
    """A native body, as text, with a member at any depth replaced or given twice."""
    method, path, body = draw(st.sampled_from(BODIES))
    body = json.loads(json.dumps(body))
    place, depth = body, draw(st.integers(0, 8))
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if depth == 0 or not isinstance(place[key], dict | list) or not place[key]:
            token = draw(st.sampled_from(TOKENS))
            if isinstance(place, dict) and draw(st.booleans()):
                token = f"{json.dumps(place[key])},{json.dumps(key)}:{token}"  # a member twice
            place[key] = "@@"
            return method, path, json.dumps(body).replace('"@@"', token, 1)
        place, depth = place[key], depth - 1
    return method, path, draw(st.sampled_from(TOKENS))


def test_no_monstrous_member_breaks_a_door(client: httpx.Client) -> None:
    """Numbers, lengths, nesting and repeats at any depth: taken or refused, never a 5xx."""
    seen: Counter[int] = Counter()

    @settings(
        max_examples=EXAMPLES * 40,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(asked=monstrous())
    def ask(asked: tuple[str, str, str]) -> None:
        method, path, text = asked
        answer = client.request(method, path, content=text.encode())
        seen[answer.status_code] += 1
        assert answer.status_code < 500, (method, path, text[:300], text[-300:], answer.text)
        if answer.content:
            json.loads(answer.content)

    ask()
    assert seen[400] > EXAMPLES


@pytest.mark.parametrize("token", TOKENS[:3])
def test_a_number_beyond_all_is_400_at_every_door(client: httpx.Client, token: str) -> None:
    """Valid JSON that no decimal holds: the same clear answer everywhere, naming the exponent."""
    for path in PATHS:
        for text in (f'{{"a":{token}}}', f"[{token}]", token):
            answer = client.post(path, content=text, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400, (path, text, answer.text)
            assert "exponent" in answer.text


DOORS = {
    "/v1/": 4,
    "/api/": 5,
    "/console/": 6,
    "/recount/": 10,
}  # parameters of each, at least


@pytest.mark.parametrize("door", DOORS)
def test_no_parameter_breaks_a_door(client: httpx.Client, door: str) -> None:
    """Every parameter of every call with every strange text, given twice, and unknown ones."""
    page = client.get("/openapi.json").json()
    seen: Counter[int] = Counter()
    tried = 0
    for path, operations in page["paths"].items():
        asked = "get" if "get" in operations else "post"
        if asked not in operations or not path.startswith(door):
            continue
        declared = [
            each["name"]
            for each in operations[asked].get("parameters", ())
            if each["in"] == "query"
        ]
        filled = path.replace("{", "").replace("}", "")
        usual = {"starting_on": "2026-01-01T00:00:00Z", "ending_before": "2026-01-02T00:00:00Z"}
        base = {name: usual[name] for name in declared if name in usual}
        if "date" in declared:
            base["date"] = "2026-01-01"
        content = b"{}" if asked == "post" else None
        for name in declared:
            for given_ in ([TEXTS[0]] * 2, *([text] for text in TEXTS)):
                params: Any = {**base, name: given_}
                answer = client.request(asked, filled, params=params, content=content)
                seen[answer.status_code] += 1
                assert answer.status_code < 500, (path, name, given_[0][:100], answer.text)
                json.loads(answer.content)
        tried += len(declared)
        for name in set(UNKNOWN) - set(declared):
            answer = client.request(asked, filled, params={**base, name: "x"}, content=content)
            assert answer.status_code == 400, (path, name, answer.text)
            assert name in answer.text
    assert tried >= DOORS[door]
    # OpenMeter's subjects and groups are any text: fewer of the strange ones are wrong there.
    assert seen[400] > (9 if door == "/api/" else 10) * tried


def test_no_path_breaks_a_door(client: httpx.Client) -> None:
    """Every segment that a path takes, with every strange text: never a 5xx."""
    page = client.get("/openapi.json").json()
    for path, operations in page["paths"].items():
        if "{" not in path:
            continue
        parts = path.split("/")
        for text in TEXTS:
            if not text or len(text) > 10_000:
                continue
            filled = "/".join(
                quote(text, safe="") if part.startswith("{") else part for part in parts
            )
            for method in operations:
                content = None if method in {"get", "delete"} else b"{}"
                answer = client.request(method.upper(), filled, content=content)
                assert answer.status_code < 500, (method, path, text[:100], answer.text)


def test_a_definition_over_a_mebibyte_is_refused(client: httpx.Client) -> None:
    """It does not fit into a record of the control log: 400 with its size, nothing is written."""
    before = client.get("/v1/billable-metrics").headers["x-recount-control-offset"]
    for size in (600_000, 1_000_000, 1_040_000, 1_060_000, 1_100_000, 4_000_000):
        text = "x" * size
        sql = f"SELECT COUNT(*) AS value FROM events WHERE event_type = '{text}'"
        klaviyo = {"aggregation_method": "count", "metric_groups": [{"metric_id": text}]}
        attributes = {"name": "large", "definition": klaviyo}
        statsig = {"name": "large", "type": "event_count_custom", "unitTypes": ["userID"]}
        bodies = {
            "/v1/billable-metrics/create": {"name": "large", "sql": sql},
            "/api/custom-metrics": {"data": {"type": "custom-metric", "attributes": attributes}},
            "/console/v1/metrics": {**statsig, "metricEvents": [{"name": text}]},
        }
        for path, body in bodies.items():
            answer = client.post(path, json=body)
            assert answer.status_code == 400, (path, size, answer.text[:300])
            assert len(answer.content) < 10_000
    assert client.get("/v1/billable-metrics").headers["x-recount-control-offset"] == before
    made = client.post(
        "/v1/billable-metrics/create", json={"name": "small", "aggregation_type": "COUNT"}
    )
    assert made.status_code == 200  # the producer goes on
