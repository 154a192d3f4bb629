"""The neutral model: what to count, whatever system's words said it (docs/formats.md 4).

A Definition is the body of a metric version. It is immutable; its digest is part of the fence,
so two workers that fold different bodies can never write into the same cells.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StrictBool,
    StrictInt,
    StrictStr,
)


class Aggregation(StrEnum):
    """How the values of a measure combine."""

    COUNT = "count"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    MEAN = "mean"
    UNIQUE = "count_distinct"
    LATEST = "latest"
    FIRST = "first"


class Operator(StrEnum):
    """The closed set of condition operators (docs/formats.md 5)."""

    IS_SET = "is_set"
    IS_NOT_SET = "is_not_set"
    EQUAL = "equal"
    NOT_EQUAL = "not_equal"
    LESS = "less"
    LESS_OR_EQUAL = "less_or_equal"
    GREATER = "greater"
    GREATER_OR_EQUAL = "greater_or_equal"
    IN = "in"
    NOT_IN = "not_in"
    CONTAINS = "contains"
    NOT_CONTAINS = "not_contains"
    STARTS_WITH = "starts_with"
    NOT_STARTS_WITH = "not_starts_with"
    ENDS_WITH = "ends_with"
    NOT_ENDS_WITH = "not_ends_with"
    MATCHES = "matches"
    NOT_MATCHES = "not_matches"
    ANY_ELEMENT_EQUAL = "any_element_equal"
    NO_ELEMENT_EQUAL = "no_element_equal"
    ANY_ELEMENT_CONTAINS = "any_element_contains"
    NO_ELEMENT_CONTAINS = "no_element_contains"
    ANY_ELEMENT_STARTS_WITH = "any_element_starts_with"
    NO_ELEMENT_STARTS_WITH = "no_element_starts_with"
    ANY_ELEMENT_ENDS_WITH = "any_element_ends_with"
    NO_ELEMENT_ENDS_WITH = "no_element_ends_with"
    IS_TRUE = "is_true"
    IS_FALSE = "is_false"


class Comparison(StrEnum):
    """How both sides of a condition are read (docs/formats.md 5)."""

    STRING = "string"
    TEXT = "text"
    NUMBER = "number"
    NUMBER_OR_TEXT = "number_or_text"
    BOOLEAN = "boolean"
    LIST = "list"
    EXISTENCE = "existence"


class Class(StrEnum):
    """What it takes to compute a definition (docs/formats.md 6)."""

    INCREMENTAL = "incremental"
    COMBINE_AT_READ = "combine_at_read"
    ENTITY_STATE = "entity_state"
    NOT_COMPUTABLE = "not_computable"


class Scope(StrEnum):
    """Whose total a metric is: each customer's, or everybody's together."""

    CUSTOMER = "customer"
    DEPLOYMENT = "deployment"


def _untag(value: object) -> object:
    if isinstance(value, dict) and set(value) == {"number"}:
        return Decimal(str(value["number"]))
    return value


def _tag(value: object) -> object:
    return {"number": str(value)} if isinstance(value, Decimal) else value


# A literal of a condition keeps its JSON type; a fraction travels as {"number": "9.5"},
# because a JSON reader would make a float of it.
Operand = Annotated[
    StrictStr | StrictBool | StrictInt | Decimal | None,
    BeforeValidator(_untag),
    PlainSerializer(_tag),
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Field(_Model):
    """Where in an event a value lies. A key is one literal name, a dot is no path (C03).

    property: the event's properties. The others are members of its context (4.1): value,
    user, user_custom, custom_id. A key with `value` names the property that stands for a missing
    event value (CK12). customer_id: whose event it is. time: when it happened, in nanoseconds
    since 1970, written in base 36.
    """

    source: Literal["property", "value", "user", "user_custom", "custom_id", "customer_id", "time"]
    key: str | None = None


class Condition(_Model):
    """One test of an event. Unknown is replaced by if_unknown at once (C06).

    strict: only JSON numbers and JSON booleans are read as such, never text (CK2, CK3).
    """

    field: Field
    operator: Operator
    operands: tuple[Operand, ...] = ()
    comparison: Comparison
    if_unknown: bool
    strict: bool = False


class EventSelector(_Model):
    """Which event types a measure looks at; None is no rule."""

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None


class Measure(_Model):
    """One stored aggregate.

    numeric_text: decimal text is a number (CM8), or is not (CK2).
    unit: cells are kept for each value of this field, whatever customer the event is of; an event
    without one adds nothing. None: kept as the definition's scope says.
    """

    name: str
    events: EventSelector
    where: tuple[Condition, ...] = ()
    aggregation: Aggregation
    field: Field | None = None
    numeric_text: bool = True
    unit: Field | None = None


class ResultKind(StrEnum):
    """How measures become a metric's value (reads/results.py computes each)."""

    ADD = "add"
    ADD_ROWS = "add_rows"
    RATIO = "ratio"
    RATIO_SAME_DAY = "ratio_same_day"
    UNIT_DAYS = "unit_days"
    UNITS = "units"
    FUNNEL = "funnel"
    UNIT_FUNNEL = "unit_funnel"
    UNIT_TOTALS = "unit_totals"
    UNIT_MEANS = "unit_means"
    UNIT_DAY_MEANS = "unit_day_means"
    ADD_METRICS = "add_metrics"
    ORDERED_FUNNEL = "ordered_funnel"
    PERCENTILE = "percentile"
    RETENTION = "retention"
    SUM_VALUES = "sum_values"


class Component(_Model):
    """Another metric by the name and type its system gives it."""

    name: str
    type: str


class Order(_Model):
    """What an ordered funnel asks of the times of its steps.

    within_ms: the last step comes at most so long after the first; None is no bound. allowance_ms:
    a step may be so much earlier than the one before it. strict: it may not be at the same time.
    by_group: a unit passes the steps in each of its groups by itself, an event without a group in
    none. counts_groups: the groups of units are counted, not units. seconds: the value is how long
    those that passed took, on average.
    """

    within_ms: Operand = None
    allowance_ms: Operand = None
    strict: bool = False
    by_group: bool = False
    counts_groups: bool = False
    seconds: bool = False


class Retention(_Model):
    """When a unit comes back: within the `length_days` that end `end_days` after its day."""

    end_days: StrictInt
    length_days: StrictInt


class Computed(_Model):
    """An expression over the columns of a row. operand: a number, a column's place, or places.

    round: halves go away from zero. least, greatest and first pass over what is null; any other
    step is null where anything in it is.
    """

    op: Literal[
        "column",
        "number",
        "add",
        "subtract",
        "multiply",
        "round",
        "ceil",
        "floor",
        "least",
        "greatest",
        "first",
    ]
    args: "tuple[Computed, ...]" = ()
    operand: Operand = None


class Result(_Model):
    """How the measures become the metric's value.

    add: the partials of `args` merged: sums add up, a mean is over all values. With `factors`, one
    for each of `args`, these are counts and sums, and each is multiplied before it is added.
    add_rows: the sum over the rows of a grouped statement of each row's value: a row is one group
    of the definition's grouping set in one of the UTC windows that `windows` names. `outer` is
    what is taken of the rows instead of their sum.
    ratio: add of `args` ÷ add of `denominator`; null where that is zero.
    ratio_same_day: the same over units and days; a unit's numerator counts on the days on which
    the unit has a denominator. Of `flags` a unit and day that has a number adds 1.
    unit_days, units: how many (unit, day) pairs, how many units have an event.
    funnel: the last step ÷ the first. `steps` has the measures of each; without it each of `args`
    is a step. unit_funnel: a step counts the
    (unit, day) pairs that have it and every step before it, in any order.
    unit_totals: the sum over units of their daily totals, each day at most `cap`; totals below the
    value at the rank `low`, or above the one at `high`, are replaced by it; with `threshold` a
    unit adds 1 where its total reaches it, else nothing.
    ordered_funnel: the last step ÷ the first, of units that passed the steps one after the other:
    `args` keep the times of events by unit, `steps` and `order` say the rest.
    percentile: the value at the rank `high`; `args` count events by their value: as units, or else
    as the groups of the definition's grouping set.
    sum_values: the sum of `computed` over the groups of the definition's grouping set, each as
    often as `args` count it.
    unit_means, unit_day_means: the mean over units, over (unit, day) pairs, of their values.
    retention: of the (unit, day) pairs of `denominator` in the window, those after which the unit
    has a day of `args` within `retention` ÷ all of them; days of `args` may lie after the window.
    add_metrics: the sum of other metrics, and of `args`: counts of events, or, where a measure is
    kept by unit, of (unit, day) pairs.
    """

    op: ResultKind = ResultKind.ADD
    args: tuple[str, ...] = ()
    denominator: tuple[str, ...] = ()
    steps: tuple[tuple[str, ...], ...] = ()
    cap: Operand = None
    threshold: Operand = None
    low: Operand = None
    high: Operand = None
    flags: tuple[str, ...] = ()
    order: Order | None = None
    factors: tuple[Operand, ...] = ()
    outer: Literal["sum", "max", "min", "mean"] = "sum"
    retention: Retention | None = None
    computed: Computed | None = None
    components: tuple[Component, ...] = ()
    windows: tuple[Literal["hour", "day", "week", "month"], ...] = ()


class Origin(_Model):
    """The native body, byte for byte: what makes the way back exact."""

    format: Literal["klaviyo", "statsig", "metronome"]
    text: str


VALUE_NAME: Final = "$value"  # how Klaviyo calls an event's own value (CK12)


class Definition(_Model):
    """The body of a metric version.

    dimensions: the grouping sets besides the total, each a tuple of property names in the order
    in which the native body names them; Klaviyo's `$value` is the event's own value (CK12).
    day_offset_minutes: where the days of units begin, minutes east of UTC (CS19).
    unit_types: each of them has a value of its own (result_of).
    awaits: names that no metric had, taken for events: until such an event was seen there is no
    value.
    reasons: why a stream cannot compute it; empty where it can.
    """

    schema_version: Literal[1] = 1
    scope: Scope
    origin: Origin
    measures: tuple[Measure, ...]
    result: Result | None
    dimensions: tuple[tuple[str, ...], ...] = ()
    day_offset_minutes: int = 0
    unit_types: tuple[str, ...] = ()
    awaits: tuple[Component, ...] = ()
    execution: Class
    reasons: tuple[str, ...] = ()

    @property
    def computable(self) -> bool:
        """Whether a stream can compute it; otherwise its values are null (C07)."""
        return self.execution is not Class.NOT_COMPUTABLE and not self.reasons

    @property
    def sets(self) -> tuple[tuple[Field, ...], ...]:
        """The fields of each grouping set besides the total."""
        own = VALUE_NAME if self.origin.format == "klaviyo" else None
        return tuple(
            tuple(Field(source="value" if key == own else "property", key=key) for key in keys)
            for keys in self.dimensions
        )

    @property
    def answering(self) -> frozenset[str]:
        """The names of the measures that make the value; others are kept for other questions."""
        return self.answering_of(None)

    def answering_of(self, unit: str | None) -> frozenset[str]:
        """The names of the measures that make the value of a unit type; None: the overall one."""
        result = self.result_of(unit)
        return frozenset() if result is None else frozenset((*result.args, *result.denominator))

    def result_of(self, unit: str | None) -> Result | None:
        """How the value of a unit type is made: of `name@unit` where there is such a measure."""
        if self.result is None or unit is None:
            return self.result
        known = {measure.name for measure in self.measures}

        def own(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(
                each if (variant := of_unit(each, unit)) not in known else variant
                for each in names
            )

        changed = {
            "args": own(self.result.args),
            "denominator": own(self.result.denominator),
            "steps": tuple(map(own, self.result.steps)),
            "flags": own(self.result.flags),
        }
        return self.result.model_copy(update=changed)


def of_unit(name: str, unit: str) -> str:
    """Return the name of a measure that stands for another one in the value of a unit type."""
    return f"{name}@{unit}"


class MetricVersion(_Model):
    """An immutable version of a metric.

    effective_from: inclusive, on a base-bucket boundary; None is no bound:
    the version counts whatever is applied after its activation, however old.
    digest: over metric, version, effective_from and body (docs/design.md 6); made by the writer.
    """

    metric_id: str
    version: int
    effective_from: datetime | None
    definition: Definition
    digest: str

    @property
    def key(self) -> str:
        """`metric_id#version`: the version's name on the control log and in Redis."""
        return f"{self.metric_id}#{self.version}"
