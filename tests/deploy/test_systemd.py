"""The unit: right by systemd's own programs, in step with the deadlines, and such that calls outlive the daemon."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom.daemon.reload import CHECK_TIMEOUT
from greenroom.directories import run_dir, state_dir
from greenroom.ops.asking import SERVICE_DIR
from greenroom.settings import Deadlines
from tests.deploy.programs import DEPLOY, checked

FOLDER = DEPLOY / "systemd"
UNIT = FOLDER / "greenroom.service"
PROGRAM = "/opt/greenroom/bin/greenroom"
WAY_OUT = 10.0
"""Seconds that a daemon may take beside its calls."""
MOST_EXPOSED = 2.0
"""Of 10, as `systemd-analyze security` counts: below 2 it calls a service ok, and nothing that uses the network gets
much lower."""


def settings(text: str) -> dict[str, list[str]]:
    """Each setting of a unit, with all of its values."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


SET = settings(UNIT.read_text())


def one(name: str) -> str:
    (value,) = SET[name]
    return value


def runnable(tmp_path: Path, text: str) -> Path:
    """The unit with a program that is on this machine: systemd looks whether it is there."""
    file = tmp_path / UNIT.name
    file.write_text(text.replace(PROGRAM, str(shutil.which("true"))))
    return file


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    done = checked("systemd-analyze", "verify", "--man=no", runnable(tmp_path, UNIT.read_text()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("KillMode=process", "KillMode=procces"), ("WatchdogSec=20", "WatchDog=20"), ("ExecStart=/", "ExecStart=")],
)
def test_what_is_wrong_in_a_unit_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    """What the test above relies on."""
    unit = runnable(tmp_path, UNIT.read_text())
    unit.write_text(unit.read_text().replace(right, wrong))
    assert UNIT.name in checked("systemd-analyze", "verify", "--man=no", unit).stderr


def test_the_unit_is_hardened(tmp_path: Path) -> None:
    unit = runnable(tmp_path, UNIT.read_text())
    limit = f"--threshold={MOST_EXPOSED * 10:.0f}"
    done = checked("systemd-analyze", "security", "--offline=true", "--no-pager", limit, unit)
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd-analyze is older than 250 and cannot look at a unit that is not loaded")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_breaks_agents_is_left_out() -> None:
    for name in ("MemoryDenyWriteExecute", "ProcSubset", "RemoveIPC", "PrivateUsers", "DynamicUser"):
        assert name not in SET


def test_calls_outlive_the_daemon() -> None:
    assert one("KillMode") == "process"
    assert one("OOMPolicy") == "continue"
    assert one("RuntimeDirectoryPreserve") == "yes"
    # A daemon that ended by itself had been drained, or took its settings for wrong; any other is followed by one that
    # adopts its calls, however often.
    assert one("Restart") == "on-failure"
    assert one("RestartPreventExitStatus") == "2"
    assert one("StartLimitIntervalSec") == "0"
    # /tmp goes with the daemon; what calls have there does not.
    (environment,) = SET["Environment"]
    assert one("PrivateTmp") == "yes"
    assert "TMPDIR=%C/greenroom/tmp" in shlex.split(environment)
    assert "greenroom/tmp" in one("CacheDirectory").split()


def test_a_new_daemon_can_take_over() -> None:
    assert (one("Type"), one("NotifyAccess")) == ("notify", "all")
    assert one("ExecReload").split()[1:] == ["-USR2", "$MAINPID"]


def test_there_is_time_for_calls_to_end_and_for_a_worker_to_start() -> None:
    deadlines = Deadlines()
    calls = deadlines.drain + deadlines.wrap_up + deadlines.end + deadlines.terminate
    assert calls + WAY_OUT <= float(one("TimeoutStopSec")) <= calls + 60
    assert float(one("TimeoutStartSec")) >= CHECK_TIMEOUT + deadlines.boot + deadlines.takeover


def test_directories_are_those_of_the_settings() -> None:
    places = {
        "RUNTIME_DIRECTORY": f"/run/{one('RuntimeDirectory')}",
        "STATE_DIRECTORY": f"/var/lib/{one('StateDirectory')}",
    }
    assert run_dir(places) == SERVICE_DIR
    assert state_dir(places) == Path("/var/lib/greenroom")
    assert {one(f"{name}DirectoryMode") for name in ("Runtime", "State", "Cache")} == {"0700"}


def test_the_command_is_one() -> None:
    program, *arguments = shlex.split(one("ExecStart"))
    assert program == PROGRAM
    command = [sys.executable, "-m", "greenroom", *arguments, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    for option in (argument for argument in arguments if argument.startswith("-")):
        assert option in done.stdout


def test_the_user_is_made(tmp_path: Path) -> None:
    done = checked("systemd-sysusers", "--dry-run", f"--root={tmp_path}", FOLDER / "sysusers.conf")
    assert (done.returncode, f"Creating user '{one('User')}'" in done.stdout + done.stderr) == (0, True), done.stderr
    assert one("Group") == one("User")


def test_temporary_files_that_are_left_go_in_time() -> None:
    (line,) = (line for line in (FOLDER / "tmpfiles.conf").read_text().splitlines() if not line.startswith("#"))
    kind, path, mode, user, group, age = line.split()
    assert (kind, mode, user, group) == ("e", one("CacheDirectoryMode"), one("User"), one("Group"))
    assert path.removeprefix("/var/cache/") in one("CacheDirectory").split()
    assert re.fullmatch(r"\d+d", age)


def test_the_environment_file_holds_names_alone() -> None:
    assert one("EnvironmentFile") == f"/etc/greenroom/{next(FOLDER.glob('*.env')).name}"
    lines = [line for line in _lines(FOLDER / "greenroom.env") if line]
    named = dict(line.split("=", 1) for line in lines)
    assert {"LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"} <= set(named)
    assert named["LIVEKIT_API_SECRET"] == named["LIVEKIT_API_KEY"] == ""


def _lines(file: Path) -> Iterator[str]:
    for line in file.read_text().splitlines():
        if not line.startswith("# "):
            yield line.removeprefix("#").strip()
