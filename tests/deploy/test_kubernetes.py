"""The manifests: right by Kubernetes' own schemas, and in step with each other and with the worker."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from greenroom.ops.admin import Admin
from greenroom.ops.metrics import Metrics
from greenroom.settings import AdminSettings, Deadlines, WorkerSettings
from greenroom.version import __version__
from tests.deploy.dockerfile import instructions
from tests.deploy.programs import DEPLOY, ROOT, checked
from tests.deploy.promql import RECORDED, problems
from tests.ops.workers import MadeUp

FOLDER = DEPLOY / "kubernetes"
NOT_KUBERNETES_OWN = {"kustomization.yaml", "podmonitor.yaml", "prometheus-adapter.yaml"}
NOT_APPLIED = {"kustomization.yaml", "podmonitor.yaml", "prometheus-adapter.yaml", "secret.example.yaml"}
VERSIONS = ("1.30", "1.37")
"""Of Kubernetes: the oldest and the newest that the manifests are meant for."""
MANIFESTS: dict[str, dict[str, Any]] = {file.name: yaml.safe_load(file.read_text()) for file in FOLDER.glob("*.yaml")}
DEPLOYMENT = MANIFESTS["deployment.yaml"]
POD = DEPLOYMENT["spec"]["template"]["spec"]
(WORKER,) = POD["containers"]
LABELS = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]


def validated(file: Path, version: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, file]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(set(MANIFESTS) - NOT_KUBERNETES_OWN))
def test_kubernetes_takes_the_manifest(name: str, version: str) -> None:
    done = validated(FOLDER / name, version)
    assert (done.returncode, "passed" in done.stdout + done.stderr) == (0, True), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("preStop:", "preStopp:"), ("terminationGracePeriodSeconds: 1860", "terminationGracePeriodSeconds: long")],
)
def test_what_is_wrong_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    """What the test above relies on."""
    file = tmp_path / "deployment.yaml"
    file.write_text((FOLDER / "deployment.yaml").read_text().replace(right, wrong))
    assert validated(file, VERSIONS[-1]).returncode != 0


def test_the_kustomization_applies_all_that_is_to_be() -> None:
    assert set(MANIFESTS["kustomization.yaml"]["resources"]) == set(MANIFESTS) - NOT_APPLIED


def test_kustomize_takes_it() -> None:
    done = checked("kubectl", "kustomize", FOLDER)
    assert (done.returncode, done.stderr) == (0, "")
    made = list(yaml.safe_load_all(done.stdout))
    assert len(made) == len(MANIFESTS["kustomization.yaml"]["resources"])
    assert {one["metadata"].get("namespace", one["metadata"]["name"]) for one in made} == {"greenroom"}


def test_the_settings_are_those_of_every_container() -> None:
    assert MANIFESTS["configmap.yaml"]["data"] == {"worker.yaml": (DEPLOY / "worker.yaml").read_text()}


def test_there_is_time_for_calls_to_end() -> None:
    deadlines = Deadlines()
    calls = deadlines.drain + deadlines.wrap_up + deadlines.end + deadlines.terminate
    assert calls + 10 <= POD["terminationGracePeriodSeconds"] <= calls + 60


def test_a_pod_that_goes_is_drained_first() -> None:
    command = WORKER["lifecycle"]["preStop"]["exec"]["command"]
    assert command == ["greenroom", "drain", "--wait"]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, "--wait" in done.stdout) == (0, True)


def probes() -> Iterator[tuple[str, str]]:
    for kind in ("startup", "readiness", "liveness"):
        get = WORKER[f"{kind}Probe"]["httpGet"]
        assert get["port"] == "admin"
        yield kind, get["path"]


async def answers(folder: Path, **facts: Any) -> dict[str, int]:
    """What a worker in this state answers to each probe."""
    admin = Admin(AdminSettings(enabled=False), MadeUp(**facts), metrics=Metrics(), run_dir=folder)
    await admin.start()
    try:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(admin.path))) as session:
            found = {}
            for kind, path in probes():
                async with session.get(f"http://worker{path}") as answer:
                    found[kind] = answer.status
            return found
    finally:
        await admin.aclose()
        await asyncio.sleep(0)


async def test_probes_tell_what_they_are_asked(tmp_path: Path) -> None:
    from tests.ops import workers

    good = {"startup": 200, "readiness": 200, "liveness": 200}
    assert await answers(tmp_path) == good
    full = {"free": 0, "agents": (workers.agent(refusal="full"),)}
    assert await answers(tmp_path, **full) == good, "a full worker must not be the first to be scaled down"
    lost = {"links": (workers.link(state="opening"),)}
    assert await answers(tmp_path, **lost) == good | {"readiness": 503}
    broken = {"agents": (workers.agent(warm=0, refusal="no_warm_process"),)}
    assert await answers(tmp_path, **broken) == good | {"readiness": 503}
    assert set((await answers(tmp_path, fork_server_pid=None)).values()) == {503}


def test_a_worker_that_is_slow_for_a_moment_is_not_killed() -> None:
    probe = WORKER["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 60
    start = WORKER["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= Deadlines().boot + 60


def test_the_pod_may_do_nothing_that_it_need_not() -> None:
    assert MANIFESTS["namespace.yaml"]["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    (user,) = {
        each.text.split(":")[0] for each in instructions((ROOT / "Dockerfile").read_text()) if each.word == "USER"
    }
    context = POD["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["fsGroup"]) == (True, int(user), int(user))
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert WORKER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (
        POD["automountServiceAccountToken"] is MANIFESTS["serviceaccount.yaml"]["automountServiceAccountToken"] is False
    )
    assert "hostNetwork" not in POD


def test_what_the_worker_writes_to_can_be_written() -> None:
    """The root is read-only: whatever the image's environment names has to be a volume, or in one."""
    (environment,) = (
        each.text for each in instructions((ROOT / "Dockerfile").read_text()) if each.word == "ENV" and each.stage == 2
    )
    named = [Path(path) for path in re.findall(r"(?:DIRECTORY|CACHE_HOME)=(\S+)", environment)]
    assert len(named) == 3
    writable = {Path(mount["mountPath"]) for mount in WORKER["volumeMounts"] if not mount.get("readOnly")}
    for path in named:
        assert writable & {path, *path.parents}
    # A volume's own folder belongs to root and can be written by a group, which a worker refuses for its sockets.
    assert not set(named[:2]) & writable
    assert {mount["name"] for mount in WORKER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}


def test_names_fit_together() -> None:
    selector = {"matchLabels": LABELS}
    assert DEPLOYMENT["spec"]["selector"] == selector
    assert MANIFESTS["service.yaml"]["spec"]["selector"] == LABELS
    assert MANIFESTS["poddisruptionbudget.yaml"]["spec"]["selector"] == selector
    assert MANIFESTS["networkpolicy.yaml"]["spec"]["podSelector"] == selector
    assert MANIFESTS["podmonitor.yaml"]["spec"]["selector"] == selector
    assert POD["serviceAccountName"] == MANIFESTS["serviceaccount.yaml"]["metadata"]["name"]
    assert WORKER["envFrom"] == [{"secretRef": {"name": MANIFESTS["secret.example.yaml"]["metadata"]["name"]}}]
    assert POD["volumes"][0]["configMap"]["name"] == MANIFESTS["configmap.yaml"]["metadata"]["name"]
    assert WORKER["image"] == f"greenroom:{__version__}"
    # Prometheus' job is the one that rules and dashboard ask for.
    label = MANIFESTS["podmonitor.yaml"]["spec"]["jobLabel"]
    assert LABELS[label] == "greenroom"


def test_ports_fit_together() -> None:
    settings = yaml.safe_load(MANIFESTS["configmap.yaml"]["data"]["worker.yaml"])["worker"]["admin"]
    assert settings["host"] == "0.0.0.0"  # noqa: S104  # in a Pod: the kubelet asks from outside
    assert WORKER["ports"] == [{"name": "admin", "containerPort": settings["port"]}]
    (port,) = MANIFESTS["service.yaml"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (settings["port"], "admin")
    (ingress,) = MANIFESTS["networkpolicy.yaml"]["spec"]["ingress"]
    assert [port["port"] for port in ingress["ports"]] == ["admin"]
    (endpoint,) = MANIFESTS["podmonitor.yaml"]["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")


def test_the_media_server_can_be_reached() -> None:
    media = yaml.safe_load((DEPLOY / "livekit" / "cluster.yaml").read_text())
    allowed = {
        (port["protocol"], port["port"])
        for rule in MANIFESTS["networkpolicy.yaml"]["spec"]["egress"]
        for port in rule["ports"]
    }
    needed = {("TCP", media["port"]), ("TCP", media["rtc"]["tcp_port"]), ("UDP", media["rtc"]["udp_port"]), ("UDP", 53)}
    assert needed <= allowed


def test_workers_are_scaled_on_free_slots() -> None:
    scaler = MANIFESTS["horizontalpodautoscaler.yaml"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == DEPLOYMENT["metadata"]["name"]
    assert "replicas" not in DEPLOYMENT["spec"], "each roll-out would set it back"
    (metric,) = scaler["metrics"]
    (rule,) = MANIFESTS["prometheus-adapter.yaml"]["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    series = re.match(r"[\w:]+", rule["seriesQuery"])
    assert series is not None
    assert series[0] in RECORDED
    asked = rule["metricsQuery"].replace("<<.Series>>", series[0])
    asked = asked.replace("<<.LabelMatchers>>", 'namespace="greenroom"').replace("<<.GroupBy>>", "pod")
    assert problems(asked) == problems(rule["seriesQuery"]) == []
    slots = yaml.safe_load(MANIFESTS["configmap.yaml"]["data"]["worker.yaml"])["worker"].get(
        "max_jobs", WorkerSettings().max_jobs
    )
    assert 0.5 * slots <= int(metric["pods"]["target"]["averageValue"]) < slots
    assert scaler["minReplicas"] > 1
