"""The events that a process that stays tells of, and their meanings (docs/operations.md, Logs)."""

from typing import Final

EVENTS: Final = {
    "start": "the process starts: deployment, addresses, versions; passwords are hidden",
    "assigned": "Kafka has given these partitions to the worker",
    "opened": "a partition is open: from which offset on it counts, how many identities it "
    "remembers, and how long opening took",
    "released": "the worker has let these partitions go: others are given them, or it stops",
    "halted": "a partition does not go on, and why; the others do",
    "looked_again": "a partition that had halted is tried again",
    "seek": "a partition is fetched again from an offset: Redis stands there",
    "refused": "Redis refused a commit: another owner went on, or Redis went back. Nothing was "
    "written; the partition is opened again",
    "slow": "a flush took far longer than RECOUNT_FLUSH_MS: Redis, Kafka or the machine is slow, "
    "or was away",
    "native_failed": "native/ failed; the partition goes on without it. Please report it",
    "away": "Kafka or Redis does not answer; it is waited for",
    "back": "it answers again",
    "waits": "what `--until-caught-up` asks does not answer; it asks again",
    "caught_up": "the worker stands at the end that the log had at the start",
    "caught_up_but_for": "the same, but for a partition that has halted",
    "stop": "the process was told to stop, and does",
    "stop_was_slow": "it left before everything was let go; nothing depends on that",
    "ended": "the process ends by itself: exit code and why",
    "starts_again": "a worker process has ended and is started again",
    "stays": "RECOUNT_HALT=stay: a halted process does nothing, and why",
    "listening": "a server answers at this URL",
    "unencrypted": "a server without TLS listens where other machines reach it",
    "request": "a request was answered: id, method, route, status, milliseconds, id of the key",
    "no_event_taken": "a server takes no event: one copy alone could acknowledge it",
    "nothing_served": "Kafka is not what the deployment was made on",
    "look_failed": "a bug in asking Kafka. Please report it",
    "no_request_taken": "definitions by a record alone are not taken: a right is missing",
    "catalogue_not_kept": "the catalogue of metrics is not kept: a right is missing",
    "progress": "how far `recount ingest` is",
    "lost": "offsets that were deleted before `recount ingest` read them",
}
