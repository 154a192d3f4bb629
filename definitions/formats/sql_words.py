"""The SQL that is understood: aggregates, comparisons, and every kind of node with its members."""

from typing import Final, Literal

from sqlglot import exp

from ..metric import Aggregation, Operator


class Untranslatable(Exception):
    """Why a statement is kept as it is."""


AGGREGATES: Final[dict[type[exp.Expression], Aggregation]] = {
    exp.Sum: Aggregation.SUM,
    exp.Min: Aggregation.MIN,
    exp.Max: Aggregation.MAX,
    exp.Avg: Aggregation.MEAN,
    exp.ArgMax: Aggregation.LATEST,
    exp.ArgMin: Aggregation.FIRST,
}
NAMED: Final = {"latest": Aggregation.LATEST, "earliest": Aggregation.FIRST}
COMPARED: Final[dict[type[exp.Expression], Operator]] = {
    exp.EQ: Operator.EQUAL,
    exp.NEQ: Operator.NOT_EQUAL,
    exp.GT: Operator.GREATER,
    exp.GTE: Operator.GREATER_OR_EQUAL,
    exp.LT: Operator.LESS,
    exp.LTE: Operator.LESS_OR_EQUAL,
}
MIRRORED: Final = {
    Operator.GREATER: Operator.LESS,
    Operator.GREATER_OR_EQUAL: Operator.LESS_OR_EQUAL,
    Operator.LESS: Operator.GREATER,
    Operator.LESS_OR_EQUAL: Operator.GREATER_OR_EQUAL,
}
NEGATED: Final = {
    Operator.EQUAL: Operator.NOT_EQUAL,
    Operator.NOT_EQUAL: Operator.EQUAL,
    Operator.IN: Operator.NOT_IN,
    Operator.NOT_IN: Operator.IN,
    Operator.CONTAINS: Operator.NOT_CONTAINS,
    Operator.NOT_CONTAINS: Operator.CONTAINS,
    Operator.STARTS_WITH: Operator.NOT_STARTS_WITH,
    Operator.NOT_STARTS_WITH: Operator.STARTS_WITH,
    Operator.ENDS_WITH: Operator.NOT_ENDS_WITH,
    Operator.NOT_ENDS_WITH: Operator.ENDS_WITH,
    Operator.IS_SET: Operator.IS_NOT_SET,
    Operator.IS_NOT_SET: Operator.IS_SET,
    Operator.GREATER: Operator.LESS_OR_EQUAL,
    Operator.LESS_OR_EQUAL: Operator.GREATER,
    Operator.LESS: Operator.GREATER_OR_EQUAL,
    Operator.GREATER_OR_EQUAL: Operator.LESS,
}
Window = Literal["hour", "day", "week", "month"]
WINDOWS: Final[dict[str, Window]] = {
    "HOUR": "hour",
    "DAY": "day",
    "WEEK": "week",
    "MONTH": "month",
}
# Over rows of groups these give what they give over all events.
ADDITIVE: Final = {Aggregation.COUNT, Aggregation.SUM}
COLUMNS: Final = {"transaction_id", "customer_id", "event_type", "timestamp", "properties"}
_ONE, _TWO = frozenset({"this"}), frozenset({"this", "expression"})
_LISTED = frozenset({"this", "expressions"})
_TRUNCATED = frozenset({"this", "unit"})
# Every kind of node that is understood, with the members it may have. Whatever else the parser
# finds says something that would be lost.
NODES: Final[dict[type[exp.Expression], frozenset[str]]] = {
    **dict.fromkeys(
        (
            *(*COMPARED, exp.And, exp.Or, exp.Is, exp.ArgMax, exp.ArgMin),
            *(exp.Add, exp.Sub, exp.Mul, exp.Nullif, exp.Filter),
        ),
        _TWO,
    ),
    **dict.fromkeys(
        (
            *(exp.Sum, exp.Min, exp.Max, exp.Avg, exp.From, exp.Table, exp.Where, exp.Paren),
            *(exp.Not, exp.Neg, exp.Boolean, exp.Var, exp.CountIf, exp.DataTypeParam),
        ),
        _ONE,
    ),
    **dict.fromkeys((exp.Star, exp.Null), frozenset()),
    **dict.fromkeys((exp.DateTrunc, exp.TimestampTrunc), _TRUNCATED),
    **dict.fromkeys((exp.Anonymous, exp.In, exp.Bracket, exp.Coalesce), _LISTED),
    **dict.fromkeys((exp.Group, exp.Distinct), frozenset({"expressions"})),
    # The order of rows changes no number; ours come by window.
    exp.Select: frozenset({"expressions", "from", "from_", "where", "group", "order"}),
    exp.Alias: frozenset({"this", "alias"}),
    exp.Column: frozenset({"this", "table"}),
    exp.Identifier: frozenset({"this", "quoted"}),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Count: frozenset({"this", "expressions", "big_int"}),
    exp.Cast: frozenset({"this", "to"}),
    exp.TryCast: frozenset({"this", "to", "safe"}),
    exp.DataType: frozenset({"this", "nested", "expressions"}),
    exp.Div: frozenset({"this", "expression", "typed", "safe"}),
    exp.Case: frozenset({"this", "ifs", "default"}),
    exp.If: frozenset({"this", "true", "false"}),
    exp.Subquery: frozenset({"this", "alias"}),
    exp.TableAlias: frozenset({"this"}),
    exp.Round: frozenset({"this", "decimals"}),
    **dict.fromkeys((exp.Ceil, exp.Floor), _ONE),
    **dict.fromkeys((exp.Least, exp.Greatest), _LISTED | {"ignore_nulls"}),
    exp.Between: frozenset({"this", "low", "high"}),
    exp.Like: frozenset({"this", "expression", "negate"}),
}
