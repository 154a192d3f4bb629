"""Every role of a deployment, each by a user with just the rights that docs/operations names."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from .integration.doors import serving
from .services import ROOT, Recount

ROLES = ("init", "worker", "reader", "server", "audit", "rebuild")
AUTHENTICATED = "s3cret"
METRIC: dict[str, Any] = {
    "name": "tokens",
    "event_type_filter": {"in_values": ["llm"]},
    "property_filters": [{"name": "n", "exists": True}],
    "aggregation_type": "SUM",
    "aggregation_key": "n",
}
EVENTS = [
    {
        "transaction_id": f"t{number}",
        "customer_id": f"c{number % 5}",
        "event_type": "llm",
        "timestamp": "2026-11-29T01:00:00Z",
        "properties": {"n": str(number)},
    }
    for number in range(100)
]


def rights_of() -> dict[str, list[str]]:
    """The commands by the first word of their row."""
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.split("## Rights on Redis")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `?(\w+)[^|]*\| `(\+.*)` \|$", section, re.MULTILINE)
    return {role: rights.replace("\\|", "|").split() for role, rights in rows}


def rule_of(
    role: str, deployment: str, *, on_cluster: bool = False, before_7: bool = False
) -> str:
    """What a line of an ACL file says of the user of a role, behind its name."""
    rights, keys = rights_of(), [f"~recount:{deployment}:*", f"~recount:{{{deployment}/*"]
    if role in {"reader", "audit", "server"}:
        keys = [f"%R{key}" for key in keys]
    if role == "server":
        keys.append(f"~recount:{deployment}:asked:*")
    commands = rights[role]
    if on_cluster:
        commands += rights["any"]
    if on_cluster and role in {"audit", "rebuild"}:
        commands += rights["listing"]
    if before_7:  # no keys to be read only, and no scripts that only read
        keys = [key.removeprefix("%R") for key in keys]
        commands = [command for command in commands if command != "+evalsha_ro"]
    return " ".join(["on", f">{AUTHENTICATED}", *keys, *commands])


def every_role(by: Callable[[str], Recount], log: Path) -> None:
    """Run init, worker, readers, server, audit and rebuild, each by its user: exact."""
    by("init").run("init", "--partitions", "2")
    by("init").run("init", "--partitions", "6")
    metric = by("reader").create(METRIC)
    by("reader").publish(EVENTS)
    by("worker").catch_up()
    by("worker").catch_up()
    period = ("--starting-on", "2026-11-29T00:00:00Z", "--ending-before", "2026-11-30T00:00:00Z")
    answer = by("reader").run("usage", metric, "--customer", "c1", *period)
    many = by("reader").run("usage", metric, "--customer", "c1", *period, "--window-size", "hour")
    by("reader").run("status")
    by("reader").run("explain", "t1", "--customer", "c1")
    (*_, audited) = by("audit").run("audit")
    by("rebuild").run("rebuild")
    limits = ["RECOUNT_KEY_REQUESTS_PER_S_MAX=1000"]
    with serving(by("server"), log, more=limits) as server:
        key = {"Authorization": f"Bearer {server.keys['manage']}"}
        listed = httpx.get(f"{server.url}/v1/billable-metrics", headers=key, timeout=20)
        counted = httpx.post(
            f"{server.url}/v1/usage",
            headers=key,
            json={
                "starting_on": "2026-11-29T00:00:00Z",
                "ending_before": "2026-11-30T00:00:00Z",
                "window_size": "none",
            },
            timeout=20,
        )
    (*_, again) = by("audit").run("audit")

    assert listed.status_code == counted.status_code == 200, (listed.text, counted.text)
    assert {row["customer_id"] for row in counted.json()["data"]} == {f"c{n}" for n in range(5)}
    assert answer[0]["value"] == str(sum(range(1, 100, 5)))
    assert len(many) >= 1
    assert audited["mismatches"] == again["mismatches"] == 0
    assert audited["events"] == again["events"] == len(EVENTS)
