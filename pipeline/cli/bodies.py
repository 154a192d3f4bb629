"""Native bodies that commands are given as files."""

import sys
from pathlib import Path

from definitions.errors import DefinitionError
from definitions.formats import guess, parse

from ..errors import UsageError


def check_body(format_: str, text: str) -> None:
    """Check a create body by itself.

    Raises:
        DefinitionError: every broken rule. UsageError: it is a body of another format.
    """
    try:
        parse(format_, text)
    except DefinitionError as error:
        raise _of_another(format_, text, error) from error


def _of_another(format_: str, text: str, error: DefinitionError) -> DefinitionError | UsageError:
    """What is wrong with a body; one that another system reads was given the wrong --format."""
    other = guess(text)
    try:
        parse(other, text)
    except DefinitionError:
        return error
    if other == format_:
        return error
    return UsageError(
        f"--format {format_}: this is a body of {other.capitalize()}; give --format {other}"
    )


def read_body(file: str) -> str:
    """Return the text of a file; - is stdin."""
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8-sig")  # editors of some systems begin a file with its mark
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not UTF-8: {error}") from error
