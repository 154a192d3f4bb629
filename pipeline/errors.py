"""Every error we raise on purpose, by whose fault it is.

PipelineError
├── UsageError          the caller's: wrong options, refused windows; exit 2
├── UnknownNameError,
│   ConflictError,
│   NotClosable         the caller's: unknown name, conflict, too early; exit 3 (DefinitionError
│                       joins it)
├── Interrupted         the caller's: Ctrl-C; exit 130
├── Unavailable         the world's: a service does not answer; exit 4, workers retry
│   ├── StoreUnavailable
│   │   └── NotOpen     a partition that is being rebuilt: readers come back later
│   ├── LogUnavailable
│   └── TooBusy         a server that works on as many large questions as it may
└── Halt                the operator's: wrong store, topic or settings; exit 5, never restarted
    └── Damage          what is stored or logged of one partition; a worker halts only this one
        └── PartitionHalt   the same where the partition is known

Anything else is ours: exit 70, nothing written.
"""

import re
from enum import IntEnum
from typing import Final

# What a terminal acts on or hides: control characters of both blocks, what turns the direction of
# writing, line separators, the byte order mark, and surrogates, which no encoding has.
_ACTS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def harmless(text: str, *, keep: str = "") -> str:
    r"""Return a text that a terminal only shows: what acts is spelt `\u001b`, as JSON spells it.

    Event data, names and ids are strangers' texts: an escape sequence in one of them could clear
    the screen, change its title or hide a line. keep: characters that are left as they are.
    """
    return _ACTS.sub(
        lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text
    )


class ExitCode(IntEnum):
    """What a process tells its caller."""

    DONE = 0
    DIFFERENCE = 1
    USAGE = 2
    DEFINITION = 3
    UNAVAILABLE = 4
    HALT = 5
    BUG = 70
    INTERRUPTED = 130  # by Ctrl-C; as a shell says it


class PipelineError(Exception):
    """Root. The message says what, where and what to do."""

    exit_code = ExitCode.BUG


class UsageError(PipelineError):
    """Wrong usage, or a question that cannot be answered as asked."""

    exit_code = ExitCode.USAGE


class BadParameter(UsageError):
    """One parameter of a question is wrong. parameter: as HTTP spells it, with underscores."""

    def __init__(self, parameter: str, why: str) -> None:
        super().__init__(f"{parameter}: {why}")
        self.parameter = parameter
        self.why = why


class UnknownNameError(PipelineError):
    """No metric of that id or name."""

    exit_code = ExitCode.DEFINITION


class ConflictError(PipelineError):
    """Somebody else's record came first."""

    exit_code = ExitCode.DEFINITION


class NotClosable(PipelineError):
    """A period lacks something before it can be closed or revised. The message names it."""

    exit_code = ExitCode.DEFINITION


class Interrupted(PipelineError):
    """Ctrl-C. The message says what was done until then."""

    exit_code = ExitCode.INTERRUPTED


class Unavailable(PipelineError):
    """A service does not answer."""

    exit_code = ExitCode.UNAVAILABLE


class StoreUnavailable(Unavailable):
    """Redis does not answer, or refuses for now (loading, out of memory, read-only)."""


class NotOpen(StoreUnavailable):
    """A partition is not open for reading: its numbers would be 0, or a part of themselves."""

    def __init__(self, partition: int, why: str) -> None:
        super().__init__(f"partition {partition} is not open for reading: {why}")
        self.partition = partition


class LogUnavailable(Unavailable):
    """Kafka does not answer."""


class TooBusy(Unavailable):
    """As many large questions are being answered as may be at a time."""


class Halt(PipelineError):
    """Going on would make numbers wrong. Says what to do; nobody restarts it."""

    exit_code = ExitCode.HALT


class Damage(Halt):
    """What is stored or logged of one partition is not what can be gone on with.

    A worker halts this partition and goes on with the others; to anybody else it is a Halt.
    """


class PartitionHalt(Damage):
    """Going on with this partition would make its numbers wrong."""

    def __init__(self, partition: int, message: str) -> None:
        super().__init__(message)
        self.partition = partition
