"""The image: by hadolint's rules, made of what it copies, no larger than asked for, and healthy when its worker is.

No image is built here, for that takes Docker; but its steps are run, one by one, where they need no network.
"""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from greenroom.ops.admin import Admin
from greenroom.ops.metrics import Metrics
from greenroom.settings import AdminSettings
from tests.deploy.dockerfile import ignored, instructions, sources
from tests.deploy.programs import DEPLOY, ROOT, checked
from tests.ops.workers import MadeUp

TEXT = (ROOT / "Dockerfile").read_text()
FOUND = instructions(TEXT)
LAST = max(each.stage for each in FOUND)
PATTERNS = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = DEPLOY / "docker" / "wanted.py"
HEALTHY = DEPLOY / "docker" / "healthy.py"


def final(word: str) -> Any:
    """The one instruction of that name in what becomes the image."""
    (each,) = (each for each in FOUND if each.word == word and each.stage == LAST)
    return each


def test_hadolint_finds_nothing() -> None:
    done = checked("hadolint", "--no-color", "Dockerfile")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_signals_reach_the_worker() -> None:
    assert final("ENTRYPOINT").listed == ["tini", "--", "greenroom"]
    assert final("CMD").listed == ["start", "--config", "/etc/greenroom/worker.yaml"]
    assert final("STOPSIGNAL").text == "SIGTERM"


def test_nobody_is_root() -> None:
    user, group = final("USER").text.split(":")
    assert user.isdecimal()
    assert int(user) == int(group) > 0
    assert f"useradd --uid {user} " in TEXT
    after = [each.word for each in FOUND if each.stage == LAST]
    assert "RUN" not in after[after.index("USER") :]


def test_what_builds_stays_behind() -> None:
    assert LAST == 2
    copied = [each.text for each in FOUND if each.word == "COPY" and each.stage == LAST]
    assert copied == [
        "--from=build /opt/greenroom /opt/greenroom",
        "deploy/docker/healthy.py /usr/local/lib/greenroom/healthy.py",
    ]
    assert "ADD" not in {each.word for each in FOUND}
    # The environment is moved from one stage to the other: its interpreter has to be at the same place in both.
    assert len({each.text.split()[0] for each in FOUND if each.word == "FROM"}) == 1


def test_no_secret_is_asked_for() -> None:
    for each in FOUND:
        if each.word in {"ARG", "ENV"}:
            assert not re.search(r"SECRET|TOKEN|KEY|PASSWORD", each.text)


def test_every_package_is_checked_by_hash() -> None:
    installs = [
        part for each in FOUND for part in re.split("&&", each.text) if re.search(r"\bpip\b.* (install|wheel)", part)
    ]
    assert len(installs) == 4
    for command in installs:
        assert "--require-hashes" in command or "--no-deps" in command
    assert [command for command in installs if " wheel " in command and "--no-build-isolation" not in command] == []


def test_what_is_copied_is_in_the_context() -> None:
    copied = list(sources(FOUND))
    assert len(copied) > 8
    for source, _ in copied:
        place = ROOT / source
        files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
        there = [file for file in files if not ignored(file.relative_to(ROOT), PATTERNS)]
        assert there, source
        if place.is_file():
            assert there == files


@pytest.mark.parametrize(
    "path",
    [
        *(".env", "deploy/.env", ".git/config", ".venv/bin/python", "call.journal", "tests/test_house.py"),
        *("worker/greenroom/__pycache__/cli.cpython-311.pyc", "worker/greenroom/embedded/static/index.html"),
        *("deploy/kubernetes/secret.yaml", "config/worker.yaml", "web/src/main.ts"),
    ],
)
def test_what_has_no_business_in_the_image_is_not_in_the_context(path: str) -> None:
    assert ignored(Path(path), PATTERNS)


def test_a_wheel_can_be_made_of_what_is_copied(tmp_path: Path) -> None:
    for source, to in sources([each for each in FOUND if each.stage == 1]):
        place = ROOT / source
        target = tmp_path / to / (place.name if place.is_file() else "")
        target.parent.mkdir(parents=True, exist_ok=True)
        if place.is_file():
            shutil.copy(place, target)
        else:
            shutil.copytree(place, target, dirs_exist_ok=True, symlinks=True, ignore=_left_out)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", "made"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "made").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("greenroom/embedded/demo.yaml") == (ROOT / "config" / "demo.yaml").read_bytes()
    assert {"greenroom/__main__.py", "greenroom_plugins/silero.py"} <= names
    assert [name for name in names if "static/" in name] == []


def _left_out(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if ignored((Path(folder) / name).relative_to(ROOT), PATTERNS)}


def wanted(extras: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, "-I", WANTED, ROOT / "pyproject.toml", extras]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_the_image_has_what_is_asked_for_and_no_more() -> None:
    extras = PROJECT["optional-dependencies"]
    assert set(wanted("").stdout.splitlines()) == set(PROJECT["dependencies"])
    asked = set(wanted("silero, mcp").stdout.splitlines())
    assert asked == {*PROJECT["dependencies"], *extras["silero"], *extras["mcp"]}


def test_an_extra_brings_those_that_it_is_made_of() -> None:
    found = set(wanted("local").stdout.splitlines())
    extras = PROJECT["optional-dependencies"]
    assert {*extras["piper"], *extras["silero"], *extras["whisper"]} <= found
    assert not [each for each in found if each.startswith("greenroom")]


@pytest.mark.parametrize("extra", sorted(set(PROJECT["optional-dependencies"]) - {"dev"}))
def test_whatever_an_extra_needs_is_locked(extra: str) -> None:
    """The image takes versions and hashes from the lock for development, which has to know all extras."""
    locked = set(
        re.findall(r"^([a-z0-9][a-z0-9._-]*)==", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE)
    )
    done = wanted(extra)
    assert done.returncode == 0
    names = {re.split(r"[\[<>=;\s]", each)[0].lower().replace("_", "-") for each in done.stdout.splitlines()}
    assert names - locked == set()


def test_an_extra_that_there_is_not_is_refused() -> None:
    done = wanted("silero,whispr")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no extra 'whispr'; expected some of local, mcp" in done.stderr


@pytest.mark.parametrize(
    ("extras", "brought"),
    [("", False), ("silero", False), ("smart-turns", False), ("mcp smart-turn", True), ("silero, local", True)],
)
def test_models_come_with_the_extras_that_use_them(tmp_path: Path, extras: str, brought: bool) -> None:
    """What fetches them is replaced: it needs the network."""
    for folder in ("docker", "setup"):
        (tmp_path / "deploy" / folder).mkdir(parents=True)
    shutil.copy(DEPLOY / "docker" / "models", tmp_path / "deploy" / "docker")
    fetch = tmp_path / "deploy" / "setup" / "models"
    fetch.write_text('#!/bin/sh\nmkdir -p "$1/share/greenroom" && echo model > "$1/share/greenroom/model.onnx"\n')
    fetch.chmod(0o755)
    subprocess.run(["deploy/docker/models", extras, "tools", "goal"], cwd=tmp_path, check=True, timeout=30)
    assert (tmp_path / "goal" / "share" / "greenroom" / "model.onnx").exists() is brought


def test_the_health_check_is_the_script() -> None:
    check = final("HEALTHCHECK").text
    options, _, command = check.partition(" CMD ")
    assert command == '["python", "-I", "-S", "/usr/local/lib/greenroom/healthy.py"]'
    timeout = re.search(r"--timeout=(\d+)s", options)
    assert timeout is not None
    assert float(timeout[1]) > runpy.run_path(str(HEALTHY))["TIMEOUT"]


async def healthy(folder: Path) -> tuple[int | None, str]:
    """The health check of a container whose run directory is ``folder``: its exit code and its word."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", HEALTHY),
        env={"RUNTIME_DIRECTORY": os.fspath(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_a_worker_that_is_well_is_healthy_and_one_that_is_not_is_not(tmp_path: Path) -> None:
    facts = MadeUp()
    admin = Admin(AdminSettings(enabled=False), facts, metrics=Metrics(), run_dir=tmp_path)
    await admin.start()
    try:
        code, word = await healthy(tmp_path)
        assert (code, '"status":"healthy"' in word) == (0, True)
        facts.now = MadeUp(fork_server_pid=None).now
        code, word = await healthy(tmp_path)
        assert (code, "fork_server_gone" in word) == (1, True)
    finally:
        await admin.aclose()


async def test_no_worker_is_not_healthy(tmp_path: Path) -> None:
    code, word = await healthy(tmp_path)
    assert (code, word.startswith(f"no answer on {tmp_path}/admin.sock:")) == (1, True)
