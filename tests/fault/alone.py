"""Reads while there is no Kafka: each is answered soon, as half an answer, and none goes back."""

import json
import time

from ..services import Recount

ANSWER_S_MAX = 15.0  # two seconds, on a machine that workers and other tests use as well


def reads_alone(recount: Recount, times: int) -> int:
    """Ask for status, metrics and usage; return how many events all of them stand on."""
    seen = 0
    for _ in range(times):
        for question in (("status",), ("metrics", "list")):
            began = time.monotonic()
            done = recount.ended(*question)
            assert done.returncode == 0, done.stderr
            assert time.monotonic() - began < ANSWER_S_MAX, question
            last = json.loads(done.stdout.splitlines()[-1])
            assert (last["complete"], last["kafka"]) == (False, "unreachable"), last
            if "next" in last:
                assert last["next"] >= seen, "it went back"
                assert last["balanced"], last
                seen = last["next"]
        # The oldest is one of customers; others may count the whole deployment.
        metric = json.loads(done.stdout.splitlines()[0])["id"]
        period = ("--starting-on", "2020-01-01T00:00:00Z", "--ending-before")
        done = recount.ended("usage", metric, "--each-customer", *period, "2100-01-01T00:00:00Z")
        assert done.returncode == 0, done.stderr
        *rows, end = (json.loads(line) for line in done.stdout.splitlines())
        assert not any(row["complete"] for row in rows)
        assert end["kafka"] == "unreachable"
        assert sum(end["as_of"]["offsets"].values()) >= seen
    return seen
