"""How the files of a period are made, and what is said of a revision."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from definitions.times import rfc3339

from ..control.entities import Revision
from ..errors import UsageError
from .columns import FOCUS, ColumnKind, FileColumn
from .reading import CLOSED
from .writing import FORMATS


@dataclass(frozen=True, slots=True)
class ClosedAs:
    """How the files of a period are made. decimal: digits in all, and behind the point."""

    format: str = "parquet"
    window_size: str = "none"
    groups: bool = True
    decimal: tuple[int, int] | None = None
    focus: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"--format is one of {', '.join(FORMATS)}")
        if self.decimal is not None and self.format != "parquet":
            raise UsageError("--decimal goes with --format parquet: other formats have no types")

    def columns(self) -> list[FileColumn]:
        """The columns of the files: CLOSED first, whatever they are called."""
        names = FOCUS if self.focus else {}
        found = [each._replace(name=names.get(each.name, each.name)) for each in CLOSED]
        if self.focus:
            found += [
                FileColumn("ChargeClass", ColumnKind.TEXT),
                FileColumn("BillingPeriodStart", ColumnKind.TIME),
                FileColumn("BillingPeriodEnd", ColumnKind.TIME),
            ]
        if self.decimal is not None:
            found.append(FileColumn("value_decimal", ColumnKind.DECIMAL, self.decimal))
        return found

    def told(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "format": self.format,
            "window_size": self.window_size,
            "groups": self.groups,
            "decimal": None if self.decimal is None else list(self.decimal),
            "focus": self.focus,
            "columns": [column.name for column in self.columns()],
        }


def closed_as(told: Mapping[str, Any]) -> ClosedAs:
    """Read what told() made."""
    decimal = None if told["decimal"] is None else (told["decimal"][0], told["decimal"][1])
    return ClosedAs(told["format"], told["window_size"], told["groups"], decimal, told["focus"])


def told_of(revision: Revision) -> dict[str, Any]:
    """Return what is said of a revision."""
    return {
        "period": revision.period,
        "timezone": revision.timezone,
        "revision": revision.number,
        "starting_on": rfc3339(revision.starting_on),
        "ending_before": rfc3339(revision.ending_before),
        "window_size": revision.window_size,
        "groups": revision.groups,
        "format": revision.format,
        "rows": revision.rows,
        "files": revision.files,
        "digest": revision.digest,
        "offsets": {str(at): list(span) for at, span in sorted(revision.offsets.items())},
        "created_at": revision.created_at,
    }
