"""The model host: a process that has loaded what all calls of a worker use, and answers their requests.

Run as ``python -m greenroom.models.host CONTROL LISTENING`` by ``keeper.ModelHost``: two descriptors, its end of a
socket pair with the daemon, and the unix socket that jobs dial. Rules:

- It outlives its daemon, as calls do: when the other end of ``CONTROL`` closes it goes on for those who are connected,
  and ends when there has been nobody for ``LINGER`` seconds.
- A caller that does not read what it asked for is hung up on; it never holds up another one.
- A plugin that raises fails the request that it was asked for, and nothing else.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import cast

import structlog

from greenroom.errors import ProviderError
from greenroom.models.sharing import by_plugin
from greenroom.models.shelf import Model, NotLoaded, Result, Shelf, Work
from greenroom.models.wire import (
    MAX_NOTICE,
    Ask,
    BadFrame,
    Begun,
    Cancel,
    ClientMessage,
    Counted,
    Done,
    Failed,
    Frames,
    Greeting,
    Holding,
    HostMessage,
    HostNotice,
    Keep,
    Loaded,
    Piece,
    Ping,
    Pong,
    Unneeded,
    Use,
    encode,
    pack,
    unpack_order,
)
from greenroom.models.work import SHAREABLE
from greenroom.ops.logs import configure
from greenroom.unixsocket import serve
from greenroom.version import __version__

__all__ = ["LINGER", "Host", "main", "threads_for"]

LINGER = 5.0
"""Seconds without a daemon and without callers, after which it ends."""
TELLING = 1.0
"""Seconds between two messages of what was done."""
MOST_UNREAD = 16 * 1024 * 1024
"""Bytes that wait for a caller to read them."""
MOST_AT_ONCE = 4
"""Requests that one model works on at once, where the settings do not say: each needs memory of its own."""

_CREDENTIALS = struct.Struct("3i")
log = structlog.get_logger(__name__)


def threads_for(asked: int) -> int:
    """How many requests one model is to work on at once. Two at least, so that a long one is not all that goes on."""
    return asked or max(2, min(len(os.sched_getaffinity(0)), MOST_AT_ONCE))


class Caller(asyncio.Protocol):
    """One process that dialled."""

    def __init__(self, host: Host, number: int) -> None:
        self.number = number
        self._host = host
        self._frames: Frames[ClientMessage] = Frames(ClientMessage)
        self._transport: asyncio.Transport | None = None
        self._models: dict[int, Model] = {}
        self._works: dict[int, tuple[Model, Work]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not _is_ours(self._transport):
            log.warning("stranger on the model host's socket")
            self._transport.abort()
            return
        self._host.came(self)
        self.send(Greeting(__version__))

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._frames.feed(data)
        except BadFrame as error:
            log.warning("line broken", error=str(error))
            self.hang_up()
            return
        for message in messages:
            match message:
                case Use():
                    self._use(message)
                case Ask():
                    self._ask(message)
                case Cancel(n):
                    self._cancel(n)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for n in list(self._works):
            self._cancel(n)
        self._host.went(self)

    def send(self, message: HostMessage) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(encode(message))
        if self._transport.get_write_buffer_size() > MOST_UNREAD:
            log.warning("caller does not read", bytes=self._transport.get_write_buffer_size())
            self.hang_up()

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _use(self, use: Use) -> None:
        try:
            model = self._models[use.model] = self._host.shelf.use(use, user=self)
        except NotLoaded as error:
            self.send(Loaded(use.model, _words(error)))
            return
        model.loaded.add_done_callback(lambda loaded: self.send(_loaded(use.model, loaded)))

    def _ask(self, ask: Ask) -> None:
        model = self._models.get(ask.model)
        failure = None if model is None or not model.loaded.done() else model.loaded.exception()
        if model is None:
            self.send(Failed(ask.n, "a model that was not asked for"))
        elif isinstance(failure, NotLoaded):
            self.send(Failed(ask.n, _words(failure), failure.retryable))
        elif ask.n not in self._works:
            work = self._host.shelf.work(
                ask.task, caller=self.number, again=ask.again, tell=lambda result: self._tell(ask.n, result)
            )
            self._works[ask.n] = (model, work)
            model.put(work)
            model.loaded.add_done_callback(lambda loaded: self._fail(ask.n, loaded))

    def _fail(self, n: int, loaded: asyncio.Future[None]) -> None:
        """What was asked of a model before it turned out that there is none."""
        error = loaded.exception()
        if n in self._works and isinstance(error, NotLoaded):
            self._tell(n, error)

    def _tell(self, n: int, result: Result) -> None:
        if result is None or isinstance(result, ProviderError):
            self._works.pop(n, None)
        match result:
            case None:
                self.send(Done(n))
            case "begun":
                self.send(Begun(n))
            case ProviderError():
                self.send(Failed(n, _words(result), result.retryable))
            case _:
                self.send(Piece(n, result))

    def _cancel(self, n: int) -> None:
        entry = self._works.pop(n, None)
        if entry is not None:
            model, work = entry
            model.drop(work)


class Host:
    """The whole process. ``control`` and ``listening`` are non-blocking. ``logs``: sets this process's logs up."""

    def __init__(
        self, control: socket.socket, listening: socket.socket, *, logs: Callable[..., None] = configure
    ) -> None:
        self._logs = logs
        self.shelf = Shelf(changed=self._changed)
        self._control = control
        self._listening = listening
        self._loop = asyncio.get_running_loop()
        self._callers: set[Caller] = set()
        self._numbers = count(1)
        self._over = asyncio.Event()
        self._orphaned = False
        self._unneeded = False
        self._leaving: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._told: HostNotice | None = None

    async def run(self) -> None:
        """Until nobody needs it."""
        self._loop.add_reader(self._control.fileno(), self._readable)
        server = await serve(lambda: Caller(self, next(self._numbers)), self._listening)
        try:
            await self._over.wait()
        finally:
            server.close()
            self._loop.remove_reader(self._control.fileno())
            for caller in list(self._callers):
                caller.hang_up()
            for timer in (self._leaving, self._telling):
                if timer is not None:
                    timer.cancel()
            await self.shelf.aclose()

    # --- callers ------------------------------------------------------------------------------------------------------

    def came(self, caller: Caller) -> None:
        self._callers.add(caller)
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def went(self, caller: Caller) -> None:
        self._callers.discard(caller)
        self.shelf.leave(caller)
        self._consider_leaving()

    def _consider_leaving(self) -> None:
        if (self._orphaned or self._unneeded) and not self._callers and self._leaving is None:
            self._leaving = self._loop.call_later(LINGER, self._leave)

    def _leave(self) -> None:
        self._say(Unneeded())
        self._over.set()

    # --- the daemon ---------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = self._control.recv(MAX_NOTICE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._control.fileno())
            self._orphaned = True
            self._consider_leaving()
            return
        match unpack_order(data):
            case Keep() as keep:
                self._keep(keep)
            case Ping(n):
                self._say(Pong(n))

    def _keep(self, keep: Keep) -> None:
        self._logs(keep.level, keep.format, pid=os.getpid(), process="model host")
        self.shelf.threads = threads_for(keep.threads)
        uses = [
            Use(0, each.kind, each.plugin, each.options)
            for each in keep.models
            if each.kind in SHAREABLE and (each.always or by_plugin(each.kind, each.plugin))
        ]
        self._unneeded = not uses
        if self._unneeded and not self._callers:
            self._leave()
            return
        self.shelf.keep(uses)

    def _changed(self) -> None:
        notice = Holding(self.shelf.held(), self.shelf.ready)
        if notice != self._told:
            self._told = notice
            self._say(notice)
        if self._telling is None:
            self._telling = self._loop.call_later(TELLING, self._tell)

    def _tell(self) -> None:
        """What was done, while somebody is here to do it for."""
        tally = self.shelf.tally
        if tally.requests or tally.seconds:
            requests = tuple((*key, number) for key, number in tally.requests.items())
            # A part at a time: a message has to fit into the socket.
            self._say(Counted(requests, tuple(tally.seconds[:500])))
            tally.requests.clear()
            del tally.seconds[:500]
        self._telling = self._loop.call_later(TELLING, self._tell) if self._callers or tally.seconds else None

    def _say(self, notice: HostNotice) -> None:
        if not self._orphaned:
            with suppress(OSError):  # it has gone, which the reader sees, or does not read
                self._control.send(pack(notice))


def _loaded(model: int, loaded: asyncio.Future[None]) -> Loaded:
    error = loaded.exception()
    if isinstance(error, NotLoaded):
        return Loaded(model, _words(error), error.retryable)
    return Loaded(model)


def _words(error: ProviderError) -> str:
    """Without the provider's name, which the caller puts before them again."""
    return str(error).removeprefix(f"{error.provider}: ")


def _is_ours(transport: asyncio.Transport) -> bool:
    """Whether a process of this user is at the other end."""
    end = transport.get_extra_info("socket")
    _, uid, _ = _CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return bool(uid == os.geteuid())


def main(arguments: list[str]) -> int:
    """Serve until nobody needs it."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    # The daemon ends it when no call is left: a signal to the whole group must not come first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        Path("/proc/self/comm").write_text("greenroom-model")
    configure()
    control, listening = (socket.socket(fileno=int(fd)) for fd in arguments)
    for one in (control, listening):
        one.setblocking(False)
        one.set_inheritable(False)

    async def serve() -> None:
        await Host(control, listening).run()

    # Not asyncio.run: it would wait at its end for every thread that a model left in the middle of something.
    loop = asyncio.new_event_loop()
    loop.run_until_complete(serve())
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
