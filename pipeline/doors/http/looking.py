"""Events by transaction_id: a bounded look into the log; nothing is kept for it."""

import asyncio
from contextlib import aclosing
from typing import Any, Final

from ...reads.explain import Explainer
from .errors import Refused
from .service import Service

FOUND_MAX: Final = 1_000
LOOK_S_MAX: Final = 30.0
_TOO_LONG: Final = (
    f"the log cannot be looked through within {LOOK_S_MAX:.0f} s; `recount explain` can"
)
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
