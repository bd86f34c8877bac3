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
from greenroom.jobs.ipc import ChildMessage, Frames, Handover, Hello
from greenroom.jobs.line import Line, Message
from greenroom.unixsocket import serve

__all__ = ["JOBS_SOCKET", "Listener", "RunDirInUse"]

JOBS_SOCKET = "jobs.sock"
HELLO_TIMEOUT = 5.0

_MAX_PATH = 107
"""Bytes of a unix socket's path, by the kernel's ``sockaddr_un``."""
_KEY = "worker.run_dir"
_log = structlog.get_logger(__name__)


class RunDirInUse(SettingsError):
    """Another daemon holds the run directory."""


class Listener:
    """Listens on ``<run_dir>/jobs.sock`` and hands over each line once it has said who it is.

    ``on_hello(line, hello, pid)``: ``pid`` is the kernel's word, not the message's. A lock in the directory keeps a
    second daemon out, so that a socket file that is found there is a dead daemon's and may be replaced.

    ``apart``: listen beside the daemon that holds the directory, on a socket of our own, until ``take_over``.
    ``on_handover(line, pid)`` hears of a daemon that wants the directory; the line is the callback's from then on.
    """

    def __init__(self, run_dir: Path, *, apart: bool = False) -> None:
        self.path = run_dir / JOBS_SOCKET
        self.apart = apart
        self.on_hello: Callable[[Line, Hello, int], None] = _hang_up
        self.on_handover: Callable[[Line, int], None] | None = None
        self._run_dir = run_dir
        self._own = run_dir / f"jobs-{os.getpid()}.sock"
        self._server: asyncio.Server | None = None
        self._lock: int | None = None
        self._strangers: dict[Line, asyncio.TimerHandle] = {}

    @property
    def addresses(self) -> tuple[str, str]:
        """What a process is to dial, and what it is to try first, if that is another."""
        return os.fspath(self.path), os.fspath(self._own) if self.apart else ""

    async def start(self) -> None:
        """Raises ``SettingsError`` if the directory cannot be used, ``RunDirInUse`` if another daemon does."""
        listening = await asyncio.to_thread(self._open)
        self._server = await serve(self._made, listening)

    async def take_over(self) -> None:
        """Go where the daemon was that has let go. Raises as ``start``."""
        if self.apart:
            await asyncio.to_thread(self._move)

    async def release(self) -> None:
        """Listen no more and leave the directory to another daemon; the lines that are up stay. ``start`` again takes
        it back."""
        await self._close()
        await asyncio.to_thread(self._unlock)

    async def aclose(self) -> None:
        """Listen no more; the socket's file goes, unless it is another daemon's by now."""
        await self._close()
        await asyncio.to_thread(self._remove)

    async def _close(self) -> None:
        for line in list(self._strangers):
            line.abort()
        if self._server is not None:
            self._server.close()
            self._server = None

    def _open(self) -> socket.socket:
        path = self._own if self.apart else self.path
        where = os.fsencode(path)
        if len(where) > _MAX_PATH:
            problem = f"the path of the socket {path} has {len(where)} bytes; expected at most {_MAX_PATH}"
            raise SettingsError(f"{problem}: choose a shorter directory", key=_KEY)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._make_private()
            if not self.apart:
                self._lock = self._take_lock()
                self._sweep()
            path.unlink(missing_ok=True)
            listening.bind(os.fspath(path))
            listening.listen(128)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            self._unlock()
            raise SettingsError(f"cannot listen on {path}: {error.strerror}", key=_KEY) from error
        except SettingsError:
            listening.close()
            raise
        return listening

    def _move(self) -> None:
        self._lock = self._take_lock()
        try:
            # Who dials the old name from now on reaches this socket; there is no moment without one.
            self._own.rename(self.path)
        except OSError as error:
            self._unlock()
            raise SettingsError(f"cannot listen on {self.path}: {error.strerror}", key=_KEY) from error
        self.apart = False
        self._sweep()

    def _sweep(self) -> None:
        """Remove what daemons left that died before they had taken over. Needs the lock."""
        for left in self._run_dir.glob("jobs-*.sock"):
            if not _listens(left):
                left.unlink(missing_ok=True)

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
            problem = f"{self._run_dir} is in use by another daemon; expected one each, or --takeover"
            raise RunDirInUse(problem, key=_KEY) from error
        return lock

    def _remove(self) -> None:
        if self.apart:
            self._own.unlink(missing_ok=True)
        elif self._lock is not None:
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
        if uid == os.geteuid() and pid != 0:
            if isinstance(message, Hello):
                self.on_hello(line, message, pid)
                return
            if isinstance(message, Handover) and self.on_handover is not None:
                _log.info("another daemon takes over", pid=pid, version=message.version)
                self.on_handover(line, pid)
                return
        _log.warning("stranger on the jobs' socket", pid=pid, uid=uid, said=type(message).__name__)
        line.abort()

    def _forget(self, line: Line) -> None:
        timer = self._strangers.pop(line, None)
        if timer is not None:
            timer.cancel()


def _hang_up(line: Line, hello: Hello, pid: int) -> None:
    """Nobody is at home yet."""
    line.abort()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dialling:
        try:
            dialling.connect(os.fspath(path))
        except OSError:
            return False
    return True
