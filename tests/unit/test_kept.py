"""The copy of the control log: a reader of 10,000 metrics has a second for it."""

import time

import pytest

from pipeline.control.kept import replayed
from pipeline.control.records import ControlState
from pipeline.control.seal import Seals

from ..world import copied_log, log_of

METRICS = 10_000
# Of a processor's time, so that others on the machine do not decide: 0.6 s here. It was 2.1 s,
# and a read of such a deployment took longer than the two seconds that it may take.
CPU_S_MAX = 1.6
TRIES = 2  # the least counts


@pytest.mark.timeout(120)
async def test_10000_metrics_are_read_in_little_time() -> None:
    """The copy says what the log says, and costs less: a worker has judged these records."""
    first, elements = copied_log(METRICS)
    assert first.identity is not None
    store_id = first.identity.deployment.store_id
    spent = []
    for _ in range(TRIES):
        began = time.process_time()
        copied = await replayed(elements, store_id, Seals("t"))
        spent.append(time.process_time() - began)
    log = ControlState()
    for offset, value in enumerate(log_of(METRICS)):
        log.apply(offset, value)

    assert (copied.metrics, copied.names, copied.won) == (log.metrics, log.names, log.won)
    assert (len(log.metrics), copied.next, copied.ignored) == (METRICS, log.next, [])
    assert min(spent) < CPU_S_MAX, spent
