"""Rows of events, and what their fields hold, column by column: read once, whoever asks.

A column knows the types of its values. Most columns hold one type, and then a step needs no look
at each value: no row is without one, all are texts, all are decimals.

Fields and what conditions ask have numbers, given once for a set of rules: a field takes longer to
look up than a value to add.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any, Final, NamedTuple

from definitions.metric import Condition, Field
from definitions.values import ABSENT

from ..aggregations import base36
from ..cells import SHORT_CHARS_MAX, group_of
from ..event import Decoder, Event
from ..records import LogRecord

EVERYBODY: Final = ""  # the owner of cells of the whole deployment; no customer has this id
Kinds = AbstractSet[type]
NOTHING: Final[Kinds] = frozenset({type(None), type(ABSENT)})
TEXT: Final[Kinds] = frozenset({str})
INT: Final[Kinds] = frozenset({int})
DECIMAL: Final[Kinds] = frozenset({Decimal})
# Of these kinds, equal values are the same to every test and reader. Of others they are not: 1
# equals True, and an int that is too long to be read equals a Decimal that is not.
ALIKE: Final[Kinds] = NOTHING | TEXT | INT
# source of a field → its member of the context (docs/formats.md 4.1)
_MEMBERS: Final = {"user": "user", "user_custom": "custom", "custom_id": "custom_ids"}
_NO_CONTEXT: Final[dict[str, Any]] = {}

# Numbers of rows, in order
Kept = Sequence[int]
# A base bucket's places by owner, and what makes one
PlaceOf = Mapping[int, dict[str, int]]
NewPlace = Callable[[str, int], int]


class Rows(NamedTuple):
    """Events of one type, column by column; times in ns, log clocks in ms.

    span: no time is before the first or after the last of these two.
    """

    events: Sequence[Event]
    times: Sequence[int]
    clocks: Sequence[int]
    records: Sequence[LogRecord]
    span: tuple[int, int]


class Column:
    """What a field holds in each row."""

    __slots__ = ("_distinct", "_kinds", "_names", "values")

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values
        self._kinds: Kinds | None = None
        self._distinct: set[Any] | None = None
        self._names: Sequence[str | None] | None = None

    @property
    def kinds(self) -> Kinds:
        """The types of the values."""
        if self._kinds is None:
            self._kinds = set(map(type, self.values))
        return self._kinds

    @property
    def distinct(self) -> set[Any]:
        """The values, each once; only where all kinds are ALIKE."""
        if self._distinct is None:
            self._distinct = set(self.values)
        return self._distinct

    @property
    def names(self) -> Sequence[str | None]:
        """What the values are called as groups."""
        if self._names is None:
            if self.kinds == TEXT and max(map(len, self.values)) <= SHORT_CHARS_MAX:
                self._names = self.values
            elif self.kinds <= ALIKE:
                called = {value: group_of(value) for value in self.distinct}
                self._names = [called[value] for value in self.values]
            else:
                self._names = list(map(group_of, self.values))
        return self._names


class RowReader:
    """What the rules of an event type read and ask, by number.

    readers: of the fields. asked: how many questions there are.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._fields: dict[Field, int] = {}
        self._questions: dict[str, int] = {}
        self.readers: list[Callable[[Columns], Sequence[Any]]] = []

    def field(self, field: Field) -> int:
        """The number of a field."""
        if field not in self._fields:
            self._fields[field] = len(self.readers)
            self.readers.append(_reader(field, self._decoder))
        return self._fields[field]

    def question(self, conditions: Sequence[Condition]) -> int:
        """The number of conditions that must all hold: rules often begin with the same ones."""
        # Not the conditions: 1 and True are equal.
        return self._questions.setdefault(repr(conditions), len(self._questions))

    @property
    def asked(self) -> int:
        return len(self._questions)


class Columns:
    """Rows, and what was read of all of them so far.

    matched: by number of a question, the rows for which it holds.
    """

    def __init__(
        self, rows: Rows, reader: RowReader, place_of: PlaceOf, new_place: NewPlace, bucket_ns: int
    ) -> None:
        self.rows = rows
        self.every: Kept = range(len(rows.events))
        self.matched: list[Kept | None] = [None] * reader.asked
        first, last = (event_ns // bucket_ns for event_ns in rows.span)
        self.buckets: Sequence[int] = [first] * len(rows.events)
        self._is_one_bucket = first == last
        if first != last:
            self.buckets = [event_ns // bucket_ns for event_ns in rows.times]
            self._is_one_bucket = len(set(self.buckets)) == 1
        self._readers = reader.readers
        self._columns: list[Column | None] = [None] * len(reader.readers)
        self._properties: list[Any] | None = None
        self._contexts: list[dict[str, Any]] | None = None
        self._everybody: Sequence[str] | None = None
        self._place_of = place_of
        self._new_place = new_place
        self._places: dict[int, list[int]] = {}

    @property
    def properties(self) -> list[Any]:
        if self._properties is None:
            self._properties = [event.properties for event in self.rows.events]
        return self._properties

    @property
    def contexts(self) -> list[dict[str, Any]]:
        if self._contexts is None:
            self._contexts = [event.context or _NO_CONTEXT for event in self.rows.events]
        return self._contexts

    @property
    def everybody(self) -> Sequence[str]:
        """The owner of every row where cells are the deployment's."""
        if self._everybody is None:
            self._everybody = [EVERYBODY] * len(self.every)
        return self._everybody

    def read(self, number: int) -> Column:
        """What the rows hold of a field."""
        found = self._columns[number]
        if found is None:
            found = self._columns[number] = Column(self._readers[number](self))
        return found

    def places(self, owners: Sequence[Any]) -> list[int]:
        """The places of the owners' totals; -1 where the owner is None, nobody."""
        found = self._places.get(id(owners))  # which the column keeps alive
        if found is None:
            found = self._places[id(owners)] = self._looked_up(owners)
        return found

    def _looked_up(self, owners: Sequence[Any]) -> list[int]:
        here = self._place_of[self.buckets[0]]
        if self._is_one_bucket:
            try:
                return list(map(here.__getitem__, owners))
            except KeyError:
                pass  # one that is new here, or nobody
        found, bucket = list[int](), None
        for owner, now in zip(owners, self.buckets, strict=True):
            if now != bucket:
                bucket, here = now, self._place_of[now]
            at = here.get(owner)
            if at is None:
                at = -1 if owner is None else self._new_place(owner, now)
            found.append(at)
        return found


def _reader(field: Field, decoder: Decoder) -> Callable[[Columns], Sequence[Any]]:
    """What reads a field of all rows; ABSENT where an event has none."""
    if field.source == "customer_id":
        return lambda columns: [event.customer_id for event in columns.rows.events]
    if field.source == "time":
        return lambda columns: list(map(base36, columns.rows.times))
    if field.source == "property":
        read = decoder.reader(str(field.key))
        return lambda columns: list(map(read, columns.properties))
    if field.source == "value":
        return _value_reader(None if field.key is None else decoder.reader(field.key))
    name, key = _MEMBERS[field.source], field.key
    return lambda columns: [
        holder.get(key, ABSENT) if type(holder := context.get(name)) is dict else ABSENT
        for context in columns.contexts
    ]


def _value_reader(otherwise: Callable[[Any], Any] | None) -> Callable[[Columns], Sequence[Any]]:
    """What reads the value of each event. otherwise: of the properties of one that has none."""
    if otherwise is None:
        return lambda columns: [
            ABSENT if (given := context.get("value")) is None else given
            for context in columns.contexts
        ]
    return lambda columns: [
        otherwise(held) if (given := context.get("value")) is None else given
        for held, context in zip(columns.properties, columns.contexts, strict=True)
    ]
