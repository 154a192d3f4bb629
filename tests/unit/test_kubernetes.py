"""docs/operations/kubernetes: Kubernetes' own schemas and Recount know what the files say."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipeline.errors import ExitCode

from ..commands import accepted, settings_known
from ..services import ROOT
from .test_monitoring import BY_PROMETHEUS, SERIES, used

FOLDER = ROOT / "docs/operations/kubernetes"
VERSION = "1.37"
OF_KUSTOMIZE = {path.parent: path for path in sorted(FOLDER.rglob("kustomization.yaml"))}
FILES = sorted(set(FOLDER.rglob("*.yaml")) - set(OF_KUSTOMIZE.values()))
TOOL = shutil.which("kustomize")


def objects() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every object of every file."""
    for path in FILES:
        for each in yaml.safe_load_all(path.read_text()):
            yield path, each


NATIVE = [each for _, each in objects() if "keda" not in each["apiVersion"]]
(SCALING,) = (each for _, each in objects() if each["kind"] == "ScaledObject")
BY_NAME = {(each["kind"], each["metadata"]["name"]): each for each in NATIVE}
PODS = {
    each["metadata"]["name"]: each["spec"]["template"]
    for each in NATIVE
    if each["kind"] in {"Deployment", "Job"}
}
CONTAINERS = [
    pytest.param(pod["spec"], container, id=f"{name} {container['name']}")
    for name, pod in PODS.items()
    for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
]


def variables_of_file() -> dict[str, str]:
    """The settings of every pod."""
    lines = (FOLDER / "settings/recount.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


@pytest.mark.parametrize(
    "each", NATIVE, ids=lambda each: f"{each['kind']} {each['metadata']['name']}"
)
def test_kubernetes_takes_it(each: dict[str, Any]) -> None:
    """The strict schema of the release has no objection: every member is known and of its type."""
    assert kubernetes_validate.validate(each, VERSION, strict=True) == VERSION


def test_the_schemas_object() -> None:
    """What is misspelt is found: the test above can fail."""
    each = {**BY_NAME["Deployment", "recount-worker"], "specs": {}}

    with pytest.raises(kubernetes_validate.ValidationError, match="specs"):
        kubernetes_validate.validate(each, VERSION, strict=True)


def test_every_file_is_in_a_kustomization() -> None:
    """Each names files and folders that exist, and no file is left out."""
    listed = set()
    for folder, path in OF_KUSTOMIZE.items():
        told = yaml.safe_load(path.read_text())
        for name in [*told.get("resources", []), *told.get("components", [])]:
            assert (folder / name).exists(), f"{path}: {name}"
            listed.add((folder / name).resolve())
        for generated in told.get("configMapGenerator", []):
            assert all((folder / name).is_file() for name in generated["envs"])

    assert set(FILES) <= listed


@pytest.mark.skipif(TOOL is None, reason="no kustomize here")
@pytest.mark.parametrize("folder", ["base", "keda", "close"])
def test_kustomize_builds_it(folder: str) -> None:
    """Kustomize makes objects of it that Kubernetes takes, with the image of the settings."""
    done = subprocess.run(
        [str(TOOL), "build", str(FOLDER / folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

    images = set(re.findall(r"image: (\S+)", done.stdout))
    (named,) = yaml.safe_load(OF_KUSTOMIZE[FOLDER / "settings"].read_text())["images"]
    assert images == {f"{named['newName']}:{named['newTag']}"}
    for each in yaml.safe_load_all(done.stdout):
        if each["kind"] != "ScaledObject":
            kubernetes_validate.validate(each, VERSION, strict=True)


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_recount_has_the_commands_and_settings(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    """Each command is taken with its options; each variable is a setting, or an argument."""
    own = {each["name"]: each["value"] for each in container.get("env", [])}
    words = [
        re.sub(r"\$\((\w+)\)", lambda found: own[found[1]], word) for word in container["args"]
    ]
    arguments = {name for name in own if f"$({name})" in container["args"]}

    assert accepted(words) is None
    assert set(own) - arguments <= settings_known()
    assert set(variables_of_file()) <= settings_known()
    assert {"configMapRef": {"name": "recount"}} in container["envFrom"]


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_a_pod_may_do_little(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """No root, no capability, a read-only root with a place for what is short-lived, no token."""
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    assert user is not None
    ids = {name: pod["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")}
    assert list(ids.values()) == [int(user[1]), int(user[2]), int(user[2])]
    # A Service called recount-telemetry would set RECOUNT_TELEMETRY_PORT to an address.
    assert (pod["enableServiceLinks"], pod["automountServiceAccountToken"]) == (False, False)
    assert "/tmp" in {each["mountPath"] for each in container["volumeMounts"]}  # noqa: S108
    assert container["resources"].keys() == {"requests", "limits"}


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_passwords_are_files_of_the_secret(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """No setting holds a password, and each file that is named lies in the mounted secret."""
    given = variables_of_file()
    files = [value for name, value in given.items() if name.endswith("_FILE")]
    files.append(given["RECOUNT_REDIS"].partition("password_file=")[2])
    mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    secrets = [each for each in pod["volumes"] if "secret" in each]

    assert [each["secret"]["secretName"] for each in secrets] == ["recount"]
    folder = mounted[secrets[0]["name"]]
    assert [str(Path(file).parent) for file in files] == [folder, folder]
    assert not [name for name in given if name.endswith("_PASSWORD")]


@pytest.mark.parametrize("name", ["recount-worker", "recount-serve"])
def test_a_rollout_takes_one_pod_at_a_time(name: str) -> None:
    """No pod too many, a budget for evictions, probes where the process answers, time to leave."""
    spec = BY_NAME["Deployment", name]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    settings = {each["name"]: each["value"] for each in container["env"]}
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    budget = BY_NAME["PodDisruptionBudget", name]["spec"]

    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert (budget["maxUnavailable"], budget["selector"]) == (1, spec["selector"])
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    for probe, path in (("startup", "healthz"), ("liveness", "healthz"), ("readiness", "readyz")):
        assert container[f"{probe}Probe"]["httpGet"] == {"path": f"/{path}", "port": "telemetry"}
    assert settings["RECOUNT_TELEMETRY_PORT"] == str(ports["telemetry"])
    assert settings["RECOUNT_TELEMETRY_HOST"] == "0.0.0.0"  # noqa: S104
    annotations = spec["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["telemetry"])


def test_a_pod_has_the_time_that_systemd_gives() -> None:
    """Workers and servers are killed no earlier than under systemd."""
    for name in ("worker", "serve"):
        unit = (ROOT / f"docs/operations/systemd/recount-{name}.service").read_text()
        found = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
        assert found is not None
        pod = PODS[f"recount-{name}"]["spec"]
        assert pod["terminationGracePeriodSeconds"] >= int(found[1])


def test_workers_follow_the_lag() -> None:
    """KEDA asks for a series that there is, and never has more workers than partitions."""
    spec = SCALING["spec"]
    (trigger,) = spec["triggers"]
    names, labels = used(trigger["metadata"]["query"])
    arguments = PODS["recount-init"]["spec"]["containers"][0]["args"]
    partitions = int(arguments[arguments.index("--partitions") + 1])

    assert names == {"recount_lag_offsets"}
    assert labels <= {*SERIES["recount_lag_offsets"].labels, *BY_PROMETHEUS}
    assert spec["maxReplicaCount"] == partitions
    assert spec["minReplicaCount"] >= 1
    assert ("Deployment", spec["scaleTargetRef"]["name"]) in BY_NAME
    told = yaml.safe_load(OF_KUSTOMIZE[FOLDER / "keda"].read_text())
    (patch,) = told["patches"]
    assert patch["target"] == {"kind": "Deployment", "name": spec["scaleTargetRef"]["name"]}
    assert yaml.safe_load(patch["patch"]) == [{"op": "remove", "path": "/spec/replicas"}]


def test_a_job_gives_up_on_what_does_not_mend_itself() -> None:
    """It is not tried again after such an exit code; closing waits where something lacks (3)."""
    for name, final in {
        "recount-init": {ExitCode.USAGE, ExitCode.DEFINITION, ExitCode.HALT},
        "recount-close": {ExitCode.USAGE, ExitCode.HALT},
    }.items():
        spec = BY_NAME["Job", name]["spec"]
        (rule,) = spec["podFailurePolicy"]["rules"]
        told = rule["onExitCodes"]
        assert rule["action"] == "FailJob"
        assert (told["containerName"], told["operator"]) == ("recount", "In")
        assert set(told["values"]) == {int(code) for code in final}
        assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_closed_periods_lie_where_servers_read_them() -> None:
    """The closing job writes to the claim that the servers mount, at the path of the image."""
    path = re.search(r"RECOUNT_PERIODS_DIR=(\S+)", (ROOT / "Containerfile").read_text())
    assert path is not None
    for name in ("recount-close", "recount-serve"):
        pod = PODS[name]["spec"]
        (claim,) = (each for each in pod["volumes"] if "persistentVolumeClaim" in each)
        mounts = {each["name"]: each for each in pod["containers"][0]["volumeMounts"]}
        assert ("PersistentVolumeClaim", claim["persistentVolumeClaim"]["claimName"]) in BY_NAME
        assert mounts[claim["name"]]["mountPath"] == path[1]
        assert mounts[claim["name"]].get("readOnly", False) == (name == "recount-serve")
    period = yaml.safe_load(OF_KUSTOMIZE[FOLDER / "close"].read_text())["nameSuffix"]
    own = PODS["recount-close"]["spec"]["containers"][0]["env"]
    assert period == f"-{own[0]['value']}"
