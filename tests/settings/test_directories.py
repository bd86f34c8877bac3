"""Where a worker's files are."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from greenroom.directories import private, run_dir, state_dir
from greenroom.errors import SettingsError


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"RUNTIME_DIRECTORY": "/run/greenroom", "XDG_RUNTIME_DIR": "/run/user/7"}, "/run/greenroom"),
        ({"RUNTIME_DIRECTORY": "/run/greenroom:/run/other"}, "/run/greenroom"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/greenroom"),
        ({"XDG_RUNTIME_DIR": "relative", "TMPDIR": "/var/tmp"}, f"/var/tmp/greenroom-{os.getuid()}"),  # noqa: S108
        ({}, f"{tempfile.gettempdir()}/greenroom-{os.getuid()}"),
    ],
)
def test_the_run_directory(environ: dict[str, str], path: str) -> None:
    assert run_dir(environ) == Path(path)


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"STATE_DIRECTORY": "/var/lib/greenroom", "XDG_STATE_HOME": "/x"}, "/var/lib/greenroom"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/home/joe"}, "/x/greenroom"),
        ({"HOME": "/home/joe"}, "/home/joe/.local/state/greenroom"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/greenroom/state"),
    ],
)
def test_the_state_directory(environ: dict[str, str], path: str) -> None:
    assert state_dir(environ) == Path(path)


def test_a_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    path = private(tmp_path / "a" / "b")
    assert path.stat().st_mode & 0o777 == 0o700
    assert private(path) == path


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(0o777)
    with pytest.raises(SettingsError, match="can be written by others; expected mode 0700"):
        private(path)


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"cannot be made \(File exists\)"):
        private(tmp_path / "file")
    with pytest.raises(SettingsError, match=r"cannot be made \(Not a directory\)"):
        private(tmp_path / "file" / "inside")


def test_a_link_that_someone_left_in_a_shared_folder_is_refused(tmp_path: Path) -> None:
    shared, ours = tmp_path / "shared", tmp_path / "ours"
    shared.mkdir()
    shared.chmod(0o1777)
    ours.mkdir(0o700)
    (shared / "greenroom").symlink_to(ours)
    with pytest.raises(SettingsError, match="is no directory"):
        private(shared / "greenroom")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.mkdir(0o700)
    os.chown(path, 12345, 12345)
    with pytest.raises(SettingsError, match="belongs to user 12345"):
        private(path)
