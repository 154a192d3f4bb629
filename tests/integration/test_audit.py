"""`recount audit` by processes and by shares: the same findings, and each where it belongs."""

import queue
from datetime import UTC
from typing import Any

import pytest
import redis as redis_client

from pipeline.audit.processes import ProcessFailed, _gather
from pipeline.edges.clock import SystemClock
from pipeline.errors import ExitCode
from pipeline.recount.ledger import Share

from ..services import Recount

PARTITIONS = 3


def filled(recount: Recount) -> None:
    """A deployment with a metric of customers, and some customers in each partition."""
    recount.run("init", "--partitions", str(PARTITIONS))
    recount.create({"name": "calls", "aggregation_type": "COUNT"})
    now = SystemClock().now().astimezone(UTC).isoformat()
    recount.publish(
        [
            {
                "transaction_id": f"t{number}",
                "customer_id": f"c{number % 20}",
                "event_type": "use",
                "timestamp": now,
                "properties": {"v": number},
            }
            for number in range(60)
        ]
    )
    recount.catch_up()


def damage(recount: Recount) -> set[str]:
    """Change some cells in Redis; return whose they were."""
    with redis_client.Redis.from_url(recount.services.redis) as client:
        found: list[bytes] = client.keys(f"recount:{{{recount.deployment}/*:c:*")
        keys = sorted(found, key=lambda key: key[::-1])[:7]
        for key in keys:
            client.hset(key, next(iter(client.hgetall(key))), "99")
    return {key.decode().rpartition(":")[2] for key in keys}


def test_processes_and_shares_find_the_same(recount: Recount) -> None:
    """Lines, order and exit code do not depend on the processes; shares part the findings."""
    filled(recount)
    right = recount.run("audit")
    assert recount.run("audit", "--processes", "2") == right
    assert right[-1]["mismatches"] == 0
    assert right[-1]["cells"] >= 20

    owners = damage(recount)
    wrong = recount.run("audit", exits=1)
    assert {line["cell"]["customer"] for line in wrong[:-1]} == owners
    assert len(wrong) == len(owners) + 1 > 5
    assert recount.run("audit", "--processes", "9", exits=1) == wrong
    cells = 0
    for number in range(3):
        part = Share(number, 3)
        mine = [line for line in wrong[:-1] if part.holds(line["cell"]["customer"])]
        share = "--customers", f"{number + 1}/3"
        found = recount.run("audit", *share, exits=1 if mine else 0)
        assert found[:-1] == mine
        assert recount.run("audit", *share, "--processes", "2", exits=bool(mine)) == found
        cells += found[-1]["cells"]
    assert cells == right[-1]["cells"]
    told = recount.ended("audit", "--customers", "1/3").stderr.decode()
    assert "says nothing of the others" in told


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/0", "1", "a/b", "-1/5", "1/5\n", "1/9999999"])
def test_what_is_no_share_is_refused(recount: Recount, text: str) -> None:
    """Wrong usage is exit 2, before anything is opened."""
    done = recount.ended("audit", f"--customers={text}")

    assert done.returncode == ExitCode.USAGE
    assert "--customers" in done.stderr.decode()


class _Child:
    def __init__(self, exitcode: int | None) -> None:
        self.exitcode = exitcode


@pytest.mark.parametrize(
    ("words", "exits", "code", "told"),
    [
        ([("read", 5), ("failed", "redis is away", 4)], [None, None], 4, "redis is away"),
        ([("read", 5)], [None, -9], ExitCode.BUG, "ended with -9"),
        ([], [1, 0], ExitCode.BUG, "ended with 1"),
    ],
)
async def test_a_process_that_fails_fails_the_audit(
    words: list[Any], exits: list[int | None], code: int, told: str
) -> None:
    """With its own exit code if it said why; one that was killed is no success either."""
    waiting = queue.Queue[Any]()
    for word in words:
        waiting.put(word)
    read: list[int] = []

    with pytest.raises(ProcessFailed, match=told) as raised:
        await _gather([_Child(each) for each in exits], waiting, 2, read.append)
    assert raised.value.exit_code == code
    assert read == [word[1] for word in words if word[0] == "read"]
