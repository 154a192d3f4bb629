"""The page of `recount serve` in a real Chromium: who may see it, and what it shows."""

import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from ..browser import NEEDS_BROWSER, browser, serious_faults
from ..services import ROOT, Recount, Services, fresh
from .doors import Server, serving

pytestmark = [NEEDS_BROWSER, pytest.mark.timeout(240)]
PICTURES = ROOT / "docs/page"
SCHEMES = ("light", "dark")
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251  a test's clock
HOSTILE = '<img src=x onerror="document.title=1">\u202e'
CALLS = {
    "name": "API calls",
    "aggregation_type": "SUM",
    "aggregation_key": "calls",
    "event_type_filter": {"in_values": ["api_call"]},
    "property_filters": [{"name": "calls", "exists": True}, {"name": "region", "exists": True}],
    "group_keys": [["region"]],
}


def event(number: int, **changed: Any) -> dict[str, Any]:
    """An event of the last two days."""
    return {
        "transaction_id": f"t{number}",
        "customer_id": "acme",
        "event_type": "api_call",
        "timestamp": (NOW - timedelta(hours=number % 48 + 2)).isoformat(),
        "properties": {"calls": number, "region": ("eu", "us")[number % 2]},
        **changed,
    }


@pytest.fixture(scope="module")
def server(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a deployment that has counted something of everything."""
    recount = Recount(stack, fresh("page"))
    recount.run("init", "--partitions", "2")
    recount.create(CALLS)
    recount.publish(
        [
            *(event(number) for number in range(60)),
            event(3),
            event(70, customer_id=HOSTILE, properties={"calls": 1, "region": HOSTILE}),
            event(71, customer_id="=1+1"),
            event(72, event_type="login"),
            b"not json",
        ]
    )
    recount.catch_up()
    folder = tmp_path_factory.mktemp("page")
    with serving(recount, folder / "serve.log") as made:
        yield made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests."""
    with browser() as made:
        yield made


@contextmanager
def opened(
    chromium: Browser, server: Server, role: str = "manage", **options: Any
) -> Iterator[Page]:
    """A page of somebody who has logged in with a key of a role; nothing may go wrong in it."""
    context = chromium.new_context(base_url=server.url, locale="en-US", **options)
    page, wrong = context.new_page(), list[str]()
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    try:
        page.goto("/")
        page.get_by_label("API key").fill(server.keys[role])
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        yield page
        assert wrong == []
    finally:
        context.close()


def test_the_overview_shows_where_every_partition_stands(
    chromium: Browser, server: Server
) -> None:
    """Fates add up, no worker owns a partition, the plots are drawn and go on by themselves."""
    with opened(chromium, server) as page:
        expect(tile(page, "counted")).to_have_text("62")
        expect(tile(page, "rejected")).to_have_text("1")
        expect(page.get_by_text("No worker has these partitions")).to_be_visible()
        expect(page.locator("figure canvas").first).to_be_visible()
        with page.expect_response("**/page/overview") as part:
            pass
        assert part.value.status == 200


def tile(page: Page, name: str) -> Locator:
    """The number under a name of the overview."""
    return page.locator(".tiles div").filter(has_text=name).locator("dd")


def test_nobody_is_let_in_without_a_key_that_reads(server: Server) -> None:
    """Without a session every view leads to the login; a key that only ingests begins none."""
    with httpx.Client(base_url=server.url) as client:
        for path in ("/", "/page/overview", "/page/nothing"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/page/login")
        for key, said in (("rk_guess_x", "not known"), (server.keys["ingest"], "role read")):
            answer = entered(client, key)
            assert answer.status_code == 403
            assert said in answer.text
            assert key not in answer.text


def entered(client: httpx.Client, key: str) -> httpx.Response:
    """The answer to the login form with a key."""
    found = re.search(r'name="nonce" value="([^"]+)"', client.get("/page/login").text)
    assert found is not None
    return client.post("/page/login", data={"nonce": found[1], "key": key})


def test_a_session_ends_with_its_key_and_forms_need_its_token(server: Server) -> None:
    """Cookies are HttpOnly and Strict; POSTs without the token are 403; a revoked key is out."""
    made = server.recount.run("keys", "create", "--name", "guest", "--role", "read")[0]
    with httpx.Client(base_url=server.url) as client:
        answer = entered(client, made["key"])
        cookie = next(
            each for each in answer.headers.get_list("set-cookie") if each.startswith("recount_")
        )
        assert all(each in cookie for each in ("HttpOnly", "SameSite=strict", "Path=/"))
        assert made["key"] not in cookie
        page = client.get("/")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert client.post("/page/logout").status_code == 403
        assert client.post("/page/logout", data={"csrf": "0" * 64}).status_code == 403

        server.recount.run("keys", "revoke", made["id"])

        assert client.get("/").headers["location"] == "/page/login"


def test_a_session_that_was_ended_is_not_opened_again(server: Server) -> None:
    """After the logout the same cookie opens nothing."""
    with httpx.Client(base_url=server.url) as client:
        entered(client, server.keys["read"])
        cookies = dict(client.cookies)
        token = re.search(r'name="csrf" value="(\w+)"', client.get("/").text)
        assert token is not None
        assert client.post("/page/logout", data={"csrf": token[1]}).status_code == 303

        again = httpx.get(f"{server.url}/", cookies=cookies)

        assert again.headers["location"] == "/page/login"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_view_keeps_a_reader_of_screens_out(
    chromium: Browser, server: Server, scheme: str, request: pytest.FixtureRequest
) -> None:
    """Axe finds nothing serious in any view, light or dark; --pictures keeps what it saw."""
    size = {"width": 1280, "height": 800}
    with opened(chromium, server, color_scheme=scheme, viewport=size) as page:
        for name, path in pictured(server).items():
            page.goto(path)
            page.wait_for_load_state("networkidle")
            assert serious_faults(page) == [], path
            if request.config.getoption("--pictures"):
                page.screenshot(path=PICTURES / f"{name}-{scheme}.png")


def pictured(server: Server) -> dict[str, str]:
    """A view of each kind, with something in it."""
    metric = server.recount.run("metrics", "list")[0]["id"]
    return {
        "overview": "/",
        "metrics": "/page/metrics",
        "metric": f"/page/metrics/{metric}",
        "draft": "/page/metrics/new",
        "usage": usage_of(server, customer="acme", group="0"),
        "events": f"/page/events?customer=acme&metric={metric}",
        "explained": "/page/events?id=t72&customer=acme",
        "rejected": "/page/rejected",
        "billing": "/page/billing",
        "system": "/page/system",
    }


def views(page: Page) -> list[str]:
    """The views of the navigation."""
    links = page.get_by_role("navigation").get_by_role("link").all()
    return [str(link.get_attribute("href")) for link in links]


@pytest.mark.parametrize("width", [360, 2560])
def test_every_view_fits_its_window(chromium: Browser, server: Server, width: int) -> None:
    """From 360 to 2560 pixels no view is wider than its window: tables scroll by themselves."""
    with opened(chromium, server, viewport={"width": width, "height": 800}) as page:
        for path in views(page):
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_a_metric_is_made_tried_counted_and_explained(chromium: Browser, server: Server) -> None:
    """From a draft to the events behind a number, by the page alone."""
    with opened(chromium, server) as page:
        page.get_by_role("link", name="Metrics").click()
        page.get_by_role("link", name="Create a metric").click()
        draft = page.get_by_label("Definition")
        draft.fill('{"name": "Largest call", "aggregation_type": "MAX"}')
        expect(page.get_by_text("It cannot be created")).to_be_visible()
        draft.fill(json.dumps({**CALLS, "name": "Largest call", "aggregation_type": "MAX"}))
        expect(page.locator("#verdict")).to_contain_text("Largest call can be created")
        page.get_by_label("Customer, or all").fill("acme")
        page.get_by_label("Compare with").select_option("API calls")
        page.get_by_role("button", name="Dry run").click()
        expect(page.get_by_role("heading", name="What it would say")).to_be_visible()
        page.get_by_role("button", name="Create it").click()
        expect(page.get_by_role("heading", name="Largest call")).to_be_visible()
        server.recount.catch_up()
        page.get_by_role("link", name="Usage", exact=True).last.click()
        page.get_by_label("Customer, or all").fill("acme")
        page.get_by_label("Window", exact=True).select_option("none")
        page.get_by_role("button", name="Show").click()
        value = page.get_by_role("region", name="Values").get_by_role("cell", name="59")
        expect(value).to_be_visible()
        page.get_by_role("link", name="events of").click()
        expect(page.locator("details.event")).to_have_count(60)
        first = page.locator("details.event").filter(has=page.get_by_text("t59", exact=True))
        first.locator("summary").click()
        first.get_by_role("link", name="Explain t59").click()
        expect(page.locator("#found")).to_contain_text("Largest call matched")


def test_the_events_behind_a_number_leave_repeats_out(chromium: Browser, server: Server) -> None:
    """A search without a metric shows the repeat with its fate, one with a metric does not."""
    metric = server.recount.run("metrics", "list")[0]["id"]
    with opened(chromium, server) as page:
        page.goto("/page/events?customer=acme&type=api_call")
        expect(page.locator("details.event")).to_have_count(61)
        expect(page.locator("details.event .mark.duplicate")).to_have_count(1)
        page.goto(f"/page/events?customer=acme&metric={metric}")
        expect(page.locator("details.event")).to_have_count(60)
        expect(page.locator("#found .mark")).to_have_text("equal")


def test_one_event_is_explained_with_every_clause(chromium: Browser, server: Server) -> None:
    """An event that a metric does not count shows what is wanted and what was seen."""
    with opened(chromium, server) as page:
        page.goto("/page/events")
        page.get_by_label("transaction_id").fill("t72")
        page.get_by_label("Customer, if known").fill("acme")
        page.get_by_role("button", name="Explain").click()
        found = page.locator("#found")
        expect(found).to_contain_text('event_type in "api_call"; seen: "login"')
        expect(found.locator(".mark.unmatched")).to_be_visible()


def test_strangers_texts_do_nothing(chromium: Browser, server: Server) -> None:
    """Markup and marks of direction in ids and properties are shown, and never act."""
    with opened(chromium, server) as page:
        for path in (usage_of(server, group="0"), "/page/events?id=t70", "/page/rejected"):
            page.goto(path)
            page.wait_for_load_state("networkidle")
            assert page.title() != "1"
            assert page.locator("main img").count() == 0
            assert "\u202e" not in page.content()
        page.goto("/page/events?id=t70")
        expect(page.locator("#found")).to_contain_text("<img src=x")
        expect(page.locator("#found")).to_contain_text(r"\u202e")


def usage_of(server: Server, **more: str) -> str:
    """The path of a view of usage of the first metric."""
    metric = server.recount.run("metrics", "list")[0]["id"]
    return f"/page/usage?{urlencode({'metric': metric, **more})}"


def test_a_csv_computes_nothing(server: Server) -> None:
    """Every customer is in the CSV, and a name that begins as a formula is quoted."""
    with httpx.Client(base_url=server.url) as client:
        entered(client, server.keys["read"])
        path = usage_of(server, window="none").replace("/usage?", "/usage.csv?")
        rows = list(csv.DictReader(client.get(path).text.splitlines()))

    assert [row["customer_id"] for row in rows] == [HOSTILE, "'=1+1", "acme"]
    assert [row["value"] for row in rows] == ["1", "71", str(sum(range(60)))]


def test_a_key_that_reads_changes_nothing(chromium: Browser, server: Server) -> None:
    """It is offered no change, its POSTs are 403, and it sees neither settings nor keys."""
    with opened(chromium, server, "read") as page:
        page.goto("/page/metrics")
        expect(page.get_by_role("link", name="Create a metric")).to_have_count(0)
        page.goto("/page/system")
        expect(page.get_by_text("shown to a key with the role manage")).to_be_visible()
        assert "RECOUNT_" not in page.content()
    with httpx.Client(base_url=server.url) as client:
        entered(client, server.keys["read"])
        token = re.search(r'name="csrf" value="(\w+)"', client.get("/").text)
        assert token is not None
        sent = {"csrf": token[1], "format": "metronome", "text": json.dumps(CALLS)}
        assert client.post("/page/metrics", data=sent).status_code == 403


def test_no_view_shows_a_key(server: Server) -> None:
    """The system's view names keys and masks secrets; no text of a key is in any view."""
    with httpx.Client(base_url=server.url) as client:
        entered(client, server.keys["manage"])
        for path in ("/", "/page/metrics", "/page/usage", "/page/events", "/page/system"):
            text = client.get(path).text
            assert not any(key in text for key in server.keys.values()), path
        assert "ingest" in text


def test_rejected_events_stand_with_their_reason(chromium: Browser, server: Server) -> None:
    """The letters of a reason, and the bytes as they came."""
    with opened(chromium, server) as page:
        page.get_by_role("link", name="Rejected").click()
        page.get_by_role("link", name="not_json").click()
        letters = page.locator("#letters")
        expect(letters).to_contain_text("1 dead letter")
        letters.get_by_text("show").click()
        expect(letters.get_by_text("not json", exact=True)).to_be_visible()


def test_the_keyboard_is_enough(chromium: Browser, server: Server) -> None:
    """The first Tab offers the content, `/` goes to the first field, Enter sends the form."""
    with opened(chromium, server) as page:
        page.goto("/page/events")
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the content")).to_be_focused()
        page.keyboard.press("/")
        expect(page.get_by_label("transaction_id")).to_be_focused()
        page.keyboard.type("t1")
        page.keyboard.press("Enter")
        expect(page.locator("#found")).to_contain_text("1 record")
