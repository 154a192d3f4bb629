"""What can be wrong with a definition, reported all at once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule of a native definition.

    rule: the rule's id in docs/formats.md 8, for example M-KEY-FILTER.
    pointer: JSON pointer of the member at fault; for a missing member the one it would have.
    message: what is wrong and what to do.
    """

    rule: str
    pointer: str
    message: str


class DefinitionError(ValueError):
    """A definition that is refused whole. The operator's fault.

    more: how many problems there are besides those that are told.
    """

    def __init__(self, problems: list[Problem], more: int = 0) -> None:
        self.problems = tuple(problems)
        self.more = more
        super().__init__(
            "; ".join(f"{p.rule} at {p.pointer or '/'}: {p.message}" for p in problems)
        )
