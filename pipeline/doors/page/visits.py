"""Who looks at the page: the session of a key, its roles, and forms that nobody else made."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request

from ...control.entities import ApiKey
from ..http.errors import Refused
from ..http.requests import body_text, service_of
from ..http.service import Service
from .sessions import Session, Sessions

FIELDS_MAX: Final = 100
_TOKEN: Final = "csrf"  # noqa: S105  the name of a field
_ROLES: Final = {"read": frozenset({"read", "manage"}), "manage": frozenset({"manage"})}


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who is logged in. form: the fields of a POST, each once."""

    service: Service
    key: ApiKey
    session: Session
    token: str
    form: dict[str, str] = field(default_factory=dict)

    @property
    def may_manage(self) -> bool:
        """Whether the key may change anything."""
        return "manage" in self.key.roles


def sessions_of(request: Request) -> Sessions:
    """The server's sessions."""
    found: Sessions = request.app.state.sessions
    return found


def cookie_of(request: Request) -> str:
    """The name of the session's cookie: browsers do not keep ports apart, deployments do."""
    deployment = service_of(request).identity.deployment
    name = f"recount_{deployment.store_id[:8]}"
    return f"__Host-{name}" if is_secure(request) else name


def is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, with us or with a proxy on this machine."""
    return request.url.scheme == "https"


def visiting(role: str) -> Callable[[Request], Awaitable[Visit]]:
    """What lets a request through whose session is of a key with a role.

    A POST also has to come from a form of ours: it sends the session's token.
    """

    async def let_through(request: Request) -> Visit:
        service, sessions = service_of(request), sessions_of(request)
        now_s = int(service.clock.now().timestamp())
        session = sessions.opened(request.cookies.get(cookie_of(request), ""), now_s)
        keys = (await service.fresh()).keys
        key = None if session is None else keys.get(session.key_id)
        if session is None or key is None:
            raise Refused(401, "log in first")
        form = await form_of(request) if request.method == "POST" else {}
        sent = request.headers.get("x-csrf-token", "") or form.pop(_TOKEN, "")
        visit = Visit(service, key, session, sessions.token(session), form)
        request.state.visit = visit
        request.state.key_id = key.id
        if request.method == "POST" and not sessions.is_token(session, sent):
            raise Refused(403, "this form is not of this session: load the page again")
        check_role(key, role)
        await service.limit(key.id, None)
        return visit

    return let_through


def check_role(key: ApiKey, role: str) -> None:
    """Refuse a key that has not a role.

    Raises:
        Refused: 403.
    """
    if key.is_public or not key.roles & _ROLES[role]:
        has = ", ".join(sorted(key.roles))
        raise Refused(403, f"this takes a key with the role {role}; yours has {has}")


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form; of a field that is there twice, the last.

    Raises:
        Refused: it is no form, or has too many fields.
    """
    try:
        pairs = parse_qsl(
            await body_text(request), keep_blank_values=True, max_num_fields=FIELDS_MAX
        )
    except ValueError as error:
        raise Refused(400, f"a form has at most {FIELDS_MAX} fields") from error
    return dict(pairs)
