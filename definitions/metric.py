"""The neutral model: what to count, whatever system's words said it (FORMATS section 4).

A Definition is the body of a metric version. It is immutable; its digest is part of the fence,
so two workers that fold different bodies can never write into the same cells.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

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
    """The closed set of condition operators (FORMATS section 5)."""

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
    IS_TRUE = "is_true"
    IS_FALSE = "is_false"


class Comparison(StrEnum):
    """How both sides of a condition are read (FORMATS section 5)."""

    STRING = "string"
    TEXT = "text"
    NUMBER = "number"
    NUMBER_OR_TEXT = "number_or_text"
    BOOLEAN = "boolean"
    EXISTENCE = "existence"


class Class(StrEnum):
    """What it takes to compute a definition (FORMATS section 6)."""

    INCREMENTAL = "incremental"
    COMBINE_AT_READ = "combine_at_read"
    ENTITY_STATE = "entity_state"
    NOT_COMPUTABLE = "not_computable"


class Scope(StrEnum):
    """Whose total a metric is."""

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
    """Where in an event a value lies. A key is one literal name, a dot is no path (C03)."""

    source: Literal["property", "value", "user", "user_custom", "custom_id", "event_type"]
    key: str | None = None


class Condition(_Model):
    """One test of an event. Unknown is replaced by if_unknown at once (C06)."""

    field: Field
    operator: Operator
    operands: tuple[Operand, ...] = ()
    comparison: Comparison
    if_unknown: bool


class EventSelector(_Model):
    """Which event types a measure looks at; None is no rule."""

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None


class Measure(_Model):
    """One stored aggregate. numeric_text: decimal text is a number (CM8), or is not (CK2)."""

    name: str
    events: EventSelector
    where: tuple[Condition, ...] = ()
    aggregation: Aggregation
    field: Field | None = None
    numeric_text: bool = True


class Result(_Model):
    """How the measures become the metric's value. `add`: their sum, or the only one."""

    op: Literal["add"] = "add"
    args: tuple[str, ...]


class Origin(_Model):
    """The native body, byte for byte: what makes the way back exact."""

    format: Literal["klaviyo", "statsig", "metronome"]
    text: str


class Definition(_Model):
    """The body of a metric version.

    dimensions: the grouping sets besides the total, each a tuple of property names in the order
    in which the native body names them.
    """

    schema_version: Literal[1] = 1
    scope: Scope
    origin: Origin
    measures: tuple[Measure, ...]
    result: Result | None
    dimensions: tuple[tuple[str, ...], ...] = ()
    execution: Class
    reasons: tuple[str, ...] = ()

    @property
    def computable(self) -> bool:
        """Whether a stream can compute it; otherwise its values are null (C07)."""
        return self.execution is not Class.NOT_COMPUTABLE


class MetricVersion(_Model):
    """An immutable version of a metric.

    effective_from: inclusive, on a base-bucket boundary; None counts all that the log holds.
    digest: over metric, version, effective_from and body (DESIGN 6); made by the writer.
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


def native_body(parsed: Any, name: str) -> Any:
    """Return a native body under the metric's present name (a rename is no new version)."""
    return {**parsed, "name": name}
