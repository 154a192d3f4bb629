"""A void → the events topic: what `recount void` and the door send."""

from datetime import datetime
from typing import Any, NamedTuple

from definitions.times import rfc3339

from ..core.correction import VOID, RecordPlace
from ..edges.kafka import durable, producer, sending
from ..edges.kafka_client import KafkaAddress
from ..errors import UsageError
from .publish import line_of

REASON_CHARS_MAX = 500


class VoidLine(NamedTuple):
    """A void that is ready to be sent: to the partition of its original."""

    transaction_id: str
    customer_id: str
    place: RecordPlace
    line: bytes


def void_of(
    transaction_id: str, customer_id: str, place: RecordPlace, reason: str | None, now: datetime
) -> VoidLine:
    """Return the void of an event. Sent twice, it is one: its id follows from the place.

    Raises:
        UsageError: the reason is too long.
    """
    if reason is not None and len(reason) > REASON_CHARS_MAX:
        raise UsageError(f"a reason has at most {REASON_CHARS_MAX} characters")
    own = f"{VOID}:{place.text}"
    record: dict[str, Any] = {
        "kind": VOID,
        "transaction_id": own,
        "customer_id": customer_id,
        "timestamp": rfc3339(now),
        "voids": {"transaction_id": transaction_id, "at": place.text},
        **({} if reason is None else {"reason": reason}),
    }
    return VoidLine(own, customer_id, place, line_of(record))


async def send_void(address: KafkaAddress, topic: str, void: VoidLine) -> RecordPlace:
    """Send a void; return where it lies once it is durable."""
    partition = void.place.partition
    async with producer(address) as client:
        sent = await sending(
            client, topic, void.line, key=void.customer_id.encode(), partition=partition
        )
        return RecordPlace(partition, await durable(client, topic, sent))
