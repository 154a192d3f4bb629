"""POST /recount/v1/events/void and /amend: as `recount void` and `recount amend` do."""

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from definitions.formats.bodies import dump_json

from ..core.correction import RecordPlace, place_of
from ..log.correcting import REASON_CHARS_MAX, CorrectionLine, amend_of, void_of
from ..periods.period import check_unclosed
from ..reads.originals import FoundOriginal
from .http.bodies import Body, read
from .http.errors import Refused
from .http.looking import original_of
from .http.requests import body_json, takes
from .http.service import Service
from .own import CHANGED, Managing

router = APIRouter(prefix="/recount/v1", tags=["Recount"])
_VOID: Final[dict[str, Any]] = {
    "transaction_id": "req-2",
    "customer_id": "acme",
    "reason": "test traffic",
}
_AMEND: Final[dict[str, Any]] = {
    "transaction_id": "req-2",
    "customer_id": "acme",
    "properties": {"tokens": 12},
    "reason": "the model reported too many",
}


class _Named(Body):
    """Which event is corrected, and why."""

    transaction_id: str = Field(min_length=1, description="Of the event.")
    customer_id: str = Field(min_length=1, description="Whose event it is.")
    at: str | None = Field(
        None, description="partition@offset, where it lies; none: it is looked for."
    )
    reason: str | None = Field(
        None, max_length=REASON_CHARS_MAX, description="Why; it is kept on the log."
    )
    revise: bool = Field(
        False, description="Whether the next revision of a closed period may change by it."
    )


class VoidBody(_Named):
    """Which event is taken back."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, json_schema_extra={"examples": [_VOID]}
    )


class AmendBody(_Named):
    """Which event is amended, and what it should have said; what is absent stays as it was."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, json_schema_extra={"examples": [_AMEND]}
    )

    event_type: str | None = Field(
        None, min_length=1, max_length=256, description="What it should have been."
    )
    properties: dict[str, Any] | None = Field(
        None, description="All that it should have had, instead of those that it has."
    )


@router.post("/events/void", **CHANGED, **takes(VoidBody))
async def void(request: Request, service: Managing) -> Response:
    """Take an event back: no number holds it any more, once workers have read the void.

    It answers when the void is durable. 404: no such event was accepted. 409: it was taken back
    before, or it is of a closed period and `revise` is not true.
    """
    body = read(VoidBody, await body_json(request), "R")
    found = await _found(service, body)
    now = service.clock.now()
    made = void_of(body.transaction_id, body.customer_id, found.place, body.reason, now)
    return await _sent(service, "void", body, made)


@router.post("/events/amend", **CHANGED, **takes(AmendBody))
async def amend(request: Request, service: Managing) -> Response:
    """Say what an event should have said: that counts instead, once workers have read it.

    Customer, timestamp and transaction_id stay. It answers when the amend is durable. 404 and
    409: as of a void.
    """
    body = read(AmendBody, await body_json(request), "R")
    found = await _found(service, body)
    timestamp, event = found.amended(body.event_type, body.properties)
    made = amend_of(
        body.transaction_id, body.customer_id, found.place, body.reason, timestamp, event
    )
    return await _sent(service, "amend", body, made)


async def _found(service: Service, body: _Named) -> FoundOriginal:
    """The event, where it is told or as it is looked up, if it may be corrected."""
    place: RecordPlace | None = None
    if body.at is not None:
        place = place_of(body.at)
        if place is None or place.partition not in service.identity.starts:
            raise Refused(400, "at is the place of a record, partition@offset", parameter="at")
    found = await original_of(service, body.transaction_id, body.customer_id, place)
    if not body.revise:
        check_unclosed((await service.fresh()).periods, found.at)
    return found


async def _sent(service: Service, kind: str, body: _Named, made: CorrectionLine) -> Response:
    await service.send([(made.customer_id, made.line)], partition=made.place.partition)
    told = {
        "transaction_id": body.transaction_id,
        "customer_id": body.customer_id,
        "at": made.place.text,
        kind: {"transaction_id": made.transaction_id},
    }
    return Response(dump_json({"data": told}), media_type="application/json")
