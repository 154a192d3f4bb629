"""The audit's memory and speed over a large log: `python -m benchmarks.audit --events 10000000`.

One deployment is filled and applied, then `recount audit` runs as a user runs it. What it holds at
most is the peak resident size of its process, as the kernel counted it.
"""

import argparse
import json
import os
import subprocess
import sys
import time

from tests.services import ROOT, services

from .measuring import deployed
from .traffic import Traffic, fill, now

_WITHIN_S = 7_200


def main() -> None:
    """Print what the audit found, how long it took, and how much memory it held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit")
    parser.add_argument("--events", type=int, default=10_000_000)
    events = parser.parse_args().events
    with services() as found:
        recount = deployed(found, "audit")
        fill(
            recount.services.kafka,
            f"{recount.deployment}.usage.events",
            Traffic(events, now()),
            expect=False,
        )
        recount.run("worker", "--until-caught-up", within_s=_WITHIN_S)
        began = time.perf_counter()
        audit = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "audit"],
            env=recount.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert audit.stdout is not None
        said = json.loads(audit.stdout.read().splitlines()[-1])
        _, status, used = os.wait4(audit.pid, 0)
        took = time.perf_counter() - began
    print(json.dumps({name: said[name] for name in ("cells", "mismatches", "events")}))
    print(
        f"{took:.0f} s, {took / events * 1e6:.1f} µs an event, peak {used.ru_maxrss // 1024} MiB"
    )
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
