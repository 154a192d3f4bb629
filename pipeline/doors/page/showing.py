"""How the page is rendered: templates, headers, and texts of strangers that cannot act.

Rule 1: every text is escaped (Jinja2's autoescape), and what turns the direction of writing or
acts otherwise is spelt (`harmless`), because ids, names and properties are strangers' texts.
Rule 2: a browser runs scripts and styles of this server's files alone: the policy allows no text
of a page to be one (Content-Security-Policy).
"""

from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from definitions.formats.bodies import dump_json

from ...errors import harmless
from ..http.errors import Refused, refused_of

_NONE: Final = "\N{EN DASH}"
LOGIN: Final = "/page/login"
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Every file that is served, with its media type; no other name is looked for.
ASSETS: Final = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "htmx.js": "text/javascript",
    "uplot.js": "text/javascript",
    "uplot.css": "text/css",
    "htmx-licence.txt": "text/plain",
    "uplot-licence.txt": "text/plain",
}
# The views, in the order in which the page shows them.
VIEWS: Final = (
    ("Overview", "/"),
    ("Metrics", "/page/metrics"),
    ("Usage", "/page/usage"),
    ("Events", "/page/events"),
    ("Rejected", "/page/rejected"),
    ("Billing", "/page/billing"),
    ("System", "/page/system"),
)


def _shown(value: Any) -> Any:
    """What a template puts out."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return harmless(value, keep="\n\t")
    return value


def number(value: Any) -> str:
    """Return a count for people: 1,234,567; a dash where there is none."""
    return _NONE if value is None else f"{value:,}"


def decimal(text: str | None) -> str:
    """Return a canonical decimal for people: every digit, thousands apart."""
    if text is None:
        return _NONE
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, point, fraction = digits.partition(".")
    return f"{sign}{int(whole):,}{point}{fraction}" if whole.isdigit() else text


def moment(value: str | datetime | None) -> str:
    """Return a moment for people, UTC, without what is zero."""
    if value is None:
        return _NONE
    text = value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
    return text.replace("T", " ").removesuffix("Z").removesuffix("+00:00").split(".")[0]


def wall(text: str, timezone: str) -> str:
    """Return an instant as a clock in a zone shows it, with what it is ahead of UTC."""
    local = datetime.fromisoformat(text).astimezone(ZoneInfo(timezone))
    return f"{local:%Y-%m-%d %H:%M}{'' if timezone == 'UTC' else f' {local:%z}'}"


def json_text(value: Any) -> str:
    """Return JSON for people, two spaces an indent, numbers with their own digits."""
    return msgspec.json.format(dump_json(value).encode(), indent=2).decode()


def short_json(value: Any) -> str:
    """Return a value as JSON on one line, numbers with their own digits."""
    return dump_json(value)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("pipeline.doors.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "decimal": decimal,
        "moment": moment,
        "wall": wall,
        "json_text": json_text,
        "short_json": short_json,
    }
    made.globals |= {"views": VIEWS}
    return made


def rendered(request: Request, template: str, /, *, status: int = 200, **values: Any) -> Response:
    """Return a template as an answer; values: what it shows."""
    visit = getattr(request.state, "visit", None)
    text = (
        _environment().get_template(template).render(path=request.url.path, visit=visit, **values)
    )
    return HTMLResponse(text, status_code=status, headers=HEADERS)


def redirect(request: Request, where: str) -> Response:
    """Send a browser to another view: htmx by its own header, a form by 303."""
    if is_part(request):
        return Response(status_code=204, headers={**HEADERS, "HX-Redirect": where})
    return Response(status_code=303, headers={**HEADERS, "Location": where})


def is_part(request: Request) -> bool:
    """Whether htmx asks, for a part of a view."""
    return request.headers.get("hx-request") == "true"


def told(request: Request, error: Exception) -> Response:
    """Return an error as a view, or as the part of one; no session is a way to the login."""
    refused = refused_of(error)
    if refused.status == 401:
        return redirect(request, LOGIN)
    name = "wrong_part.html" if is_part(request) else "wrong.html"
    made = rendered(request, name, status=refused.status, refused=refused)
    for header, text in refused.headers.items():
        made.headers[header] = text
    return made


def asset(name: str) -> Response:
    """Return a file of the page."""
    media = ASSETS.get(name)
    if media is None:
        raise Refused(404, f"the page has no file {name[:100]!r}")
    content = _bytes(name)
    headers = {**HEADERS, "Cache-Control": "no-cache"}
    return Response(content, media_type=media, headers=headers)


@lru_cache(maxsize=len(ASSETS))
def _bytes(name: str) -> bytes:
    return resources.files(__package__).joinpath("assets", name).read_bytes()
