"""From the format of the release before to the present one, on state that it really wrote."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client

from pipeline.core.deployment import FORMAT_VERSION

from ..services import ROOT, Recount, Services, fresh
from ..stored import keys_of

BEFORE = ROOT / "tests/data/releases/format-2.tar.xz"
PERIOD = ("--starting-on", "2026-03-01T00:00:00Z", "--ending-before", "2026-03-03T00:00:00Z")
KINDS = ("COUNT", "SUM", "MAX", "LATEST", "UNIQUE")


class Release:
    """The command of an earlier release, on the same deployment."""

    def __init__(self, recount: Recount, folder: Path) -> None:
        with tarfile.open(BEFORE) as packed:
            packed.extractall(folder, filter="data")
        self._recount, self._folder = recount, folder

    def run(self, *arguments: str, exits: int = 0) -> tuple[list[Any], str]:
        """Run it to its end; return its JSON lines and what it said to people."""
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments],
            cwd=self._folder,
            env=self._recount.environment,
            capture_output=True,
            timeout=100,
            check=False,
        )
        said = done.stderr.decode()
        assert done.returncode == exits, f"{arguments}: exit {done.returncode}\n{said[-3000:]}"
        return [json.loads(line) for line in done.stdout.splitlines()], said


def events() -> list[dict[str, Any]]:
    """Some of two days, some of them twice, some of no metric, one that cannot be read."""
    made = [
        {
            "transaction_id": f"t{number}",
            "customer_id": f"c{number % 7}",
            "event_type": "use" if number % 5 else "other",
            "timestamp": f"2026-03-0{1 + number % 2}T{number % 24:02}:30:00Z",
            "properties": {"v": f"{number}.25", "g": ["x", "y", None][number % 3]},
        }
        for number in range(300)
    ]
    return [*made, *made[::7], {"no": "event"}]


def metric(kind: str) -> dict[str, Any]:
    """A Metronome metric of an aggregation, in groups."""
    body: dict[str, Any] = {
        "name": kind.lower(),
        "aggregation_type": kind,
        "event_type_filter": {"in_values": ["use"]},
        "group_keys": [["g"]],
        "property_filters": [{"name": "g", "exists": True}, {"name": "v", "exists": True}],
    }
    return body if kind == "COUNT" else {**body, "aggregation_key": "v"}


@pytest.mark.timeout(240)
def test_the_state_of_the_release_before_is_refused_and_rebuilt(
    stack: Services, tmp_path: Path
) -> None:
    """Both releases refuse the other's state; a rebuild takes it over, and leaves nothing."""
    recount = Recount(stack, fresh("migration"))
    before = Release(recount, tmp_path)
    before.run("init", "--partitions", "2", "--max-age-days", "0")
    for kind in KINDS:
        path = tmp_path / f"{kind}.json"
        path.write_text(json.dumps(metric(kind)))
        before.run("metrics", "create", "--format", "metronome", str(path))
    recount.publish(events())
    before.run("worker", "--until-caught-up")
    asked = [("usage", kind.lower(), "--each-customer", *PERIOD) for kind in KINDS]
    wanted = [_rows(before.run(*each)[0]) for each in asked]
    assert all(len(rows) == 7 for rows in wanted)

    for refused in (("worker", "--until-caught-up"), asked[0]):
        done = recount.ended(*refused)
        assert done.returncode == 5, done.stderr
        assert f"format version is 2, not {FORMAT_VERSION}" in done.stderr.decode()
        assert "recount rebuild" in done.stderr.decode()

    recount.run("rebuild")
    assert [_rows(recount.run(*each)) for each in asked] == wanted
    assert recount.run("audit")[-1]["mismatches"] == 0
    assert _untagged(recount) == []
    assert "recount rebuild" in before.run("worker", "--until-caught-up", exits=5)[1]


def _rows(lines: list[Any]) -> list[Any]:
    """Who used how much."""
    rows = [line for line in lines if "value" in line]
    return sorted((line["customer_id"], line["value"], line["complete"]) for line in rows)


def _untagged(recount: Recount) -> list[str]:
    """What is left of keys without a suffix."""
    with redis_client.Redis.from_url(recount.services.redis) as client:
        names = [name.decode() for name in client.scan_iter(f"recount:{{{recount.deployment}/*")]
    ours = tuple(keys_of(recount, number).home for number in range(2))
    return [name for name in names if not name.startswith(ours)]
