"""OpenMeter: answers (docs/formats.md 9)."""

from typing import Any, Final

from pydantic import Field

from ..model import AnswerModel, Number


class MeterRow(AnswerModel):
    """A window of a subject, or of all of them."""

    value: Number
    windowStart: str  # noqa: N815  OpenMeter's names, here and below
    windowEnd: str  # noqa: N815
    subject: str | None
    groupBy: dict[str, str | None]  # noqa: N815


class MeterResult(AnswerModel):
    """The answer to a question about a meter. complete and as_of are our own (R-2, R-3)."""

    since: str | None = Field(None, alias="from")
    to: str | None = None
    windowSize: str | None = None  # noqa: N815
    data: list[MeterRow]
    complete: bool
    as_of: dict[str, Any]


class ProblemDetails(AnswerModel):
    """Every error (RFC 7807)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    extensions: dict[str, Any] | None = None


ANSWERS: Final = (MeterResult, ProblemDetails)
