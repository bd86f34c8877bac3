"""Compose: right by its own loader, safe as it comes, and in step with what it starts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from greenroom.embedded import binary
from greenroom.settings import Deadlines
from tests.deploy.programs import DEPLOY, Done, checked

FILE = DEPLOY / "compose.yaml"
NEEDED = {"LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "s" * 32, "GRAFANA_PASSWORD": "word"}
"""What has to be set before anything starts."""


def loaded(env: dict[str, str]) -> Done:
    empty = dict.fromkeys(re.findall(r"\$\{(\w+)", FILE.read_text()), "")
    return checked("compose-model", FILE, env=empty | env)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    done = loaded(NEEDED)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def test_compose_takes_the_file(services: dict[str, Any]) -> None:
    assert set(services) == {"livekit", "redis", "greenroom", "prometheus", "grafana"}


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    """What the test above relies on."""
    for right, wrong in (("healthcheck:", "healthchek:"), ("condition: service_healthy", "condition: well")):
        (tmp_path / "compose.yaml").write_text(FILE.read_text().replace(right, wrong, 1))
        assert checked("compose-model", tmp_path / "compose.yaml", env=NEEDED).returncode == 1


@pytest.mark.parametrize("name", NEEDED)
def test_nothing_starts_without_its_secrets(name: str) -> None:
    done = loaded({key: value for key, value in NEEDED.items() if key != name})
    assert (done.returncode, f"{name} is missing a value: set it in deploy/.env" in done.stderr) == (1, True)


def test_the_example_names_every_variable() -> None:
    named = re.findall(r"^(\w+)=", (DEPLOY / "compose.env").read_text(), flags=re.MULTILINE)
    used = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    assert used - {"GREENROOM_VERSION"} == set(named)


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    sources = [
        Path(volume["source"])
        for service in services.values()
        for volume in service.get("volumes", ())
        if volume["type"] == "bind"
    ]
    assert len(sources) > 5
    assert [source for source in sources if not source.exists()] == []
    assert all(
        volume.get("read_only")
        for service in services.values()
        for volume in service.get("volumes", ())
        if volume["type"] == "bind"
    )


def test_only_the_media_server_is_open_to_others(services: dict[str, Any]) -> None:
    open_to_all = {
        name for name, service in services.items() for port in service.get("ports", ()) if "host_ip" not in port
    }
    assert open_to_all == {"livekit"}
    assert "ports" not in services["redis"]


def test_images_are_of_known_versions(services: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in services.items()}
    assert images["livekit"] == binary.IMAGE
    # promtool has checked the rules for this version: Prometheus 3.15.0 is the module's v0.315.0.
    found = re.search(r"prometheus/prometheus v0\.(\d)(\d\d)\.(\d+)", (DEPLOY / "tools" / "go.mod").read_text())
    assert found is not None
    assert images["prometheus"] == f"prom/prometheus:v{found[1]}.{int(found[2])}.{found[3]}"
    assert [
        image for name, image in images.items() if name != "greenroom" and not re.search(r":v?\d+\.\d+", image)
    ] == []


def test_the_worker_may_take_its_time_and_little_else(services: dict[str, Any]) -> None:
    worker = services["greenroom"]
    deadlines = Deadlines()
    calls = deadlines.drain + deadlines.wrap_up + deadlines.end + deadlines.terminate
    minutes, seconds = re.fullmatch(r"(\d+)m(\d+)s", worker["stop_grace_period"]).groups()  # type: ignore[union-attr]
    assert calls + 10 <= int(minutes) * 60 + int(seconds) <= calls + 60
    assert worker["read_only"] is True
    assert worker["cap_drop"] == ["ALL"]
    assert worker["security_opt"] == ["no-new-privileges:true"]
    assert {volume["target"] for volume in worker["volumes"]} == {
        "/etc/greenroom/worker.yaml",
        "/var/lib/greenroom",
        "/var/cache/greenroom",
    }
    assert worker["tmpfs"] == ["/run/greenroom", "/tmp"]  # noqa: S108  # the container's
    assert "container_name" not in worker, "it is scaled"


def test_prometheus_finds_every_worker(services: dict[str, Any]) -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"]
    jobs = {job["job_name"]: job for job in scraped}
    (found,) = jobs["greenroom"]["dns_sd_configs"]
    assert found["names"] == ["greenroom"]
    assert found["port"] == yaml.safe_load((DEPLOY / "worker.yaml").read_text())["worker"]["admin"]["port"]
    media = yaml.safe_load((DEPLOY / "livekit" / "cluster.yaml").read_text())
    assert jobs["livekit"]["static_configs"] == [{"targets": [f"livekit:{media['prometheus']['port']}"]}]
    assert {mount["target"] for mount in services["prometheus"]["volumes"] if mount["type"] == "bind"} == {
        "/etc/prometheus/prometheus.yml",
        *(f"/etc/prometheus/{file}" for file in _rule_files()),
    }


def test_the_worker_s_settings_are_right() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "greenroom", "check", str(DEPLOY / "worker.yaml")],
        env={"LIVEKIT_URL": "ws://livekit:7880", "LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "s" * 32},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.e2e
@pytest.mark.models
def test_the_worker_s_agent_answers(tmp_path: Path) -> None:
    """What a first `docker compose up` gives, less the containers."""
    spoken = ["--say", "When are you open?", "--out", str(tmp_path / "answer.wav"), "--json"]
    patient = ["--agent-timeout", "60", "--answer-timeout", "60"]
    done = subprocess.run(
        [sys.executable, "-m", "greenroom", "call", "--embedded", "-c", str(DEPLOY / "worker.yaml"), *spoken, *patient],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "from ten to six" in done.stdout


def test_the_media_server_s_port_is_the_published_one(services: dict[str, Any]) -> None:
    media = yaml.safe_load((DEPLOY / "livekit" / "cluster.yaml").read_text())
    published = {(port["target"], port["protocol"]) for port in services["livekit"]["ports"]}
    ports = {(media["port"], "tcp"), (media["rtc"]["tcp_port"], "tcp"), (media["rtc"]["udp_port"], "udp")}
    assert published == ports
    assert services["greenroom"]["environment"]["LIVEKIT_URL"] == f"ws://livekit:{media['port']}"
    assert media["redis"]["address"] == "redis:6379"


@pytest.mark.e2e
def test_the_media_server_takes_its_configuration(tmp_path: Path) -> None:
    file = DEPLOY / "livekit" / "cluster.yaml"
    done = _ports(file)
    assert (done.returncode, "7882" in done.stdout) == (0, True), done.stderr
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(file.read_text().replace("target_load", "targetload"))
    assert "targetload" in _ports(wrong).stdout + _ports(wrong).stderr


def _ports(file: Path) -> Done:
    """The ports that LiveKit would listen on: it reads the whole of its configuration for that, and starts nothing."""
    server = binary.ensure()
    if server.origin == "docker":
        pytest.skip("livekit-server is here as an image only, which does not see this file")
    return subprocess.run(
        [server.path, "ports", "--config", file],
        env={"LIVEKIT_KEYS": f"key: {'s' * 32}", "NODE_IP": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def _rule_files() -> list[str]:
    files: list[str] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())["rule_files"]
    return files
