"""What the runners of native bodies and cases share: a path in, failures and one line out."""

import argparse
from collections.abc import Callable
from pathlib import Path


def main(name: str, run: Callable[[Path], tuple[int, list[str]]]) -> int:
    """Run over the path of the command line; return the exit code.

    Args:
        name: Of the module, for its help.
        run: Path → how many passed, and a line for each that did not.
    """
    parser = argparse.ArgumentParser(prog=f"python -m tests.conformance.{name}")
    parser.add_argument("path", type=Path)
    passed, failures = run(parser.parse_args().path)
    for line in failures:
        print(f"FAILED  {line}")  # noqa: T201  a command
    print(f"{passed} passed, {len(failures)} failed")  # noqa: T201
    return 1 if failures else 0
