"""The page's routes: the login, its files, and the views."""

import hmac
import secrets
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ...control.api_keys import key_of
from ...errors import UnknownNameError
from ..http.errors import Refused
from ..http.requests import service_of
from . import billing, definitions, events, letters, system, usage
from .sessions import SESSION_S
from .showing import LOGIN, asset, redirect, rendered
from .trend import Trend
from .visits import (
    Visit,
    check_role,
    cookie_of,
    form_of,
    is_secure,
    sessions_of,
    visiting,
)

router = APIRouter(include_in_schema=False)
Reads = Annotated[Visit, Depends(visiting("read"))]
_ENTERING: Final = "recount_entering"  # the cookie of the login form
_ENTERING_S: Final = 900


def _trend(request: Request) -> Trend:
    found: Trend = request.app.state.trend
    return found


@router.get("/page/files/{name}")
async def files(name: str) -> Response:
    """A script, a style or a licence."""
    return asset(name)


# -- the login ---------------------------------------------------------------------------------


@router.get(LOGIN)
async def login(request: Request) -> Response:
    """The form that asks for a key."""
    return _login(request)


def _login(request: Request, wrong: str | None = None) -> Response:
    nonce = secrets.token_urlsafe(16)
    made = rendered(request, "login.html", status=403 if wrong else 200, nonce=nonce, wrong=wrong)
    _set(made, request, _ENTERING, nonce, _ENTERING_S)
    return made


def _set(answer: Response, request: Request, name: str, value: str, max_age_s: int) -> None:
    answer.set_cookie(
        name,
        value,
        max_age=max_age_s,
        path="/",
        secure=is_secure(request),
        httponly=True,
        samesite="strict",
    )


@router.post(LOGIN)
async def enter(request: Request) -> Response:
    """Begin a session of a key."""
    form = await form_of(request)
    nonce = request.cookies.get(_ENTERING, "")
    if not nonce or not hmac.compare_digest(nonce.encode(), form.get("nonce", "").encode()):
        return _login(request, "This form is too old. Give the key again.")
    service = service_of(request)
    key = key_of((await service.fresh()).keys, form.get("key", "").strip())
    if key is None:
        return _login(request, "This key is not known. `recount keys create` makes one.")
    try:
        check_role(key, "read")
    except Refused as refused:
        return _login(request, f"{refused.message[0].upper()}{refused.message[1:]}.")
    await service.limit(key.id, None)
    made = redirect(request, "/")
    now_s = int(service.clock.now().timestamp())
    cookie = sessions_of(request).begin(key.id, now_s)
    _set(made, request, cookie_of(request), cookie, SESSION_S)
    made.delete_cookie(_ENTERING, path="/")
    return made


@router.post("/page/logout")
async def leave(request: Request, visit: Reads) -> Response:
    """End the session."""
    sessions_of(request).end(visit.session, int(visit.service.clock.now().timestamp()))
    made = redirect(request, LOGIN)
    made.delete_cookie(cookie_of(request), path="/", secure=is_secure(request), httponly=True)
    return made


# -- the overview ------------------------------------------------------------------------------


@router.get("/")
async def overview(request: Request, visit: Reads) -> Response:
    """What an operator looks at first."""
    return await _overview(request, visit, "overview.html")


@router.get("/page/overview")
async def overview_now(request: Request, visit: Reads) -> Response:
    """The part of it that changes."""
    return await _overview(request, visit, "overview_now.html")


async def _overview(request: Request, visit: Visit, name: str) -> Response:
    trend = _trend(request)
    if trend.seen_at is None:
        await trend.look(visit.service)
    return rendered(request, name, trend=trend)


for view in (definitions, usage, events, letters, billing, system):
    router.include_router(view.router)


@router.get("/page/{path:path}")
async def nothing(path: str, visit: Reads) -> Response:  # noqa: ARG001  a visitor is told
    """What the page does not have."""
    raise UnknownNameError(f"there is no view {path[:200]!r}")
