"""One internal error, rendered as each system does (docs/formats.md 1.8, 2.8, 3.6)."""

import uuid
from collections.abc import Sequence
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response

from definitions.errors import DefinitionError, Problem
from definitions.formats.bodies import dump_json

from ...core.windows import RefusedPeriod
from ...errors import (
    BadParameter,
    ConflictError,
    NotOpen,
    PartitionHalt,
    PipelineError,
    StoreUnavailable,
    TooBusy,
    Unavailable,
    UnknownNameError,
    UsageError,
)
from .paths import EVENTS_OF_STATSIG, door_of
from .service import Limited

JSON_API: Final = "application/vnd.api+json"
PROBLEM_JSON: Final = "application/problem+json"
_TEXT_CHARS_MAX: Final = 2_000
PROBLEMS_MAX: Final = 100  # told of one body
_MESSAGE_CHARS_MAX: Final = 32_000
_TITLES: Final = {
    400: "Invalid input.",
    401: "Authentication failed.",
    403: "Permission denied.",
    404: "Not found.",
    405: "Method not allowed.",
    406: "Not acceptable.",
    408: "Request timeout.",
    409: "Conflict.",
    413: "Too large.",
    415: "Unsupported media type.",
    429: "Too many requests.",
    503: "Temporarily unavailable.",
}
_LIMITED: Final = {"X-Metronome-Rate-Limit-Type": "client"}
# What a name that is taken is to systems that have no 409 for it (docs/formats.md 1.8, CS16).
_TAKEN: Final = {"klaviyo": "/data/attributes/name", "statsig": "/name"}
# What passes by itself, and what somebody has to mend first.
RETRY_S: Final = {False: "2", True: "60"}
NOT_FOUND: Final = "The specified resource was not found"


class Refused(Exception):
    """A request that is refused.

    problems: each with its place, where it is about a body. parameter: the one it is about.
    """

    def __init__(
        self,
        status: int,
        message: str,
        problems: tuple[Problem, ...] = (),
        *,
        parameter: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message[:_TEXT_CHARS_MAX]
        self.problems = problems
        self.parameter = parameter
        self.headers = headers or {}


def refused_of(error: Exception) -> Refused:
    """Return what an error of ours is to a client; anything unknown is a 500 that says nothing."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, Limited):
        return Refused(429, str(error), headers={**_LIMITED, "Retry-After": str(error.retry_s)})
    if isinstance(error, DefinitionError):
        return _of_problems(error.problems, error.more)
    if isinstance(error, UnknownNameError):
        return Refused(404, str(error))
    if isinstance(error, ConflictError):
        return Refused(409, str(error))
    if isinstance(error, BadParameter):
        return Refused(400, str(error), parameter=error.parameter)
    if isinstance(error, UsageError | RefusedPeriod):
        return Refused(400, str(error))
    if isinstance(error, NotOpen | TooBusy | PartitionHalt):
        retry_s = RETRY_S[isinstance(error, PartitionHalt)]
        return Refused(503, str(error), headers={"Retry-After": retry_s})
    if isinstance(error, Unavailable):
        name = "Redis" if isinstance(error, StoreUnavailable) else "Kafka"
        return Refused(503, f"{name} does not answer; try again", headers={"Retry-After": "1"})
    if isinstance(error, PipelineError):
        stopped = "stopped on purpose; see the log of the server"
        return Refused(503, stopped, headers={"Retry-After": RETRY_S[True]})
    return Refused(500, "a bug; see the log of the server")


def _of_problems(problems: Sequence[Problem], more: int) -> Refused:
    """Every problem, up to a bound; then how many more there are."""
    shown = tuple(problems[:PROBLEMS_MAX])
    more += len(problems) - len(shown)
    message = "; ".join(problem.message[:_TEXT_CHARS_MAX] for problem in shown)
    if more > 0:
        message += f"; and {more} more"
    refused = Refused(400, "", shown)
    refused.message = message[:_MESSAGE_CHARS_MAX]
    return refused


def rendered(request: Request, refused: Refused) -> Response:
    """Return the answer in the form of the system whose path was asked."""
    path, media = request.url.path, "application/json"
    door = door_of(path)
    if door == "klaviyo":
        refused = _as_invalid(refused, "klaviyo")
        body, media = _klaviyo(refused), JSON_API
    elif door == "openmeter":
        body, media = _problem_details(refused), PROBLEM_JSON
    elif path in EVENTS_OF_STATSIG and refused.status == 503:
        body = {"success": False}
    elif door == "statsig":
        refused = _as_invalid(refused, "statsig")
        body = _statsig(refused)
    else:
        body = {"message": refused.message}
    return Response(
        dump_json(body), status_code=refused.status, media_type=media, headers=refused.headers
    )


def _as_invalid(refused: Refused, system: str) -> Refused:
    """A conflict as the systems tell it that know no 409."""
    if refused.status != 409:
        return refused
    problem = Problem("NAME", _TAKEN[system], refused.message)
    return Refused(400, refused.message, (problem,), headers=refused.headers)


def _klaviyo(refused: Refused) -> dict[str, Any]:
    problems = refused.problems or (Problem("", "/data", refused.message),)
    title = _TITLES.get(refused.status, "Error.")
    return {
        "errors": [
            {
                "id": str(uuid.uuid4()),
                "status": refused.status,
                "code": "invalid" if refused.status == 400 else title.rstrip(".").lower(),
                "title": title,
                "detail": problem.message[:_TEXT_CHARS_MAX],
                "source": {"pointer": problem.pointer}
                if refused.parameter is None
                else {"parameter": refused.parameter},
                "links": {},
                "meta": {},
            }
            for problem in problems
        ]
    }


def _problem_details(refused: Refused) -> dict[str, Any]:
    """RFC 7807, as OpenMeter has it."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": _TITLES.get(refused.status, "Error.").rstrip("."),
        "status": refused.status,
        "detail": refused.message,
        "instance": f"urn:uuid:{uuid.uuid4()}",
    }
    wrong = [
        {"code": each.rule, "field": each.pointer, "message": each.message[:_TEXT_CHARS_MAX]}
        for each in refused.problems
    ]
    if refused.parameter is not None:
        wrong.append({"code": "parameter", "field": refused.parameter, "message": refused.message})
    return {**body, "extensions": {"validationErrors": wrong}} if wrong else body


def _statsig(refused: Refused) -> dict[str, Any]:
    body: dict[str, Any] = {"status": refused.status, "message": refused.message}
    if refused.status == 401:
        body["message"] = f"This endpoint only accepts an active key: {refused.message}"
    if refused.status == 404:
        body["message"] = "Not Found. The requested resource could not be found."
    if refused.problems:
        body["message"] = "Invalid request. Please check the request input and try again."
        body["errors"] = [
            {
                "property": problem.pointer.strip("/").replace("/", "."),
                "errorMessage": problem.message[:_TEXT_CHARS_MAX],
            }
            for problem in refused.problems
        ]
    return body
