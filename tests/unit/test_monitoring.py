"""The board and the alerts: every expression is PromQL over what processes expose."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from pipeline.telemetry.names import NAMES, SERVER_NAMES, TelemetryKind

from ..conformance.test_tidy import anchors_of
from ..services import ROOT

FOLDER = ROOT / "docs/operations/monitoring"
BOARD = json.loads((FOLDER / "grafana.json").read_text())
RULES = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
SERIES: dict[str, TelemetryKind] = dict([*NAMES.items(), *SERVER_NAMES.items()])
# Of a Prometheus client about its process (ProcessCollector); they have no labels of their own.
OF_PROCESS = {"process_resident_memory_bytes", "process_start_time_seconds"}
BY_PROMETHEUS = {"job", "instance"}
TOOL = shutil.which("promtool")
COLUMNS = 24  # of a board of Grafana


def panels() -> list[dict[str, Any]]:
    """The panels that show something."""
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Every expression; what Grafana fills in is filled in."""
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    filled = [
        each.replace("$__rate_interval", "1m").replace("$job", "recount.*") for each in shown
    ]
    return [*filled, *(rule["expr"] for rule in RULES)]


def parts_of(node: Any) -> Iterator[Any]:
    """A part of an expression, and all below it."""
    yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "vs", "param"):
        below = getattr(node, name, None)
        if below is not None and not isinstance(below, str | int | float):
            yield from parts_of(below)
    for each in getattr(node, "args", None) or ():
        yield from parts_of(each)


def used(expression: str) -> tuple[set[str], set[str]]:
    """The names of series of an expression, and the labels that it asks for or keeps."""
    names, labels = set[str](), set[str]()
    for part in parts_of(promql_parser.parse(expression)):
        if isinstance(part, promql_parser.VectorSelector):
            assert part.name is not None, expression
            names.add(part.name)
            labels |= {matcher.name for matcher in part.matchers.matchers}
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            labels |= set(part.modifier.labels)
    return names, labels


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_asks_for_what_there_is(expression: str) -> None:
    """Names are of telemetry/names.py, labels those that the series have."""
    names, labels = used(expression)

    assert names
    assert names <= SERIES.keys() | OF_PROCESS
    known = {label for name in names & SERIES.keys() for label in SERIES[name].labels}
    assert labels <= known | BY_PROMETHEUS
    for name in names:  # of what only grows the rate is asked, of what goes up and down never
        rates = rf"(rate|increase)\({name}\b"
        is_counter = name in SERIES and SERIES[name].is_counter
        assert bool(re.search(rates, expression)) == is_counter, name


def test_the_board_shows_every_metric() -> None:
    """Board and alerts together leave out no metric of ours."""
    shown = set().union(*(used(each)[0] for each in expressions()))

    assert SERIES.keys() - shown == set()


def test_the_board_can_be_provisioned() -> None:
    """It has what Grafana needs of a dashboard: an id of its own, panels that do not overlap."""
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < COLUMNS, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in BOARD["panels"]]
    variables = {each["name"] for each in BOARD["templating"]["list"]}

    assert len(ids) == len(set(ids))
    assert (BOARD["uid"], BOARD["schemaVersion"] >= 36) == ("recount", True)
    assert variables == {"datasource", "job"}
    for panel in panels():
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert "id" not in BOARD, "Grafana gives it"


def test_every_alert_says_what_to_do() -> None:
    """Each has a severity, a sentence, and a section of the runbooks."""
    sections = anchors_of(ROOT / "docs/operations/runbooks.md")
    for rule in RULES:
        page, _, section = rule["annotations"]["runbook_url"].partition("#")
        assert (page, section in sections) == ("runbooks.md", True), rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert {"summary", "description"} < rule["annotations"].keys()


@pytest.mark.skipif(TOOL is None, reason="no promtool here: apt install prometheus")
@pytest.mark.timeout(60)
def test_alerts_are_raised_by_what_they_are_for(tmp_path: Path) -> None:
    """Prometheus' own tool runs the rules on made-up series, where it is installed."""
    for path in (FOLDER / "alerts.yaml", ROOT / "tests/data/monitoring/alerts_test.yaml"):
        shutil.copy(path, tmp_path)
    for command in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run(
            [str(TOOL), *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
