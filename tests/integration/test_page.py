"""The page of `recount serve` in a real Chromium: who may see it, and what it shows."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from ..browser import NEEDS_BROWSER, browser, serious_faults
from ..services import Recount, Services, fresh
from .doors import Server, serving

pytestmark = [NEEDS_BROWSER, pytest.mark.timeout(240)]
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
            event(71, customer_id="=1+1", event_type="login"),
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
        expect(tile(page, "counted")).to_have_text("61")
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


def test_no_view_keeps_a_reader_of_screens_out(chromium: Browser, server: Server) -> None:
    """Axe finds nothing serious in any view, light or dark."""
    for scheme in ("light", "dark"):
        with opened(chromium, server, color_scheme=scheme) as page:
            for path in views(page):
                page.goto(path)
                assert serious_faults(page) == [], (scheme, path)


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
