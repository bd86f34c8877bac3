"""Where a worker's files are when the settings leave it open.

The run directory holds sockets and is worthless after a reboot; the state directory holds journals and is kept.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from greenroom.errors import SettingsError

__all__ = ["private", "run_dir", "state_dir"]


def run_dir(environ: Mapping[str, str]) -> Path:
    """``$RUNTIME_DIRECTORY`` (systemd), else ``$XDG_RUNTIME_DIR/greenroom``, else one in the temp dir for this user."""
    given = _systemd(environ, "RUNTIME_DIRECTORY")
    if given is not None:
        return given
    xdg = _absolute(environ, "XDG_RUNTIME_DIR")
    if xdg is not None:
        return xdg / "greenroom"
    return Path(environ.get("TMPDIR") or tempfile.gettempdir()).absolute() / f"greenroom-{os.getuid()}"


def state_dir(environ: Mapping[str, str]) -> Path:
    """``$STATE_DIRECTORY`` (systemd), else ``$XDG_STATE_HOME/greenroom``, else ``~/.local/state/greenroom``."""
    given = _systemd(environ, "STATE_DIRECTORY")
    if given is not None:
        return given
    xdg = _absolute(environ, "XDG_STATE_HOME")
    if xdg is not None:
        return xdg / "greenroom"
    home = _absolute(environ, "HOME")
    # A service without a home keeps its state beside its sockets rather than failing to start.
    return home / ".local" / "state" / "greenroom" if home is not None else run_dir(environ) / "state"


def private(path: Path) -> Path:
    """Make the directory, for this user alone, if it is not there. Raises ``SettingsError`` when it cannot be used.

    One that is there has to be ours and closed to others: in a shared temp dir anyone could have made it first, and
    whoever owns it could answer for our jobs.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat(follow_symlinks=False) if _shared(path.parent) else path.stat()
    except OSError as error:
        raise SettingsError(f"{path} cannot be made ({error.strerror}); expected a directory of our own") from error
    if not stat.S_ISDIR(status.st_mode):
        raise SettingsError(f"{path} is no directory; expected a directory of our own")
    if status.st_uid != os.getuid():
        raise SettingsError(f"{path} belongs to user {status.st_uid}; expected a directory of our own")
    if status.st_mode & 0o022:
        raise SettingsError(f"{path} can be written by others; expected mode 0700")
    if not os.access(path, os.W_OK | os.X_OK):
        raise SettingsError(f"{path} cannot be written; expected a directory of our own")
    return path


def _systemd(environ: Mapping[str, str], name: str) -> Path | None:
    """systemd names several directories in one variable, separated by colons; the first is ours."""
    first = environ.get(name, "").partition(":")[0]
    return Path(first) if first.startswith("/") else None


def _absolute(environ: Mapping[str, str], name: str) -> Path | None:
    """The XDG specification has relative paths ignored."""
    value = environ.get(name, "")
    return Path(value) if value.startswith("/") else None


def _shared(folder: Path) -> bool:
    """Whether anyone may put things there, as in /tmp."""
    return bool(folder.stat().st_mode & stat.S_IWOTH)
