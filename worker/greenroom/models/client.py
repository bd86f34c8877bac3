"""A job's line to the model host: dialled when it is first needed, dialled again when it is lost.

A host that dies is started again by the daemon, or by the next one. Who had asked it for something waits, and is
answered by the new one. What was worked on when a host died may be what it died of, and is asked ``ATTEMPTS`` times at
most. What of a sentence was delivered before is left out of what the new host makes of it.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias, cast

import msgspec
import structlog

from greenroom.errors import ProviderError
from greenroom.models.wire import (
    Ask,
    BadFrame,
    Begun,
    Cancel,
    Done,
    Failed,
    Frames,
    Greeting,
    HostMessage,
    Item,
    Loaded,
    Piece,
    Sound,
    Task,
    Use,
    encode,
)

__all__ = ["HostLink"]

ATTEMPTS = 3
"""How many hosts may die while they work on one request."""
MOST_ASKED = 20
"""How often it is asked in all, where hosts die before they come to it."""
PATIENCE = 15.0
"""Seconds for a host that has died to be there again."""
LOADING = 120.0
"""Seconds for a model to be loaded; the deadline of a process's boot is shorter as a rule."""

Answer: TypeAlias = Begun | Piece | Done | Failed | None
"""What comes for a request; ``None``: the line was lost."""

log = structlog.get_logger(__name__)


def _delays() -> Iterator[float]:
    """Between two attempts to dial: short, as a host that comes back comes back quickly."""
    delay = 0.02
    while True:
        yield delay * random.uniform(0.75, 1.25)
        delay = min(delay * 2, 0.5)


class HostLink:
    """One process's. ``paths``: where the host listens, in the order to be tried.

    It works on whichever loop asks; requests of two loops at once are not foreseen.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)
        self._line: _Line | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dialling: asyncio.Task[_Line] | None = None

    def load(self, use: Use) -> None:
        """Have the host load a model. Blocks, outside of any loop. Raises ``ProviderError``."""
        until = time.monotonic() + LOADING
        for _ in range(ATTEMPTS):
            with _dialled(self._paths, use.plugin) as line:
                line.settimeout(max(until - time.monotonic(), 0.1))
                try:
                    told = _asked(line, use)
                except TimeoutError:
                    raise _unanswered(use, f"has not loaded it within {LOADING:g} s") from None
                except (OSError, BadFrame):
                    continue  # it died
            if told.error:
                raise ProviderError(told.error, provider=use.plugin, retryable=told.retryable)
            return
        raise _unanswered(use, "died each time that it was to load it")

    async def warm_up(self, use: Use) -> None:
        """Dial, and name the model. Raises ``ProviderError``."""
        (await self._connected(use)).number(use)

    async def ask(self, use: Use, task: Task) -> AsyncGenerator[Item, None]:
        """Have something done. Closing the generator has it given up. Raises ``ProviderError``."""
        request = _Request()
        while request.begun < ATTEMPTS and request.asked < MOST_ASKED:
            line = await self._connected(use)
            n, answers = line.ask(use, task, again=request.begun > 0)
            request.again()
            try:
                while (answer := await answers.get()) is not None:
                    match answer:
                        case Begun():
                            request.begun += 1
                        case Done():
                            return
                        case Failed(_, error, retryable):
                            raise ProviderError(error, provider=use.plugin, retryable=retryable)
                        case Piece(_, Sound() as sound):
                            if (rest := request.rest(sound)).pcm:
                                yield rest
                        case Piece(_, item):
                            yield item
            finally:
                line.forget(n)
        raise _unanswered(use, "died each time that it was asked")

    async def aclose(self) -> None:
        """Hang up. What is asked for afterwards dials again."""
        line, dialling, self._line, self._dialling = self._line, self._dialling, None, None
        if self._loop is not asyncio.get_running_loop():
            return
        if dialling is not None:
            dialling.cancel()
            await asyncio.gather(dialling, return_exceptions=True)
            if line is None and not _in_vain(dialling):
                line = dialling.result()  # who asked for it did not wait for it
        if line is not None:
            await line.aclose()

    async def _connected(self, use: Use) -> _Line:
        """The line there is, or a new one. Raises ``ProviderError`` when no host answers."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._line, self._dialling = loop, None, None
        if self._line is not None and not self._line.lost:
            return self._line
        if self._dialling is None or _in_vain(self._dialling):
            self._dialling = loop.create_task(self._dial(), name="dial the model host")
            self._dialling.add_done_callback(_seen)
        try:
            self._line = await asyncio.shield(self._dialling)
        except TimeoutError:
            raise _unanswered(use, f"does not answer for {PATIENCE:g} s", retryable=True) from None
        return self._line

    async def _dial(self) -> _Line:
        """Raises ``TimeoutError``."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            for delay in _delays():
                for path in self._paths:
                    with suppress(OSError):
                        _, line = await loop.create_unix_connection(_Line, path)
                        try:
                            if await line.greeted:
                                return line
                        except BaseException:
                            line.abort()
                            raise
                await asyncio.sleep(delay)
        raise TimeoutError


def _in_vain(dialling: asyncio.Task[_Line]) -> bool:
    """Whether it is over, and there is no line of it."""
    return dialling.done() and (dialling.cancelled() or dialling.exception() is not None or dialling.result().lost)


@dataclass(slots=True)
class _Request:
    """How far one is. ``asked`` and ``begun``: so many times; ``delivered``: bytes of sound, ``skipped``: of those that
    the host makes again."""

    asked: int = 0
    begun: int = 0
    delivered: int = 0
    skipped: int = 0

    def again(self) -> None:
        self.asked += 1
        self.skipped = 0

    def rest(self, sound: Sound) -> Sound:
        """What of it was not delivered before."""
        known = min(self.delivered - self.skipped, len(sound.pcm))
        self.skipped += len(sound.pcm)
        self.delivered = max(self.delivered, self.skipped)
        return Sound(sound.pcm[known:], sound.sample_rate)


class _Line(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.lost = False
        self.greeted: asyncio.Future[bool] = loop.create_future()
        self._gone = asyncio.Event()
        self._frames: Frames[HostMessage] = Frames(HostMessage)
        self._transport: asyncio.Transport | None = None
        self._numbers = count(1)
        self._models: dict[bytes, int] = {}
        self._answers: dict[int, asyncio.Queue[Answer]] = {}

    def number(self, use: Use) -> int:
        """What the host knows this model by; it is told, if it does not."""
        key = msgspec.msgpack.encode((use.kind, use.plugin, use.options), order="deterministic")
        known = self._models.get(key)
        if known is None:
            known = self._models[key] = next(self._numbers)
            self._send(msgspec.structs.replace(use, model=known))
        return known

    def ask(self, use: Use, task: Task, *, again: bool) -> tuple[int, asyncio.Queue[Answer]]:
        n, model = next(self._numbers), self.number(use)
        answers = self._answers[n] = asyncio.Queue()
        if self.lost:
            answers.put_nowait(None)
        self._send(Ask(n, model, task, again))
        return n, answers

    def forget(self, n: int) -> None:
        """Take no more answers to it; one that is not over is given up."""
        if self._answers.pop(n, None) is not None:
            self._send(Cancel(n))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def aclose(self) -> None:
        self.abort()
        await self._gone.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._frames.feed(data)
        except BadFrame as error:
            log.warning("line broken", error=str(error))
            self.abort()
            return
        for message in messages:
            self._heard(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost, self._transport = True, None
        if self._answers:
            log.warning("model host lost, asking again", requests=len(self._answers))
        if not self.greeted.done():
            self.greeted.set_result(False)
        for answers in self._answers.values():
            answers.put_nowait(None)
        self._gone.set()

    def _heard(self, message: HostMessage) -> None:
        match message:
            case Greeting():
                if not self.greeted.done():
                    self.greeted.set_result(True)
            case Loaded(model, error):
                if error:
                    # The next request names it again, and has it tried again.
                    self._models = {key: number for key, number in self._models.items() if number != model}
            case Piece(n) | Begun(n):
                if n in self._answers:
                    self._answers[n].put_nowait(message)
            case Done(n) | Failed(n):
                answers = self._answers.pop(n, None)
                if answers is not None:
                    answers.put_nowait(message)

    def _send(self, message: Use | Ask | Cancel) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(message))


# --- outside of any loop ----------------------------------------------------------------------------------------------


def _dialled(paths: Sequence[str], plugin: str) -> socket.socket:
    """Raises ``ProviderError`` when nobody listens."""
    until = time.monotonic() + PATIENCE
    for delay in _delays():
        for path in paths:
            line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                line.connect(path)
            except OSError:
                line.close()
            else:
                return line
        if time.monotonic() + delay > until:
            break
        time.sleep(delay)
    raise ProviderError(f"the model host does not answer for {PATIENCE:g} s", provider=plugin, retryable=True)


def _asked(line: socket.socket, use: Use) -> Loaded:
    """What the host says of a model. Raises ``OSError`` when it dies."""
    frames: Frames[HostMessage] = Frames(HostMessage)
    line.sendall(encode(use))
    while data := line.recv(65_536):
        for message in frames.feed(data):
            if isinstance(message, Loaded):
                return message
    raise ConnectionResetError


def _unanswered(use: Use, what: str, *, retryable: bool = False) -> ProviderError:
    return ProviderError(f"the model host {what}", provider=use.plugin, retryable=retryable)


def _seen(task: asyncio.Task[_Line]) -> None:
    if not task.cancelled():
        task.exception()
