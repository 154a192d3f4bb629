"""A void or an amend → the events topic: what `recount void` and `amend` and their doors send."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from definitions.times import rfc3339

from ..core.correction import AMEND, VOID, Correction, RecordPlace
from ..core.event import Decoder
from ..core.reasons import Rejected
from ..edges.kafka import durable, producer, sending
from ..edges.kafka_client import KafkaAddress
from ..errors import UsageError
from .publish import line_of

REASON_CHARS_MAX: Final = 500
_DECODE: Final = Decoder(frozenset()).decode


class CorrectionLine(NamedTuple):
    """A void or an amend that is ready to be sent: to the partition of its original."""

    transaction_id: str
    customer_id: str
    place: RecordPlace
    line: bytes


def void_of(
    transaction_id: str, customer_id: str, place: RecordPlace, reason: str | None, now: datetime
) -> CorrectionLine:
    """Return the void of an event. Sent twice, it is one: its id follows from the place.

    Raises:
        UsageError: the reason is too long.
    """
    named = {"voids": {"transaction_id": transaction_id, "at": place.text}}
    own = f"{VOID}:{place.text}"
    return _made(VOID, own, customer_id, rfc3339(now), place, {**named, **_because(reason)})


def amend_of(
    transaction_id: str,
    customer_id: str,
    place: RecordPlace,
    reason: str | None,
    timestamp: str,
    event: Mapping[str, Any],
) -> CorrectionLine:
    """Return the amend of an event. Its id follows from the place and from what it says.

    Args:
        timestamp: The original's. event: event_type, properties and context that count instead.

    Raises:
        UsageError: no event can be such, or the reason is too long.
    """
    digest = blake2b(line_of(dict(event)), digest_size=6).hexdigest()
    named = {"amends": {"transaction_id": transaction_id, "at": place.text}, "event": event}
    own = f"{AMEND}:{place.text}:{digest}"
    return _made(AMEND, own, customer_id, timestamp, place, {**named, **_because(reason)})


def _because(reason: str | None) -> dict[str, str]:
    if reason is not None and len(reason) > REASON_CHARS_MAX:
        raise UsageError(f"a reason has at most {REASON_CHARS_MAX} characters")
    return {} if reason is None else {"reason": reason}


def _made(
    kind: str,
    own: str,
    customer_id: str,
    timestamp: str,
    place: RecordPlace,
    more: Mapping[str, Any],
) -> CorrectionLine:
    ids = {"kind": kind, "transaction_id": own, "customer_id": customer_id}
    line = line_of({**ids, "timestamp": timestamp, **more})
    decoded = _DECODE(line)
    if not isinstance(decoded, Correction):
        why = decoded.detail if isinstance(decoded, Rejected) else "it is none"
        raise UsageError(f"no {kind} can be such: {why}")
    return CorrectionLine(own, customer_id, place, line)


async def send_correction(address: KafkaAddress, topic: str, made: CorrectionLine) -> RecordPlace:
    """Send a correction; return where it lies once it is durable."""
    partition = made.place.partition
    async with producer(address) as client:
        sent = await sending(
            client, topic, made.line, key=made.customer_id.encode(), partition=partition
        )
        return RecordPlace(partition, await durable(client, topic, sent))
