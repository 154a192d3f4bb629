"""`recount …`: everything an operator needs. Errors become one line on stderr and an exit code."""

import os
import sys
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from definitions.errors import DefinitionError

from ..app.crash import CrashOnly
from ..errors import ExitCode, Interrupted, harmless

# command → the module of this package that has it, and what `recount --help` says of it
COMMANDS: Final = {
    "stack": ("stack", "Kafka and Redis on this machine, to try Recount."),
    "init": (
        "operate",
        "Create the deployment: its topics and the settings that decide numbers.",
    ),
    "doctor": (
        "doctor",
        "Check everything that a deployment needs. Exit 1 if anything is wrong.",
    ),
    "size": (
        "size",
        "Compute brokers, partitions, workers, shards of Redis and the memory of each.",
    ),
    "settings": (
        "operate",
        "Print every setting (environment variable) with its value, default, unit and meaning.",
    ),
    "metrics": ("metrics", "Create, try, change, check and list metrics."),
    "publish": (
        "operate",
        "Send the events of a file to Kafka. Ends when Kafka has stored all of them durably.",
    ),
    "ingest": (
        "ingest",
        "Translate another system's events from their own topic, each exactly once.",
    ),
    "worker": ("operate", "Count the events of the log until SIGTERM."),
    "usage": ("usage", "Print usage: a line for each window and group, then the offsets."),
    "status": (
        "status",
        "Show how far each partition is applied, its lag, and how many events have which fate.",
    ),
    "events": (
        "events",
        "Show the events behind a number (recount events METRIC), or search by content.",
    ),
    "explain": (
        "read",
        "Show where an event is on the log, its fate, and why each metric counts it or not.",
    ),
    "audit": (
        "read",
        "Recount the log independently and compare every number with it. Exit 1 on a difference.",
    ),
    "period": ("periods", "Close months, and prove closed numbers."),
    "rejected": ("rejected", "Dead letters: rejected events."),
    "void": ("void", "Take an event back: no number holds it any more."),
    "amend": (
        "void",
        "Say what an event should have said: that counts instead, at the same time.",
    ),
    "rebuild": (
        "rebuild",
        "Count the log again from its start, while readers and workers go on.",
    ),
    "serve": ("serve", "Serve the HTTP APIs until SIGTERM. You can run any number of servers."),
    "keys": ("keys", "API keys of the HTTP doors."),
    "control": ("control", "Back up the control log, and restore it."),
    "demo": (
        "demo",
        "Count 22,000 made-up events on real Kafka and Redis, and compare with a recount.",
    ),
}


def loaded(name: str) -> Any:
    """Return the command of this name, from its module."""
    app = typer.Typer()
    import_module(f".{COMMANDS[name][0]}", __name__).register(app)
    return get_group(app).commands[name]


class _Commands(TyperGroup):
    """The commands. A module is imported when its command runs: help waits for none of them."""

    def __init__(self, **members: Any) -> None:
        super().__init__(**members)
        for name, (_, said) in COMMANDS.items():
            self.add_command(TyperCommand(name, help=said))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that the arguments name, and the arguments that are left for it."""
        name, known, rest = super().resolve_command(ctx, args)
        return name, known if name is None else loaded(name), rest


app = typer.Typer(
    name="recount",
    cls=_Commands,
    help="Usage metering that can prove its numbers: count events from Kafka exactly, in Redis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Examples: `recount stack up` · `recount init` · `recount metrics create --format "
        "metronome FILE` · `recount publish FILE` · `recount worker --until-caught-up` · "
        "`recount usage METRIC --customer C --starting-on T --ending-before T`. Exit codes: "
        "0 done, 1 a difference was found, 2 wrong usage, 3 a definition or name is wrong, "
        "4 Kafka or Redis does not answer, 5 HALT (the message says what to do), 70 a bug, "
        "130 Ctrl-C."
    ),
)


def _version(asked: bool) -> None:
    if asked:
        from importlib import metadata  # noqa: PLC0415  it takes long, and nothing else asks

        sys.stdout.write(f"recount {metadata.version('recount')}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_version, help="Print the version."),
    ] = False,
) -> None:
    pass


def run_command_line() -> None:
    """Run one command and leave with its exit code; a surprise leaves with 70."""
    with CrashOnly():
        try:
            app(prog_name="recount")
        except Interrupted as error:
            # The usual way out: what was shared between processes is given back.
            sys.stderr.write(f"recount: {harmless(str(error))}\n")
            sys.exit(error.exit_code)
        except SystemExit as left:
            if left.code == ExitCode.INTERRUPTED:  # before a command had begun
                sys.stderr.write("recount: interrupted\n")
            raise
        except DefinitionError as error:
            for problem in error.problems:
                told = f"{problem.rule} at {problem.pointer or '/'}: {problem.message}"
                sys.stderr.write(harmless(told) + "\n")
            sys.exit(ExitCode.DEFINITION)
        except BrokenPipeError:
            # The reader of our output has left: nothing is wrong, and nothing can be told.
            os._exit(ExitCode.DONE)
