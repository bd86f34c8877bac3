"""The daemon's side of the fork server: started, asked for processes, started again when it dies."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import msgspec
import structlog

from greenroom.errors import BootFailed
from greenroom.jobs import ipc, programs
from greenroom.jobs.exits import describe

__all__ = ["ENVIRONMENT", "ForkListener", "ForkServer", "delays"]

ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
"""Of the fork server, from before its first import: OpenBLAS starts its threads while numpy is imported."""
PREFERRED = {"TOKIO_WORKER_THREADS": "1", "MALLOC_ARENA_MAX": "2", "RUST_LOG": "off"}
"""What the worker's own environment may say otherwise. LiveKit's client in a call has work for one thread, and wakes
each that it has for every packet: of two, half of the 700 times a second were in vain. The C library would give each of
its ten threads a heap, with gaps of its own. What LiveKit's client does not log through Python it would write to
standard error as it is, tokens included."""
READY_TIMEOUT = 60.0
"""For its imports, on a cold disk."""
FORK_TIMEOUT = 10.0
"""For one fork, which takes about a millisecond; a fork server that needs longer is hung."""
STEADY = 10.0
"""A fork server that lived so long is replaced at once, one that died sooner after a growing delay."""
EXIT_TIMEOUT = 2.0

_MAX_MESSAGE = 65_536
_log = structlog.get_logger(__name__)


def delays(*, first: float = 0.1, last: float = 5.0) -> Iterator[float]:
    """Growing delays with jitter, without end."""
    delay = first
    while True:
        yield delay * random.uniform(0.75, 1.25)
        delay = min(delay * 2, last)


class ForkListener(Protocol):
    """Who asked for a process is told what becomes of it."""

    def forked(self, pid: int, pidfd: int) -> None:
        """It runs; ``pidfd`` is the listener's to close."""
        ...

    def fork_failed(self, error: str) -> None: ...

    def exited(self, code: int) -> None: ...

    def disowned(self) -> None:
        """Its fork server died: nobody collects its exit code any more, only the pidfd tells when it ends."""
        ...


@dataclass(slots=True)
class _Life:
    """One run of the program."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    gone: asyncio.Future[None]
    ready: bool = False
    threaded: bool = False
    replaced: bool = False


class ForkServer:
    """Keeps one fork server running. ``preload`` as ``forkserver`` takes it."""

    def __init__(self, preload: Sequence[str]) -> None:
        self._wanted = list(preload)
        self._preload = list(preload)
        self._life: _Life | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None
        self._closing = False
        self._queued: dict[str, tuple[ipc.Fork, ForkListener]] = {}
        self._asked: dict[str, tuple[ForkListener, asyncio.TimerHandle]] = {}
        self._children: dict[int, ForkListener] = {}

    @property
    def pid(self) -> int | None:
        """Of the one that is ready."""
        return self._life.process.pid if self._life is not None and self._life.ready else None

    async def start(self) -> None:
        """Returns once it can fork. Raises ``BootFailed`` if the first one does not get so far."""
        self._first = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep(), name="fork server")
        await self._first

    def fork(self, request: ipc.Fork, listener: ForkListener) -> None:
        """Ask for a process. The listener hears ``forked`` or ``fork_failed``, later if none is ready now."""
        if self._life is None or not self._life.ready:
            self._queued[request.slot] = (request, listener)
            return
        try:
            self._life.control.send(ipc.pack(request))
        except OSError as error:
            # A full socket: it has not read for hundreds of requests. A broken one is seen by the reader, too.
            asyncio.get_running_loop().call_soon(listener.fork_failed, f"the fork server: {error.strerror}")
            return
        timer = asyncio.get_running_loop().call_later(FORK_TIMEOUT, self._hung)
        self._asked[request.slot] = (listener, timer)

    def preload(self, items: Sequence[str]) -> None:
        """Import these from now on: by a new fork server, if they are others than before. The children go on."""
        if list(items) == self._wanted:
            return
        self._wanted = list(items)
        self._preload = list(items)
        if self._life is not None:
            _log.info("fork server replaced", pid=self._life.process.pid, preload=self._preload)
            self._life.replaced = True
            self._life.ready = False
            with suppress(OSError):
                self._life.control.shutdown(socket.SHUT_WR)
            asyncio.get_running_loop().call_later(EXIT_TIMEOUT, self._life.process.kill)

    def cancel_queued(self) -> None:
        """Fail the requests that wait for a fork server to be ready."""
        queued, self._queued = self._queued, {}
        for _, listener in queued.values():
            listener.fork_failed("the fork server is not there")

    async def aclose(self) -> None:
        """End it. Children that still run are disowned."""
        self._closing = True
        if self._life is not None:
            with suppress(OSError):
                self._life.control.shutdown(socket.SHUT_WR)
            asyncio.get_running_loop().call_later(EXIT_TIMEOUT, self._life.process.kill)
        if self._keeper is not None:
            if self._life is None:
                self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = delays()
        while not self._closing:
            started = loop.time()
            try:
                life = await self._live()
            except OSError as error:
                steady, why = False, f"cannot be run: {error.strerror}"
            else:
                if life.threaded or life.replaced:
                    continue
                steady = life.ready and loop.time() - started >= STEADY
                why = describe(life.process.returncode)
            if self._closing:
                return
            if self._first is not None and not self._first.done():
                self._first.set_exception(BootFailed(f"the fork server did not start: {why}"))
                return
            _log.error("fork server died", exit=why)
            if steady:
                backoff = delays()
            else:
                await asyncio.sleep(next(backoff))

    async def _live(self) -> _Life:
        """Start it and see it to its end."""
        loop = asyncio.get_running_loop()
        process, ours = await programs.start(self._run)
        life = self._life = _Life(process, ours, loop.create_future())
        loop.add_reader(ours.fileno(), self._readable, life)
        limit = loop.call_later(READY_TIMEOUT, self._not_ready, life)
        try:
            if self._closing:
                process.kill()
            await life.gone
        finally:
            limit.cancel()
            self._life = None
            loop.remove_reader(ours.fileno())
            ours.close()
            process.kill()
            await asyncio.shield(asyncio.to_thread(process.wait))
            self._disown()
        return life

    def _run(self, fd: int) -> subprocess.Popen[bytes]:
        # -P: a file in the working directory must not stand in for a module of the standard library.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "greenroom.jobs.forkserver", str(fd), *self._preload],
            env=PREFERRED | os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            pass_fds=(fd,),
            start_new_session=True,
        )

    def _readable(self, life: _Life) -> None:
        """One message, or the end."""
        try:
            data, pidfds, _, _ = socket.recv_fds(life.control, _MAX_MESSAGE, 1, socket.MSG_CMSG_CLOEXEC)
            if data:
                self._heard(life, ipc.unpack_notice(data), pidfds)
                return
        except BlockingIOError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            _log.error("fork server line broken", error=str(error))
        asyncio.get_running_loop().remove_reader(life.control.fileno())
        if not life.gone.done():
            life.gone.set_result(None)

    def _heard(self, life: _Life, notice: ipc.ForkNotice, pidfds: list[int]) -> None:
        match notice:
            case ipc.Preloaded(seconds, failed):
                self._preloaded(life, seconds, failed)
            case ipc.Threaded(module):
                life.threaded = True
                _log.warning("preload starts a thread, left out", module=module)
                self._preload = [item for item in self._preload if item != module]
            case ipc.Forked(slot, pid):
                self._forked(self._answered(slot), pid, pidfds)
            case ipc.ForkFailed(slot, error):
                self._answered(slot).fork_failed(error)
            case ipc.ChildExited(pid, code):
                if pid in self._children:
                    self._children.pop(pid).exited(code)

    def _preloaded(self, life: _Life, seconds: float, failed: dict[str, str]) -> None:
        if life.replaced:
            return
        for item, error in failed.items():
            _log.warning("preload failed", module=item, error=error)
        _log.info("fork server ready", pid=life.process.pid, seconds=round(seconds, 3))
        life.ready = True
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        queued, self._queued = self._queued, {}
        for request, listener in queued.values():
            self.fork(request, listener)

    def _forked(self, listener: ForkListener, pid: int, pidfds: list[int]) -> None:
        if pidfds:
            self._children[pid] = listener
            listener.forked(pid, pidfds[0])
        else:
            # The kernel drops what does not fit: this process may open no more files.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            listener.fork_failed("too many open files")

    def _answered(self, slot: str) -> ForkListener:
        listener, timer = self._asked.pop(slot)
        timer.cancel()
        return listener

    def _hung(self) -> None:
        if self._life is not None:
            _log.error("fork server hung", seconds=FORK_TIMEOUT)
            self._life.process.kill()

    def _not_ready(self, life: _Life) -> None:
        if not life.ready:
            _log.error("fork server not ready", seconds=READY_TIMEOUT)
            life.process.kill()

    def _disown(self) -> None:
        asked, self._asked = self._asked, {}
        children, self._children = self._children, {}
        for listener, timer in asked.values():
            timer.cancel()
            listener.fork_failed("the fork server died")
        for listener in children.values():
            listener.disowned()
