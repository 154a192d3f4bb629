"""control export and import: the backup of the control log."""

import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from ..control.backup import read_backup, written
from ..deploy.restoring import Restored, exported, exported_copy, needs, restored
from ..errors import UsageError
from ..settings import load_settings
from .output import show, wait


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Back up the control log, and restore it.", no_args_is_help=True)
    group.command("export")(export)
    group.command("import")(import_command)
    app.add_typer(group, name="control")


def export(
    output: Annotated[
        Path | None,
        typer.Option(help="The file; it is replaced as a whole. Default: standard output."),
    ] = None,
    from_redis: Annotated[
        bool,
        typer.Option(
            "--from-redis",
            help="Write what the copy in Redis holds: where the topic is lost, and no export is as"
            " new.",
        ),
    ] = False,
) -> None:
    """Write every record of the control log to a file, byte by byte.

    The control log has the settings, definitions, API keys (as hashes) and closed
    periods. Nothing else has them, but for the copy in Redis. Workers go on.

    Example: recount control export --output control.jsonl
    """
    place = load_settings().place
    backup = wait(exported_copy(place) if from_redis else exported(place))
    if output is None:
        sys.stdout.buffer.writelines(written(backup))
        sys.stdout.buffer.flush()
        return
    _write(output, written(backup))
    show([{"file": str(output), "records": len(backup.records), "next": backup.next}])


def _write(path: Path, lines: Iterable[bytes]) -> None:
    """Replace a file, readable by us alone, once all of it is on the disk."""
    try:
        made, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise UsageError(f"--output {path}: {error.strerror}") from error
    try:
        with os.fdopen(made, "wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        raise UsageError(f"--output {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            Path(name).unlink(missing_ok=True)


def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of `recount control export`.")],
    lose_later: Annotated[
        bool,
        typer.Option(
            "--lose-later",
            help="Go on without records that the copy in Redis has, and the file has not.",
        ),
    ] = False,
) -> None:
    """Restore the control topic from a file of `recount control export`.

    Stop every process of the deployment first. The topic must not exist, or be
    empty: it gets the records of the file at the same offsets, then one that says
    where they are now. If this is broken off, run it again.

    Example: recount control import control.jsonl
    """
    try:
        with file.open("rb") as opened:
            backup = read_backup(opened, str(file))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    place = load_settings().place
    done = wait(
        restored(place, backup, str(file), lose_later=lose_later),
        stopped="run it again: it goes on where it is",
    )
    if told := needs(done):
        sys.stderr.write(f"recount control import: {told}\n")
    show([_line(done)])


def _line(done: Restored) -> dict[str, Any]:
    state = done.state
    return {
        "records": done.records,
        "next": state.next,
        "metrics": len(state.metrics),
        "keys": len(state.keys),
        "periods": len(state.periods),
        "ignored": len(state.ignored),
        "rebuild": done.rebuild is not None,
    }
