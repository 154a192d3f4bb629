"""`python -m tests.conformance CASE_DIR`: run every case of a folder through the real pipeline."""

import sys
from pathlib import Path

from ..services import Recount, fresh, services
from .cases import load, run


def main() -> int:
    """Print what failed, which alternative of an open case holds, and the totals."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m tests.conformance CASE_DIR\n")
        return 2
    cases = load(Path(sys.argv[1]))
    if not cases:
        sys.stderr.write(f"no cases in {sys.argv[1]}\n")
        return 2
    with services() as found:
        verdicts = run(Recount(found, fresh("cases")), cases)
    failed = 0
    for verdict in verdicts:
        if verdict.holds is not None:
            print(f"open    {verdict.case}: {verdict.holds}")  # noqa: T201
        if verdict.failures:
            failed += 1
            print(f"FAILED  {verdict.case}: {'; '.join(verdict.failures)[:1000]}")  # noqa: T201
    print(f"{len(verdicts) - failed} passed, {failed} failed")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
