"""POST /recount/v1/events/void: take an event back, as `recount void` does."""

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from definitions.formats.bodies import dump_json

from ..core.correction import RecordPlace, place_of
from ..errors import ConflictError, UnknownNameError, UsageError
from ..log.voiding import REASON_CHARS_MAX, void_of
from .http.bodies import Body, read
from .http.errors import Refused
from .http.looking import accepted
from .http.requests import body_json, takes
from .http.service import Service
from .own import CHANGED, Managing

router = APIRouter(prefix="/recount/v1", tags=["Recount"])
_EXAMPLE: Final[dict[str, Any]] = {
    "transaction_id": "req-2",
    "customer_id": "acme",
    "reason": "test traffic",
}


class VoidBody(Body):
    """Which event is taken back."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, json_schema_extra={"examples": [_EXAMPLE]}
    )

    transaction_id: str = Field(min_length=1, description="Of the event.")
    customer_id: str = Field(min_length=1, description="Whose event it is.")
    at: str | None = Field(
        None, description="partition@offset, where it lies; none: it is looked for."
    )
    reason: str | None = Field(
        None, max_length=REASON_CHARS_MAX, description="Why; it is kept on the log."
    )


@router.post("/events/void", **CHANGED, **takes(VoidBody))
async def void(request: Request, service: Managing) -> Response:
    """Take an event back: no number holds it any more, once workers have read the void.

    It answers when the void is durable. 404: no such event was accepted. 409: it was taken back
    before.
    """
    body = read(VoidBody, await body_json(request), "R")
    place = await _place(service, body)
    try:
        made = void_of(
            body.transaction_id, body.customer_id, place, body.reason, service.clock.now()
        )
    except UsageError as error:
        raise Refused(400, str(error), parameter="reason") from error
    await service.send([(made.customer_id, made.line)], partition=place.partition)
    told = {
        "transaction_id": body.transaction_id,
        "customer_id": body.customer_id,
        "at": place.text,
        "void": {"transaction_id": made.transaction_id},
    }
    return Response(dump_json({"data": told}), media_type="application/json")


async def _place(service: Service, body: VoidBody) -> RecordPlace:
    """Where the original lies: as it is told, or looked up."""
    if body.at is not None:
        place = place_of(body.at)
        if place is None or place.partition not in service.identity.starts:
            raise Refused(400, "at is the place of a record, partition@offset", parameter="at")
        return place
    line = await accepted(service, body.transaction_id, body.customer_id)
    if line is None:
        raise UnknownNameError(
            "no event of this customer with this transaction_id was accepted: there is nothing "
            "to take back"
        )
    if "corrected_by" in line:
        raise ConflictError(f"the event was taken back already, by {line['corrected_by']}")
    return RecordPlace(line["partition"], line["offset"])
