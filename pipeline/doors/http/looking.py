"""Bounded looks into the log: events by transaction_id, and trials. Nothing is kept of them."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from definitions.formats import FORMATS

from ...control.entities import Metric
from ...control.writer import Writer
from ...core.correction import RecordPlace
from ...errors import BadParameter, UnknownNameError
from ...reads.answers import UsageRow
from ...reads.behind import Behind, Place, Recounted
from ...reads.explain import Explainer
from ...reads.known import UNKNOWN, is_bare, is_known
from ...reads.originals import FoundOriginal, find_original
from ...reads.query import Query
from ...reads.trial import Trial, TrialAnswer, TrialQuery
from .errors import Refused
from .service import Service

FOUND_MAX: Final = 1_000
LOOK_S_MAX: Final = 30.0
_TOO_LONG: Final = (
    f"the log cannot be looked through within {LOOK_S_MAX:.0f} s; `recount explain` can"
)
_TOO_LONG_TO_TRY: Final = (
    f"the log cannot be counted within {LOOK_S_MAX:.0f} s; `recount metrics try` can; "
    "a sample of the customers, such as 1/50, needs less time"
)
_TOO_LONG_TO_TELL: Final = (
    f"that part of the log cannot be read within {LOOK_S_MAX:.0f} s; `recount events` can"
)
_PLACE: Final = re.compile(r"([0-9]{1,6})@([0-9]{1,18})", re.ASCII)
_TOO_MANY: Final = (
    f"more than {FOUND_MAX} records have these ids; ask for fewer ids, or use `recount explain`"
)


async def looked_up(
    service: Service, ids: frozenset[str], customer: str | None = None
) -> list[dict[str, Any]]:
    """Return the records of the log with these ids (and of a customer), each with its fate.

    Raises:
        Refused: the log is too long to be looked through while somebody waits, or holds more
            records of these ids than one answer: none is left out in silence.
        TooBusy: as many large questions as may be are being answered.
    """
    state = await service.fresh()
    service.contact.check()  # only the log has it
    explainer = Explainer(service.identity, state, service.store, service.log)
    found: list[dict[str, Any]] = []
    lines = explainer.find_all(ids, customer, lambda _: None, lambda _: None)
    try:
        async with service.large(), asyncio.timeout(LOOK_S_MAX), aclosing(lines):
            async for line in lines:
                if len(found) >= FOUND_MAX:
                    raise Refused(400, _TOO_MANY)
                found.append(line)
    except TimeoutError as error:
        raise Refused(400, _TOO_LONG) from error
    return found


async def first_of(service: Service, transaction_id: str, customer: str) -> dict[str, Any] | None:
    """Return the record of an identity that counts; None where the dedup window does not know it.

    Raises: see looked_up().
    """
    state = await service.fresh()
    service.contact.check()
    explainer = Explainer(service.identity, state, service.store, service.log)
    try:
        async with service.large(), asyncio.timeout(LOOK_S_MAX):
            return await explainer.first(transaction_id, customer)
    except TimeoutError as error:
        raise Refused(400, _TOO_LONG) from error


async def original_of(
    service: Service, transaction_id: str, customer: str, place: RecordPlace | None
) -> FoundOriginal:
    """Return the event that is to be corrected, however old.

    Raises: see find_original() and looked_up().
    """
    state = await service.fresh()
    service.contact.check()
    explainer = Explainer(service.identity, state, service.store, service.log)
    try:
        async with service.large(), asyncio.timeout(LOOK_S_MAX):
            return await find_original(
                explainer,
                service.log,
                transaction_id,
                customer,
                place,
                started=lambda _: None,
                progress=lambda _: None,
            )
    except TimeoutError as error:
        raise Refused(400, _TOO_LONG) from error


async def tried(
    service: Service, format_: str, text: str, against: Metric | None, given: dict[str, Any]
) -> TrialAnswer:
    """Return what a definition would have counted.

    given: the parameters of the question (TrialQuery.of).

    Raises:
        DefinitionError: every broken rule of the body. BadParameter, UsageError: the question
            cannot be answered. Refused: the log is too long to be counted while somebody waits.
        TooBusy: see looked_up().
    """
    if format_ not in FORMATS:
        raise BadParameter("format", f"one of {', '.join(sorted(FORMATS))}")
    state = await service.fresh()
    candidate = Writer(service.control, service.identity, service.clock).candidate
    name, definition = await asyncio.to_thread(candidate, format_, text)  # SQL takes time to read
    asked = TrialQuery.of(name, definition, against, find=state.find_typed, **given)
    trial = Trial(service.identity, state, service.store, service.log, service.reader)
    try:
        async with service.large(), asyncio.timeout(LOOK_S_MAX):
            return await trial.run(asked, lambda _: None, lambda _: None)
    except TimeoutError as error:
        raise Refused(400, _TOO_LONG_TO_TRY) from error


async def events_of(
    service: Service, query: Query, after: Place | None, limit: int
) -> tuple[list[dict[str, Any]], Recounted]:
    """Return a page of the events behind a number, and what comes behind them.

    Raises:
        UsageError: the metric has no such number. Refused: the part of the log is too long to be
            read while somebody waits. TooBusy: see looked_up().
    """
    service.contact.check()  # only the log has them
    behind = Behind(
        service.identity, service.control.state, service.store, service.log, service.reader
    )
    lines: list[dict[str, Any]] = []
    found = behind.events(query, lambda _: None, lambda _: None, after=after, limit=limit)
    try:
        async with service.large(), asyncio.timeout(LOOK_S_MAX), aclosing(found) as batches:
            async for batch in batches:
                if isinstance(batch, Recounted):
                    return lines, batch
                lines += batch
    except TimeoutError as error:
        raise Refused(400, _TOO_LONG_TO_TELL) from error
    raise AssertionError("an answer has an end")


def place_of(text: str | None) -> Place | None:
    """Read PARTITION@OFFSET.

    Raises:
        BadParameter: it is none.
    """
    if text is None:
        return None
    match = _PLACE.fullmatch(text)
    if match is None:
        raise BadParameter("after", "PARTITION@OFFSET, as the page before has it")
    return int(match[1]), int(match[2])


async def unknown_of(
    service: Service, customer: str | None, rows: Sequence[UsageRow]
) -> Mapping[str, Any]:
    """What an answer says besides about a customer that nothing has counted."""
    if customer is None or not is_bare(rows):
        return {}
    metrics = service.control.state.metrics.values()
    known = await is_known(service.store, service.identity, metrics, customer)
    return {} if known else UNKNOWN


def no_event(transaction_id: str, customer: str | None) -> UnknownNameError:
    """Return what to raise for an event that the log does not hold."""
    whose = "" if customer is None else f" for customer {customer!r}"
    return UnknownNameError(
        f"no event on the log has the transaction_id {transaction_id!r}{whose}; one that could "
        "not be read is among GET /recount/v1/rejected"
    )
