"""Dead letters: which there are, and sending those again that can count now.

A letter is known by where its event lay and when it was appended: a crash may have written it
twice, and a topic made anew begins at offset 0 again.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from json import dumps as quoted
from typing import Final, Protocol

from definitions.times import NS_PER_MS, parse_timestamp

from ..control.entities import DeploymentRecord
from ..core.buckets import ns_of
from ..core.dedup import home_of
from ..core.deployment import Deployment
from ..core.event import Decoder, Event
from ..core.reasons import REDRIVABLE, Reason
from ..edges.kafka import KafkaLog, all_records, durable, producer, sending
from ..edges.kafka_client import KafkaAddress
from ..edges.letter_headers import (
    APPEND_TIME,
    DETAIL,
    KEY,
    OMITTED,
    REASON,
    REDRIVEN,
    letter_key,
)
from ..errors import UsageError

# What letter_key() makes, and nothing that only looks like it: `²` is a digit to str.isdigit().
_KEY: Final = re.compile(r"(?s:(.+))/([0-9]{1,10})@([0-9]{1,19})", re.ASCII)
_APPEND_TIME: Final = re.compile(r"-1|[0-9]{1,15}", re.ASCII)
_DECODE: Final = Decoder(None, context=True).decode


@dataclass(frozen=True, slots=True)
class Letter:
    """A rejected event, once.

    original: its bytes; None where there were none, or where they did not fit (omitted says so).
    redriven: where it was sent again, `topic/partition@offset`.
    """

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    append_time_ms: int
    key: str | None
    original: bytes | None
    omitted: str | None = None
    redriven: str | None = None


async def letters_of(address: KafkaAddress, topic: str) -> list[Letter]:
    """Return the dead letters of a deployment, each rejected event once, oldest first."""
    return collect([record async for record in all_records(address, topic)])


def about(letters: Iterable[Letter], transaction_id: str) -> list[Letter]:
    """Return the letters of events that say this id, also where they cannot be read as JSON."""
    spelt = {quoted(transaction_id, ensure_ascii=each).encode() for each in (True, False)}
    return [
        letter
        for letter in letters
        if letter.original is not None and any(text in letter.original for text in spelt)
    ]


class LetterRecord(Protocol):
    """A record of the topic of dead letters, as Kafka's client gives it."""

    @property
    def key(self) -> bytes | None:
        """What letter_key() made, or anything."""
        ...

    @property
    def value(self) -> bytes | None:
        """The original."""
        ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Names and texts."""
        ...


def collect(records: Iterable[LetterRecord]) -> list[Letter]:
    """Return the letters among records, in their order; whatever else lies there is passed over.

    A letter has a key that letter_key() makes and an append time. Anyone may write to the topic,
    so nothing in a record can make this fail.
    """
    found: dict[tuple[str, str], Letter] = {}
    for record in records:
        place = _KEY.fullmatch((record.key or b"").decode(errors="replace"))
        headers = {name: (text or b"").decode(errors="replace") for name, text in record.headers}
        append_time = headers.get(APPEND_TIME, "-1")
        if place is None or _APPEND_TIME.fullmatch(append_time) is None:
            continue
        known = (place[0], append_time)
        letter = found.get(known)
        if REDRIVEN in headers:
            if letter is not None:
                found[known] = replace(letter, redriven=headers[REDRIVEN])
        elif letter is None:
            found[known] = Letter(
                reason=headers.get(REASON, ""),
                detail=headers.get(DETAIL, ""),
                topic=place[1],
                partition=int(place[2]),
                offset=int(place[3]),
                append_time_ms=int(append_time),
                key=headers.get(KEY),
                original=record.value,
                omitted=headers.get(OMITTED),
            )
    return list(found.values())


@dataclass(slots=True)
class Redriven:
    """What came of a re-drive. refused: why → how many letters stayed where they are."""

    sent: int
    refused: Counter[str]


async def redrive(
    address: KafkaAddress,
    identity: DeploymentRecord,
    log: KafkaLog,
    wanted: list[Letter],
    *,
    now: datetime,
    progress: Callable[[int], None],
) -> Redriven:
    """Send events again under their own transaction_id, each to its customer's home partition.

    An event that is sent twice counts once: its identity is the same. Durable order: the event,
    then the note that it was sent; a crash in between sends it again.
    """
    topic = identity.topics["events"][0]
    told = Redriven(0, Counter())
    async with producer(address) as client:
        for letter in wanted:
            progress(1)
            why = _refusal(letter, identity.deployment, now)
            event = None if letter.original is None else _DECODE(letter.original)
            if why is not None or not isinstance(event, Event) or letter.original is None:
                told.refused[why or f"{letter.reason}: it would be rejected again"] += 1
                continue
            home = home_of(event.customer_id, identity.deployment.homes)
            try:
                sent = await sending(
                    client,
                    topic,
                    letter.original,
                    key=event.customer_id.encode(),
                    partition=home,
                )
            except ValueError as error:
                raise UsageError(f"{topic}/{letter.partition}@{letter.offset}: {error}") from error
            offset = await durable(client, topic, sent)
            key = letter_key(letter.topic, letter.partition, letter.offset)
            await log.mark_redriven(key, letter.append_time_ms, letter_key(topic, home, offset))
            told.sent += 1
    return told


def _refusal(letter: Letter, deployment: Deployment, now: datetime) -> str | None:
    """Why sending a letter again would be in vain; None where it would not."""
    if letter.redriven is not None:
        return "sent again already"
    if letter.reason not in REDRIVABLE:
        return f"{letter.reason}: it would be rejected again"
    event = _DECODE(letter.original)
    at = parse_timestamp(event.timestamp) if isinstance(event, Event) else None
    if at is None:
        return f"{letter.reason}: this release cannot read the event either"
    behind_ms = (ns_of(now) - at) // NS_PER_MS
    if deployment.max_age_ms and behind_ms > deployment.max_age_ms:
        return f"{letter.reason}: now it would be {Reason.TOO_OLD}"
    if behind_ms < -deployment.max_ahead_ms:
        return f"{letter.reason}: it is still {Reason.TOO_FAR_AHEAD}"
    return None
