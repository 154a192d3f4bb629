"""Rejected events on the page: by reason, one by one, and sent again where that can help."""

import asyncio
from collections import Counter
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ...core.buckets import moment_of
from ...core.reasons import REDRIVABLE, Reason
from ...errors import BadParameter
from ...log.letters import Letter, letters_of, redrive
from ..http.errors import Refused
from ..http.looking import LOOK_S_MAX
from .showing import rendered
from .trend import Trend
from .visits import Visit, visiting

router = APIRouter(include_in_schema=False)
Reads = Annotated[Visit, Depends(visiting("read"))]
Manages = Annotated[Visit, Depends(visiting("manage"))]
SHOWN_MAX: Final = 100
_NS_PER_MS: Final = 1_000_000


@router.get("/page/rejected")
async def rejected(request: Request, visit: Reads, reason: str = "") -> Response:
    """How many of each reason; the letters are read by a request of their own."""
    trend: Trend = request.app.state.trend
    if trend.seen_at is None:
        await trend.look(visit.service)
    counts = trend.lines[-1]["rejected_by_reason"] if trend.lines else {}
    return rendered(
        request,
        "rejected.html",
        trend=trend,
        counts=sorted(counts.items(), key=lambda each: -each[1]),
        reason=_checked(reason),
        redrivable=REDRIVABLE,
    )


def _checked(reason: str) -> str | None:
    if reason and reason not in set(Reason):
        raise BadParameter("reason", f"one of {', '.join(Reason)}")
    return reason or None


async def _letters(visit: Visit) -> list[Letter]:
    service = visit.service
    service.contact.check()
    topic = service.identity.topics["rejected"][0]
    try:
        async with service.large(), asyncio.timeout(LOOK_S_MAX):
            return await letters_of(service.settings.address, topic)
    except TimeoutError as error:
        raise Refused(
            400, f"they cannot be read within {LOOK_S_MAX:.0f} s; `recount rejected list` can"
        ) from error


@router.get("/page/rejected/letters")
async def letters(request: Request, visit: Reads, reason: str = "") -> Response:
    """The newest of them, and how many there were on each day."""
    wanted = _checked(reason)
    found = [each for each in await _letters(visit) if wanted in {None, each.reason}]
    days = Counter(
        moment_of(each.append_time_ms * _NS_PER_MS).date().isoformat()
        for each in found
        if each.append_time_ms >= 0
    )
    newest = sorted(found, key=lambda each: (-each.append_time_ms, -each.offset))
    return rendered(
        request,
        "rejected_letters.html",
        letters=newest[:SHOWN_MAX],
        count=len(found),
        days=sorted(days.items(), reverse=True),
        moment_of=lambda ms: moment_of(ms * _NS_PER_MS) if ms >= 0 else None,
    )


@router.post("/page/rejected/redrive")
async def send_again(request: Request, visit: Manages) -> Response:
    """Send the events of a reason again, each to its home partition."""
    service, reason = visit.service, _checked(visit.form.get("reason", ""))
    if reason not in REDRIVABLE:
        raise BadParameter("reason", f"one of {', '.join(sorted(REDRIVABLE))}")
    wanted = [each for each in await _letters(visit) if each.reason == reason]
    async with service.writing():
        told = await redrive(
            service.settings.address,
            service.identity,
            service.log,
            wanted,
            now=service.clock.now(),
            progress=lambda _: None,
        )
    return rendered(request, "rejected_sent.html", told=told)
