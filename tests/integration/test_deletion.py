"""What docs/operations/deletion.md says of a customer whose events are taken back."""

from typing import Any

from ..services import Recount
from ..stored import client_of
from .test_control_backup import SUM, events, totals

GONE = "acme-limited"
PERIOD = ("--starting-on", "2026-11-29T00:00:00Z", "--ending-before", "2026-11-30T00:00:00Z")


def holding(client: Any, keys: list[bytes], name: bytes) -> list[bytes]:
    """The keys whose name, fields, values or members have a text."""
    found = []
    for key in keys:
        kind = client.type(key)
        parts = [key]
        if kind == b"set":
            parts += client.smembers(key)
        elif kind == b"hash":
            parts += [part for pair in client.hgetall(key).items() for part in pair]
        elif kind == b"list":
            parts += client.lrange(key, 0, -1)
        if any(name in part for part in parts):
            found.append(key)
    return found


def test_a_customer_whose_events_are_taken_back(recount: Recount) -> None:
    """No number and no cell is left of it, its id alone; those of others are the same, exactly."""
    recount.run("init", "--partitions", "1", "--max-age-days", "0")
    metric = recount.create(SUM)
    recount.create({**SUM, "name": "kinds", "aggregation_type": "UNIQUE"})
    recount.publish(events(0, 10))
    recount.catch_up()
    others = totals(recount, metric)
    recount.publish([{**event, "customer_id": GONE} for event in events(20, 23)])
    recount.catch_up()
    *found, _ = recount.run("events", metric, "--customer", GONE, *PERIOD)
    for event in found:
        at = f"{event['partition']}@{event['offset']}"
        recount.run("void", event["transaction_id"], "--customer", GONE, "--at", at)
    recount.catch_up()

    left = {row["customer_id"]: row["value"] for row in totals(recount, metric)}
    with client_of(recount.services.redis) as client:
        keys = [*client.scan_iter(f"recount:{{{recount.deployment}/*", count=10_000)]
        held = holding(client, keys, GONE.encode())
    assert len(found) == 3
    assert left.pop(GONE) in {None, "0"}
    assert left == {row["customer_id"]: row["value"] for row in others}
    assert {key.split(b"}:")[1][:2] for key in held} == {b"i:"}, held
    (*_, audited) = recount.run("audit")
    assert (audited["mismatches"], audited["unverifiable_cells"]) == (0, 0)
