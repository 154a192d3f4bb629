"""Usage drawn in a terminal: a bar for each line, its exact value behind it."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from ..errors import harmless

_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_FULL: Final = "█"
_BAR_CHARS_MIN: Final = 10
_NONE: Final = "-"


def drawn(lines: Sequence[Mapping[str, Any]], width: int, *, plain: bool = False) -> Iterator[str]:
    """Yield a line for each row of usage; bars are as long as values are large.

    Neither a label nor a value is ever cut: where they leave little room, bars are short.
    plain: of ASCII alone.
    """
    rows = [(_label(line), line["value"]) for line in lines if "value" in line]
    values = [abs(Decimal(text)) for _, text in rows if text is not None]
    most = max(values, default=Decimal(0))
    labels = max((len(label) for label, _ in rows), default=0)
    numbers = max((len(text or _NONE) for _, text in rows), default=0)
    room = max(width - labels - numbers - 3, _BAR_CHARS_MIN)
    for label, text in rows:
        share = abs(Decimal(text)) / most if text is not None and most else Decimal(0)
        bar = _bar(share, room, plain=plain)
        yield f"{label:<{labels}} {text or _NONE:>{numbers}} {bar}".rstrip()


def _label(line: Mapping[str, Any]) -> str:
    """What tells a line from others: whose it is, its start, its group."""
    group = line.get("group") or {}
    of_group = [f"{name}={_NONE if value is None else value}" for name, value in group.items()]
    parts = [line.get("customer_id"), line.get("metric"), line["starting_on"], *of_group]
    return harmless(" ".join(str(part) for part in parts if part is not None))


def _bar(share: Decimal, room: int, *, plain: bool) -> str:
    if plain:
        return "#" * round(share * room)
    whole, eighths = divmod(round(share * room * 8), 8)
    return _FULL * whole + (_EIGHTHS[eighths] if eighths else "")
