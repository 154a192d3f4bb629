"""Requests: definitions changed by one JSON record on `metrics.requests` (docs/control-log.md).

Rule 1: a request has one outcome, which is one record of the control log: what it changes, and
what is told of it. The first one for a request's offset wins, so it does not matter who computes
it, nor how often. A request that is refused has an outcome too.
Rule 2: what is told is a copy of what the control log says; nothing else decides.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from definitions.errors import DefinitionError, Problem
from definitions.formats import FORMATS
from definitions.formats.bodies import Problems, dump_json, parse_json
from definitions.times import rfc3339

from ..errors import ConflictError, UnknownNameError, UsageError
from ..ports import Clock
from .draft import Draft
from .entities import DeploymentRecord, Metric
from .records import ControlState
from .writer import Writer, status_of

REQUEST_BYTES_MAX: Final = 524_288
_ID_CHARS_MAX: Final = 200
_TOLD_MAX: Final = 20  # problems of one request; of the others it is told how many there are
_POINTER_CHARS_MAX: Final = 300
_MESSAGE_CHARS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a request. records: of the control log; told: what a result says."""

    told: dict[str, Any]
    records: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request whose form is right. found: the metric that it names."""

    writer: Writer
    body: Mapping[str, Any]
    found: Metric | None = None

    @property
    def metric(self) -> Metric:
        """The metric that it names."""
        assert self.found is not None, "the operation names a metric"
        return self.found

    @property
    def text(self) -> str:
        """The native body: a string is kept byte by byte, an object with its numbers' digits."""
        native = self.body["body"]
        return native if isinstance(native, str) else dump_json(native)


async def _create(asked: _Asked) -> Metric | None:
    format_, text = asked.body["format"], asked.text
    starts = asked.writer.boundary(asked.body.get("effective_from"))
    name, definition = await asyncio.to_thread(asked.writer.parse, format_, text, reuse=True)
    if format_ == "statsig" and parse_json(text).get("dryRun"):
        return None
    return await asked.writer.create(name, definition, starts)


async def _update(asked: _Asked) -> Metric:
    return await asked.writer.update(asked.metric, asked.text, _moment(asked, "effective_from"))


async def _rename(asked: _Asked) -> Metric:
    return await asked.writer.rename(asked.metric, asked.body["name"])


async def _supersede(asked: _Asked) -> Metric:
    starts = _moment(asked, "effective_from")
    return await asked.writer.supersede(asked.metric, asked.body["format"], asked.text, starts)


async def _archive(asked: _Asked) -> Metric:
    dropped = asked.body.get("drop_history") or False
    return await asked.writer.archive(asked.metric, _moment(asked, "at"), drop_history=dropped)


async def _resume(asked: _Asked) -> Metric:
    return await asked.writer.resume(asked.metric)


def _moment(asked: _Asked, member: str) -> str:
    given: str | None = asked.body.get(member)
    return "now" if given is None else given


@dataclass(frozen=True, slots=True)
class _Operation:
    """What may be asked. needs: members that must be there; takes: those that may be."""

    work: Callable[[_Asked], Awaitable[Metric | None]]
    needs: tuple[str, ...]
    takes: tuple[str, ...] = ()


OPERATIONS: Final[dict[str, _Operation]] = {
    "create": _Operation(_create, ("format", "body"), ("effective_from",)),
    "update": _Operation(_update, ("metric", "body"), ("effective_from",)),
    "rename": _Operation(_rename, ("metric", "name")),
    "supersede": _Operation(_supersede, ("metric", "format", "body"), ("effective_from",)),
    "archive": _Operation(_archive, ("metric",), ("at", "drop_history")),
    "resume": _Operation(_resume, ("metric",)),
}
_ALWAYS: Final = ("op", "request_id")


async def outcome_of(
    value: bytes | None, *, place: str, state: ControlState, clock: Clock, refusal: str | None
) -> Outcome:
    """Return what becomes of a request on a state of the control log; the state is not changed.

    Args:
        value: The record's. place: What the request is called where it has no id of its own.
        refusal: Why it is not obeyed, whatever it says: its seal is wrong.
    """
    assert state.identity is not None, "the deployment was opened, so it exists"
    told: dict[str, Any] = {"request_id": place, "op": None}
    try:
        body = _read(value)
        told["request_id"] = _id_of(body) or place
        told["op"] = _operation_of(body)
        if refusal is not None:
            raise _refused("SEAL", "", refusal)
        _check_form(body)
        draft = Draft(state)
        made = await _work(body, draft, state.identity, clock)
    except DefinitionError as error:
        return Outcome({**told, "status": "refused", **_problems(error)})
    if made is None:
        return Outcome({**told, "status": "dry_run"})
    return Outcome({**told, "status": "done", "metric": _shown(made, clock)}, draft.records)


async def _work(
    body: Mapping[str, Any], draft: Draft, identity: DeploymentRecord, clock: Clock
) -> Metric | None:
    """Carry a request out on a draft. Raises DefinitionError, whatever is wrong with it."""
    operation, found = OPERATIONS[body["op"]], None
    if "metric" in operation.needs:
        found = draft.state.find(body["metric"])
        if found is None:
            raise _refused("UNKNOWN", "/metric", "no metric has this id or name")
    inside = "/body" if "body" in operation.needs else ""
    try:
        return await operation.work(_Asked(Writer(draft, identity, clock), body, found))
    except DefinitionError as error:
        moved = [
            Problem(each.rule, inside + each.pointer, each.message) for each in error.problems
        ]
        raise DefinitionError(moved, error.more) from error
    except ConflictError as error:
        raise _refused("CONFLICT", "", str(error)) from error
    except UnknownNameError as error:
        raise _refused("UNKNOWN", "/metric", str(error)) from error
    except UsageError as error:
        pointer = "/at" if "at" in operation.takes else "/effective_from"
        raise _refused("TIME", pointer, str(error)) from error


def _read(value: bytes | None) -> dict[str, Any]:
    if value is not None and len(value) > REQUEST_BYTES_MAX:
        message = f"a request has at most {REQUEST_BYTES_MAX:,} bytes, not {len(value):,}"
        raise _refused("LIMIT-BYTES", "", message)
    try:
        body = parse_json((value or b"").decode())
    except UnicodeDecodeError as error:
        raise _refused("JSON", "", f"not UTF-8: {error}") from error
    if not isinstance(body, dict):
        raise _refused("REQUEST", "", "a request is a JSON object")
    return body


def _id_of(body: Mapping[str, Any]) -> str | None:
    """The id that a request gives itself; of one that it may not have, nothing is told."""
    given = body.get("request_id")
    fits = isinstance(given, str) and 1 <= len(given) <= _ID_CHARS_MAX
    return given if fits else None


def _operation_of(body: Mapping[str, Any]) -> str | None:
    given = body.get("op")
    return given if isinstance(given, str) and given in OPERATIONS else None


def _check_form(body: Mapping[str, Any]) -> None:
    problems = Problems()
    name = _operation_of(body)
    if name is None:
        raise _refused("REQUEST", "/op", f"op is one of {', '.join(OPERATIONS)}")
    operation = OPERATIONS[name]
    if body.get("request_id") is not None and _id_of(body) is None:
        problems.add("REQUEST", "/request_id", "request_id is a string of 1 to 200 characters")
    known_members = (*_ALWAYS, *operation.needs, *operation.takes)
    problems.members(dict(body), known_members, "", "REQUEST")
    for member in operation.needs:
        if member not in body:
            problems.add("REQUEST", f"/{member}", f"{name} needs {member}")
    for member, (fits, said) in _MEMBERS.items():
        if member in body and member in known_members and not fits(body[member]):
            problems.add("REQUEST", f"/{member}", said)
    problems.raise_if_any()


def _is_moment(value: object) -> bool:
    return value is None or isinstance(value, str)


# member → whether a value fits, and what is said where it does not
_MEMBERS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "format": (
        lambda value: isinstance(value, str) and value in FORMATS,
        f"format is one of {', '.join(sorted(FORMATS))}",
    ),
    "body": (
        lambda value: isinstance(value, dict | str),
        "body is the native body: an object, or a string that holds its JSON text",
    ),
    "metric": (
        lambda value: isinstance(value, str),
        "metric is the id or the name of a metric",
    ),
    "name": (
        lambda value: isinstance(value, str) and bool(value.strip()),
        "name is a string that is not blank",
    ),
    "effective_from": (_is_moment, "effective_from is null, now or RFC 3339"),
    "at": (_is_moment, "at is null, now or RFC 3339"),
    "drop_history": (
        lambda value: value is None or isinstance(value, bool),
        "drop_history is true or false",
    ),
}


def refused(outcome: Outcome, rule: str, message: str) -> Outcome:
    """Return an outcome that changes nothing in place of one that cannot be written."""
    about = {name: outcome.told[name] for name in ("request_id", "op")}
    return Outcome({**about, "status": "refused", **_problems(_refused(rule, "", message))})


def _refused(rule: str, pointer: str, message: str) -> DefinitionError:
    return DefinitionError([Problem(rule, pointer, message)])


def _problems(error: DefinitionError) -> dict[str, Any]:
    """The problems of a request, bounded: a result lies on two topics for ever."""
    told = [
        {
            "rule": each.rule,
            "pointer": each.pointer[:_POINTER_CHARS_MAX],
            "message": each.message[:_MESSAGE_CHARS_MAX],
        }
        for each in error.problems[:_TOLD_MAX]
    ]
    more = error.more + len(error.problems) - len(told)
    return {"problems": told, **({"more": more} if more else {})}


def _shown(metric: Metric, clock: Clock) -> dict[str, Any]:
    body, ends = metric.latest.body, metric.latest.effective_to
    starts = None if body is None else body.effective_from
    return {
        "id": metric.id,
        "version": metric.latest.number,
        "name": metric.name,
        "format": metric.format,
        "status": status_of(metric, clock.now()),
        "effective_from": None if starts is None else rfc3339(starts),
        "effective_to": None if ends is None else rfc3339(ends),
        "reasons": [] if body is None else list(body.definition.reasons),
    }
