"""Cursors: after which row a page ended, so that the next one goes on there, whatever came since.

Rule 1: a list has one total order of keys that never change, and a cursor names the key of the
last row. So the pages of one walk are disjoint, and hold every row that was there when the walk
began; a row that comes meanwhile is on a later page or on none, and moves no other row.
Rule 2: a cursor is of one deployment, one list and one question. Any other text is 400.
Rule 3: a cursor of numbers also holds the offsets that the first page stood at, and every page
says where it stands itself, so that a reader sees when numbers moved on between two pages.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from definitions.times import parse_timestamp, rfc3339

from ...control.entities import Metric
from ...control.members import claim_of
from ...reads.answers import AsOf, joined
from ...reads.lines import named_offsets
from ...reads.standing import UNREACHABLE
from .errors import Refused
from .service import Service

T = TypeVar("T")
Key = tuple[int | str, ...]
CURSOR_CHARS_MAX: Final = 32_768  # looked at before anything is decoded; a header has 64 KiB
_FORM: Final = 1  # of what a cursor holds; another form is not read
_SEAL_BYTES: Final = 16
_TEXT_CHARS_MAX: Final = 64  # of a text in a key; of a longer one its beginning and its hash
_KEY_TEXTS_MAX: Final = 16  # of a key with more of them a hash stands for the rest


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows in their order. next: the cursor of the page after it, if there is one."""

    rows: list[T]
    next: str | None


class Walk:
    """One walk over the pages of a list, from its first page or from a cursor on.

    began: partition → offset the first page stood at; empty for lists without numbers.
    """

    def __init__(
        self, service: Service, question: Mapping[str, Any], cursor: str | None, parameter: str
    ) -> None:
        """Begin, or go on.

        Args:
            question: What decides which rows there are, in which order; not the size of a page.
            cursor: As the client gave it; empty begins.
            parameter: Its name, for the refusal.
            service: Its control log is read as far as the question asks.

        Raises:
            Refused: the cursor is not of an earlier answer to this question.
        """
        deployment = service.identity.deployment
        self._secret = hashlib.blake2b(
            deployment.store_id.encode(), digest_size=32, person=b"recount cursors"
        ).digest()
        asked = json.dumps(question, sort_keys=True, default=str).encode()
        self._question = hashlib.blake2b(asked, digest_size=16).hexdigest()
        self._parameter = parameter
        self._after: Key | None = None
        self._control = service.control.state
        self._began_at = self._control.next  # how far the control log was read for the first page
        self.began: dict[str, int] = {}
        if cursor:
            self._go_on(cursor)

    def _go_on(self, cursor: str) -> None:
        raw = self._opened(cursor)
        if raw is None:
            raise self._refused("is not a cursor of an earlier answer; begin without one")
        held = json.loads(raw)
        if held["form"] != _FORM:
            raise self._refused("is a cursor of another release; begin without one")
        if held["question"] != self._question:
            raise self._refused("is a cursor of another question; send the question unchanged")
        self._after = tuple(held["after"])
        self._began_at, self.began = held["began_at"], held["began"]

    def _opened(self, cursor: str) -> bytes | None:
        """What a cursor of ours holds; None where it is none."""
        if len(cursor) > CURSOR_CHARS_MAX or not cursor.isascii():
            return None
        try:
            sealed = base64.b64decode(cursor, b"-_", validate=True)
        except ValueError:
            return None
        if base64.urlsafe_b64encode(sealed).decode() != cursor:
            return None  # bits beside the last byte: another spelling
        seal, raw = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
        return raw if hmac.compare_digest(seal, self._seal(raw)) else None

    def _seal(self, raw: bytes) -> bytes:
        return hmac.digest(self._secret, raw, "sha256")[:_SEAL_BYTES]

    def _refused(self, why: str) -> Refused:
        return Refused(400, f"{self._parameter} {why}", parameter=self._parameter)

    def is_past(self, key: Key, *, whole: bool = False) -> bool:
        """Whether the walk has passed every row whose key begins so.

        whole: it is the whole key of a row.
        """
        if self._after is None:
            return False
        place = bounded(key)
        return place <= self._after if whole else place < self._after[: len(place)]

    def page(self, rows: Sequence[tuple[Key, T]], limit: int) -> Page[T]:
        """Return the page of at most so many rows that the walk has come to.

        rows: every row that there is now, each with its key, in any order.
        """
        ordered = sorted(((bounded(key), row) for key, row in rows), key=lambda item: item[0])
        if self._after is not None:
            after = self._after
            ordered = [item for item in ordered if item[0] > after]
        shown = ordered[:limit]
        more = len(ordered) > limit
        return Page([row for _, row in shown], self._cursor(shown[-1][0]) if more else None)

    def _cursor(self, after: Key) -> str:
        held = {
            "form": _FORM,
            "question": self._question,
            "after": after,
            "began_at": self._began_at,
            "began": self.began,
        }
        raw = json.dumps(held, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._seal(raw) + raw).decode()

    def stands(self, reads: Sequence[AsOf]) -> dict[str, Any]:
        """Return where a page of numbers stands, and note it where the page is the first.

        reads: the `as_of` of every read that the page is made of. Of several the earliest offset
        counts; `moved_on` says whether any row may hold events that the first page stood before.
        """
        read = joined(reads)
        numbers = {str(number): offset for number, offset in read.offsets.items()}
        if self._after is None:
            self.began = numbers
        moved = any(
            self.began.get(str(number)) != offset
            for each in reads
            for number, offset in each.offsets.items()
        )
        through = read.applied_through
        return {
            "offsets": named_offsets(read.topic, read.offsets),
            "applied_through": None if through is None else rfc3339(through),
            "first_page_offsets": {
                f"{read.topic}/{number}": self.began.get(number) for number in numbers
            },
            "moved_on": moved,
            **({"halted_partitions": list(read.halted)} if read.halted else {}),
            **read.history.warning,
            **(UNREACHABLE if read.unapplied is None else {}),
        }

    def had(self, metric: Metric) -> bool:
        """Whether a metric was there, not archived, when the walk began."""
        if metric.archived_at is None:
            return True
        end = {"type": "end", "metric_id": metric.id, "version": metric.latest.number}
        ended_at = self._control.won.get(claim_of(end), -1)
        return ended_at >= self._began_at


def created_key(metric: Metric) -> Key:
    """The place of a metric among others: oldest first."""
    return parse_timestamp(metric.versions[0].created_at) or 0, metric.id


def text_key(text: str | None) -> Key:
    """The place of a text that may be missing: null comes first."""
    return (0, "") if text is None else (1, text)


def bounded(key: Key) -> Key:
    """Return a key of bounded size for a key; two keys are never one.

    Long texts are ordered by their beginning, then by their hash: the order is as fixed.
    """
    parts = tuple(_bounded_text(part) if isinstance(part, str) else part for part in key)
    if len(parts) <= _KEY_TEXTS_MAX:
        return parts
    rest = json.dumps(parts[_KEY_TEXTS_MAX:]).encode()
    return (*parts[:_KEY_TEXTS_MAX], hashlib.blake2b(rest, digest_size=16).hexdigest())


def _bounded_text(text: str) -> str:
    if len(text) <= _TEXT_CHARS_MAX:
        return text
    return (
        text[:_TEXT_CHARS_MAX]
        + hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    )
