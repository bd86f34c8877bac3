"""One file that is only ever appended to: every line is with the kernel when ``append`` returns.

It is locked for as long as its process lives, which is how others know that it is being written.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path

__all__ = ["SUFFIX", "AppendedFile", "is_living"]

SUFFIX = ".journal"
NAMES = 1000
"""Files of one name, at most: processes that served the same call."""
SYNC_TIMEOUT = 5.0
"""How long a disk may take to write the last lines down when the file is closed. Seconds."""


class AppendedFile:
    """``<folder>/<name>.journal``, or ``<name>.2.journal`` and so on where there is one already.

    ``sync``: have each line written to the disk itself as well, by a thread, so that nobody waits for it.
    All methods raise ``OSError``.
    """

    def __init__(self, folder: Path, name: str, *, sync: bool = False) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path, self._file = _create(folder, name)
        self.size = 0
        self._syncing: _Syncing | None = None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)  # the file is new: nobody has it for longer than a look
            if sync:
                self._syncing = _Syncing(self._file, folder)
        except OSError:
            os.close(self._file)
            raise

    def append(self, line: bytes) -> None:
        """Hand the whole line to the kernel; when that fails, none of it is left in the file."""
        if self._syncing is not None and self._syncing.error is not None:
            raise self._syncing.error
        if os.fstat(self._file).st_nlink == 0:
            raise FileNotFoundError(f"{self.path} was removed")
        try:
            written = os.write(self._file, line)
            while written < len(line):  # a disk that is getting full takes a part
                written += os.write(self._file, line[written:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self.size)
            raise
        self.size += len(line)
        if self._syncing is not None:
            self._syncing.wake()

    def close(self) -> None:
        """A file in which nothing was written is removed."""
        if self._syncing is not None:
            self._syncing.close()
        os.close(self._file)
        if not self.size:
            self.path.unlink(missing_ok=True)


def is_living(path: Path) -> bool:
    """Whether the process that writes this file lives. Raises ``OSError`` where it cannot be opened."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _create(folder: Path, name: str) -> tuple[Path, int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    for number in range(1, NAMES + 1):
        path = folder / f"{name}{f'.{number}' if number > 1 else ''}{SUFFIX}"
        with suppress(FileExistsError):
            return path, os.open(path, flags, 0o600)
    raise FileExistsError(f"{folder / name} has {NAMES} journals already")


class _Syncing:
    """A thread that has the disk write down whatever has come since it looked last."""

    def __init__(self, file: int, folder: Path) -> None:
        self.error: OSError | None = None
        self._file = os.dup(file)
        self._folder = folder
        self._wanted = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._wanted.set()

    def close(self) -> None:
        self._closing = True
        self._wanted.set()
        self._thread.join(SYNC_TIMEOUT)

    def _run(self) -> None:
        try:
            self._sync_name()
            while not self._closing:
                self._wanted.wait()
                self._wanted.clear()
                os.fdatasync(self._file)
        except OSError as error:
            self.error = error
        finally:
            os.close(self._file)

    def _sync_name(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
