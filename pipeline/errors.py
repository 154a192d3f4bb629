"""Every error we raise on purpose, by whose fault it is.

PipelineError
├── UsageError          the caller's: wrong options, refused windows; exit 2
├── UnknownNameError,
│   ConflictError       the caller's: unknown name, conflict; exit 3 (DefinitionError joins it)
├── Unavailable         the world's: a service does not answer; exit 4, workers retry
│   ├── StoreUnavailable
│   └── LogUnavailable
└── Halt                the operator's: wrong store, topic or range; exit 5, never restarted

Anything else is ours: exit 70, nothing written.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a process tells its caller."""

    DONE = 0
    DIFFERENCE = 1
    USAGE = 2
    DEFINITION = 3
    UNAVAILABLE = 4
    HALT = 5
    BUG = 70


class PipelineError(Exception):
    """Root. The message says what, where and what to do."""

    exit_code = ExitCode.BUG


class UsageError(PipelineError):
    """Wrong usage, or a question that cannot be answered as asked."""

    exit_code = ExitCode.USAGE


class UnknownNameError(PipelineError):
    """No metric of that id or name."""

    exit_code = ExitCode.DEFINITION


class ConflictError(PipelineError):
    """Somebody else's record came first."""

    exit_code = ExitCode.DEFINITION


class Unavailable(PipelineError):
    """A service does not answer."""

    exit_code = ExitCode.UNAVAILABLE


class StoreUnavailable(Unavailable):
    """Redis does not answer, or refuses for now (loading, out of memory, read-only)."""


class LogUnavailable(Unavailable):
    """Kafka does not answer."""


class Halt(PipelineError):
    """Going on would make numbers wrong. Says what to do; nobody restarts it."""

    exit_code = ExitCode.HALT
