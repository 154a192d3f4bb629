"""`recount …`: everything an operator needs. Errors become one line on stderr and an exit code."""

import os
import sys

import typer

from definitions.errors import DefinitionError

from ..app.crash import CrashOnly
from ..errors import ExitCode, harmless
from . import demo, keys, metrics, operate, read, rebuild, rejected, serve, stack

app = typer.Typer(
    name="recount",
    help="Usage metering that can prove its numbers: count events from Kafka exactly, in Redis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    epilog=(
        "Examples: `recount stack up` · `recount init` · `recount metrics create --format "
        "metronome FILE` · `recount publish FILE` · `recount worker --until-caught-up` · "
        "`recount usage METRIC --customer C --starting-on T --ending-before T`. Exit codes: "
        "0 done, 1 a difference was found, 2 wrong usage, 3 a definition or name is wrong, "
        "4 Kafka or Redis does not answer, 5 HALT (the message says what to do), 70 a bug."
    ),
)
for module in (stack, operate, metrics, read, rejected, rebuild, keys, serve, demo):
    module.register(app)


def run_command_line() -> None:
    """Run one command and leave with its exit code; a surprise leaves with 70."""
    with CrashOnly():
        try:
            app()
        except DefinitionError as error:
            for problem in error.problems:
                told = f"{problem.rule} at {problem.pointer or '/'}: {problem.message}"
                sys.stderr.write(harmless(told) + "\n")
            sys.exit(ExitCode.DEFINITION)
        except BrokenPipeError:
            # The reader of our output has left: nothing is wrong, and nothing can be told.
            os._exit(ExitCode.DONE)
