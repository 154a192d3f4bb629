"""Lines of a file → the events topic, durable before it returns."""

import uuid
from asyncio import Future
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from definitions.errors import DefinitionError
from definitions.events import translate
from definitions.events.common import Arrival
from definitions.formats.bodies import parse_json
from definitions.times import NS_PER_MS, parse_timestamp

from ..core.buckets import ns_of
from ..core.correction import Correction
from ..core.dedup import home_of
from ..core.deployment import Deployment
from ..core.event import CUSTOMER_ID_CHARS_MAX, decoder_for
from ..core.reasons import Reason, Rejected
from ..edges.clock import SystemClock
from ..edges.kafka import PlacedProducer, durable, producer, sending
from ..edges.kafka_client import KafkaAddress
from ..errors import UsageError

_IN_FLIGHT_MAX: Final = 5_000


class _Keyed(msgspec.Struct):
    customer_id: str


_CUSTOMER: Final = msgspec.json.Decoder(_Keyed)


_DECODE: Final = decoder_for(frozenset(), context=False).decode
_ENCODE: Final = msgspec.json.Encoder(decimal_format="number").encode


def line_of(event: dict[str, Any]) -> bytes:
    """Return the bytes of a translated event, its numbers exact."""
    return _ENCODE(event)


def translated(
    system: str, lines: Iterable[bytes], environments: frozenset[str] | None
) -> Iterator[bytes]:
    """Yield the events of lines of another system's bodies.

    environments: of Statsig's events those that count; None is all.

    Raises:
        UsageError: a line that cannot be translated, with its number.
    """
    arrival = Arrival(
        SystemClock().now(), new_id=lambda: uuid.uuid4().hex, environments=environments
    )
    for number, line in enumerate(lines, start=1):
        try:
            events = translate(system, parse_json(line.decode()), arrival)
        except (DefinitionError, UnicodeDecodeError) as error:
            raise UsageError(f"line {number}: {error}") from error
        yield from map(line_of, events)


def customer_of(line: bytes) -> str | None:
    """Return the customer of an event's bytes; None where there is none that an event can have."""
    try:
        customer: str = _CUSTOMER.decode(line).customer_id
        customer.encode()
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return customer if len(customer) <= CUSTOMER_ID_CHARS_MAX else None


@dataclass(slots=True)
class Checked:
    """What workers would say of events that were not sent yet.

    total: events. rejected: reason → how many, and the number of the first of them, from 1 on.
    """

    total: int = 0
    rejected: dict[Reason, tuple[int, int]] = field(default_factory=dict)

    @property
    def rejected_total(self) -> int:
        """How many workers would reject."""
        return sum(count for count, _ in self.rejected.values())

    @property
    def told(self) -> str:
        """One sentence for people."""
        each = ", ".join(
            f"{count:,} {reason} (first at line {first:,})"
            for reason, (count, first) in self.rejected.items()
        )
        return f"{self.rejected_total:,} of {self.total:,} would be rejected: {each}"


def check(lines: Iterable[bytes], deployment: Deployment, now: datetime) -> Checked:
    """Judge events as workers would, by their form and their age now; sends nothing."""
    found = Checked()
    oldest = None
    if deployment.max_age_ms:
        oldest = ns_of(now) - deployment.max_age_ms * NS_PER_MS
    newest = ns_of(now) + deployment.max_ahead_ms * NS_PER_MS
    for number, line in enumerate(lines, start=1):
        found.total = number
        reason = _reason(line, oldest, newest)
        if reason is not None:
            count, first = found.rejected.get(reason, (0, number))
            found.rejected[reason] = count + 1, first
    return found


def _reason(line: bytes, oldest: int | None, newest: int) -> Reason | None:
    event = _DECODE(line)
    if isinstance(event, Rejected):
        return event.reason
    at = parse_timestamp(event.timestamp)
    if at is None:
        return Reason.INVALID_TIMESTAMP
    if isinstance(event, Correction):
        return None  # it has no age, and what it names the worker judges
    if at > newest:
        return Reason.TOO_FAR_AHEAD
    return Reason.TOO_OLD if oldest is not None and at < oldest else None


async def publish(
    address: KafkaAddress,
    topic: str,
    lines: Iterable[bytes],
    *,
    homes: int,
    keyed: bool,
    progress: Callable[[int], None],
) -> int:
    """Send every line unchanged and unvalidated, in order; return how many are durable.

    A keyed line goes to its customer's home partition, whatever the topic has grown to. One
    without a customer, or any line if not keyed, goes to any partition.

    Raises:
        UsageError: a line that the topic cannot take, with its number.
    """
    count = 0
    async with producer(address, linger_ms=5, max_batch_size=262_144) as client:
        waiting: list[Future[Any]] = []
        for count, line in enumerate(lines, start=1):
            customer = customer_of(line) if keyed else None
            home = None if customer is None else home_of(customer, homes)
            key = None if customer is None else customer.encode()
            try:
                waiting.append(await sending(client, topic, line, key=key, partition=home))
            except ValueError as error:
                raise UsageError(f"line {count}: {error}") from error
            if len(waiting) >= _IN_FLIGHT_MAX:
                await _durable(client, topic, waiting, progress)
        await _durable(client, topic, waiting, progress)
    return count


async def _durable(
    client: PlacedProducer,
    topic: str,
    waiting: "list[Future[Any]]",
    progress: Callable[[int], None],
) -> None:
    for future in waiting:
        await durable(client, topic, future)
    progress(len(waiting))
    waiting.clear()
