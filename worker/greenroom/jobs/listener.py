"""The socket in the run directory that the jobs' processes dial."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import structlog

from greenroom.errors import SettingsError
from greenroom.jobs.ipc import ChildMessage, Frames, Hello
from greenroom.jobs.line import Line, Message

__all__ = ["Listener"]

HELLO_TIMEOUT = 5.0

_MAX_PATH = 107
"""Bytes of a unix socket's path, by the kernel's ``sockaddr_un``."""
_KEY = "worker.run_dir"
_log = structlog.get_logger(__name__)


class Listener:
    """Listens on ``<run_dir>/jobs.sock`` and hands over each line once it has said who it is.

    ``on_hello(line, hello, pid)``: ``pid`` is the kernel's word, not the message's. A lock in the directory keeps a
    second daemon out, so that a socket file that is found there is a dead daemon's and may be replaced.
    """

    def __init__(self, run_dir: Path, *, on_hello: Callable[[Line, Hello, int], None]) -> None:
        self.path = run_dir / "jobs.sock"
        self._run_dir = run_dir
        self._on_hello = on_hello
        self._server: asyncio.Server | None = None
        self._lock: int | None = None
        self._strangers: dict[Line, asyncio.TimerHandle] = {}

    async def start(self) -> None:
        """Raises ``SettingsError`` if the directory cannot be used."""
        listening = await asyncio.to_thread(self._open)
        self._server = await asyncio.get_running_loop().create_unix_server(self._made, sock=listening)

    async def aclose(self) -> None:
        for line in list(self._strangers):
            line.abort()
        if self._server is not None:
            self._server.close()
        if self._lock is not None:
            await asyncio.to_thread(self._remove)

    def _open(self) -> socket.socket:
        where = os.fsencode(self.path)
        if len(where) > _MAX_PATH:
            problem = f"the path of the socket {self.path} has {len(where)} bytes; expected at most {_MAX_PATH}"
            raise SettingsError(f"{problem}: choose a shorter directory", key=_KEY)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._make_private()
            self._lock = self._take_lock()
            self.path.unlink(missing_ok=True)
            listening.bind(os.fspath(self.path))
            listening.listen(128)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            self._unlock()
            raise SettingsError(f"cannot listen on {self.path}: {error.strerror}", key=_KEY) from error
        except SettingsError:
            listening.close()
            raise
        return listening

    def _make_private(self) -> None:
        """Whoever can enter the directory can speak for a job, so only this user may."""
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self._run_dir.stat()
        if status.st_uid != os.geteuid():
            raise SettingsError(f"{self._run_dir} belongs to another user; expected one of your own", key=_KEY)
        if stat.S_IMODE(status.st_mode) & 0o077:
            self._run_dir.chmod(0o700)

    def _take_lock(self) -> int:
        lock = os.open(self._run_dir / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise SettingsError(f"{self._run_dir} is in use by another daemon; expected one each", key=_KEY) from error
        return lock

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _made(self) -> Line:
        return Line(Frames(ChildMessage), on_message=self._heard, on_lost=self._forget, on_made=self._greet)

    def _greet(self, line: Line) -> None:
        self._strangers[line] = asyncio.get_running_loop().call_later(HELLO_TIMEOUT, line.abort)

    def _heard(self, line: Line, message: Message) -> None:
        self._forget(line)
        try:
            pid, uid = line.peer()
        except OSError:
            return
        if not isinstance(message, Hello) or uid != os.geteuid() or pid == 0:
            _log.warning("stranger on the jobs' socket", pid=pid, uid=uid, said=type(message).__name__)
            line.abort()
            return
        self._on_hello(line, message, pid)

    def _forget(self, line: Line) -> None:
        timer = self._strangers.pop(line, None)
        if timer is not None:
            timer.cancel()
