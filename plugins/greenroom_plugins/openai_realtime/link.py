"""The connection: made, made again when it fails, written to in order and never waited for."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

import structlog

from greenroom.errors import ProviderError
from greenroom.redaction import redact
from greenroom_plugins.openai_realtime.options import NAME, OpenAIRealtimeOptions
from greenroom_plugins.openai_realtime.wire import (
    RATE,
    ErrorEvent,
    Fault,
    Malformed,
    Outgoing,
    ServerEvent,
    SessionCreated,
    SessionUpdated,
    decode,
    encode,
)
from greenroom_plugins.remote.websocket import Address, Ended, WebSocket

__all__ = ["Link", "Owner", "failure_of"]

log = structlog.get_logger(__name__)

HEARTBEAT = 10.0
"""Seconds between pings; without an answer for half of it the connection is lost."""
BACKLOG = 10.0
"""Seconds of audio that may wait for a server that takes nothing; with more the connection is no good."""
TAKING = 5.0
"""Seconds in which a server has to take what it is sent."""
FATAL_DELAY = 5.0
"""Seconds before a server that refused us is asked again."""
LONGEST = 30.0
"""Seconds for which a server may ask us to stay away."""
NONSENSE = 3
"""Events in a row that nobody understands: a server that says so much of it is not well."""
BROKEN = 1006
"""The code of a connection that ended without a word."""
_APPENDED = 4 / 3 * 2 * RATE
"""Characters of base64 in a second of audio."""
_LATER = frozenset({"rate_limit_exceeded", "server_error", "session_expired", "server_overloaded"})
_NEVER = frozenset({"insufficient_quota", "invalid_api_key", "invalid_request_error", "model_not_found"})


class Owner(Protocol):
    """Who the connection is for."""

    def opened(self) -> None:
        """The server listens and knows nothing: what is sent now comes first."""

    def received(self, event: ServerEvent) -> None: ...

    def lost(self, error: ProviderError) -> None:
        """It was open and is not any more, or it cannot be made. It is tried again in any case."""


class Link:
    """A connection for as long as ``run`` runs."""

    def __init__(self, options: OpenAIRealtimeOptions, owner: Owner) -> None:
        self.open = False
        self._options = options
        self._owner = owner
        self._queue: deque[str] = deque()
        self._queued = 0
        self._loop = asyncio.get_running_loop()
        self._sending = 0.0
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._dropped: ProviderError | None = None
        self._dropping = asyncio.Event()
        self._refusal: ProviderError | None = None
        self._said: Fault | None = None
        self._proven = False
        self._nonsense = 0

    async def run(self) -> None:
        """Be connected, until cancelled."""
        try:
            await self._keep()
        finally:
            self.open = False
            self._refusal = ProviderError("the conversation was closed", provider=NAME)
            self._changed.set()

    async def _keep(self) -> None:
        delays = backoff()
        while True:
            error = await self._connection()
            if self._proven:
                delays = backoff()
            delay = max(next(delays) if error.retryable else FATAL_DELAY, min(error.retry_after or 0.0, LONGEST))
            done = f"connecting again in {delay:.1f} s"
            log.warning("provider failed", provider=NAME, kind="realtime", error=str(error), done=done)
            await asyncio.sleep(delay)

    def send(self, events: Iterable[Outgoing]) -> None:
        """Say this, after what was to be said before. Nothing, while not connected."""
        if not self.open:
            return
        for event in events:
            text = encode(event)
            self._queue.append(text)
            self._queued += len(text)
        if self._queued > BACKLOG * _APPENDED and self._loop.time() - self._sending > TAKING:
            self.drop("takes no more audio")
        self._wake.set()

    def drop(self, reason: str) -> None:
        """Give this connection up, and make another."""
        if self.open and self._dropped is None:
            self._dropped = ProviderError(f"the server {reason}", provider=NAME, retryable=True)
            self._dropping.set()

    async def wait_open(self, timeout: float) -> None:
        """Return once it is open. Raises ``ProviderError``: at once where the server refuses us."""
        try:
            async with asyncio.timeout(timeout):
                while not self.open:
                    if self._refusal is not None and not self._refusal.retryable:
                        raise self._refusal
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise self._refusal or ProviderError(
                f"no connection within {timeout:g} s", provider=NAME, retryable=True
            ) from None

    # --- one connection ---------------------------------------------------------------------------------------------

    async def _connection(self) -> ProviderError:
        """One connection, from dialling to its end; why it ended."""
        self._proven, self._dropped, self._said, self._nonsense = False, None, None, 0
        self._dropping.clear()
        try:
            socket = await WebSocket.connect(address(self._options))
            try:
                error = await self._greeted(socket) or await self._talk(socket)
            finally:
                await socket.aclose()
        except ProviderError as failure:
            error = failure
        self._leave(error)
        return error

    async def _greeted(self, socket: WebSocket) -> ProviderError | None:
        """Wait for the server's first words; what is wrong, if something is."""
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                while True:
                    event = self._decoded(await socket.receive())
                    if isinstance(event, ErrorEvent):
                        return failure_of(event.error)
                    if isinstance(event, SessionCreated):
                        return None
        except TimeoutError:
            return ProviderError("the server does not answer", provider=NAME, retryable=True)
        except Ended as ended:
            return self._over(ended)

    def _enter(self) -> None:
        self.open, self._refusal = True, None
        self._queue.clear()
        self._queued, self._sending = 0, self._loop.time()
        self._owner.opened()
        self._changed.set()

    def _leave(self, error: ProviderError) -> None:
        """The connection is over, or came to nothing."""
        known = self._refusal
        self.open, self._refusal = False, error
        self._changed.set()
        if known is None or (known.retryable and not error.retryable):  # once for each time that it is away
            self._owner.lost(error)

    async def _talk(self, socket: WebSocket) -> ProviderError:
        """Both directions, until one of them ends or the connection is given up; why it ended."""
        self._enter()
        reading, writing = asyncio.create_task(self._read(socket)), asyncio.create_task(self._write(socket))
        ways = (reading, writing, asyncio.create_task(self._dropping.wait()))
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            ended = await asyncio.gather(reading, writing, ways[2], return_exceptions=True)
        for reason in (self._dropped, *ended):
            if isinstance(reason, ProviderError):
                return reason
        raise next(failure for failure in ended if isinstance(failure, Exception))

    async def _read(self, socket: WebSocket) -> ProviderError:
        try:
            while True:
                event = self._decoded(await socket.receive())
                if isinstance(event, SessionUpdated):
                    self._proven = True
                self._said = event.error if isinstance(event, ErrorEvent) else None
                if event is not None:
                    self._owner.received(event)
        except Ended as ended:
            return self._over(ended)

    async def _write(self, socket: WebSocket) -> ProviderError:
        try:
            while True:
                while self._queue:
                    text = self._queue.popleft()
                    self._queued -= len(text)
                    self._sending = self._loop.time()
                    await socket.send(text)
                self._wake.clear()
                await self._wake.wait()
        except Ended as ended:
            return self._over(ended)

    def _over(self, ended: Ended) -> ProviderError:
        """Why, if the server's last word was what is wrong."""
        if self._said is not None:
            return failure_of(self._said)
        how = "the connection broke" if ended.code == BROKEN else f"the server hung up ({ended})"
        return ProviderError(redact(how), provider=NAME, retryable=True)

    def _decoded(self, data: str | bytes) -> ServerEvent | None:
        """Raises ``ProviderError`` for the last of so much nonsense that the server is not well."""
        try:
            event = decode(data)
        except Malformed as error:
            self._nonsense += 1
            found = redact(str(error))
            log.warning("event not understood", provider=NAME, error=found, size=len(data))
            if self._nonsense < NONSENSE:
                return None
            raise ProviderError(f"it says what is not its protocol: {found}", provider=NAME, retryable=True) from None
        self._nonsense = 0
        return event


def address(options: OpenAIRealtimeOptions) -> Address:
    """Where the model is, and what opens the door."""
    parts = urlsplit(options.url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path if parts.path.endswith("/realtime") else f"{parts.path}/realtime"
    asked = "" if "model=" in parts.query else urlencode({"model": options.model})
    url = urlunsplit((scheme, parts.netloc, path, "&".join(filter(None, (parts.query, asked))), ""))
    headers = dict(options.headers)
    if options.key:
        headers.setdefault("Authorization", f"Bearer {options.key}")
    return Address(url, NAME, headers=headers, secret=options.key, within=options.connect_timeout, heartbeat=HEARTBEAT)


def backoff(*, first: float = 0.1, most: float = 8.0) -> Iterator[float]:
    """Seconds to wait before each attempt: at once, then longer each time, by chance."""
    delay = first
    yield random.uniform(0, first)
    while True:
        yield random.uniform(delay / 2, delay)
        delay = min(2 * delay, most)


def failure_of(fault: Fault) -> ProviderError:
    """What the server says went wrong."""
    words = {fault.code, fault.type}
    message = redact(fault.message or fault.code or fault.type or "it failed")
    retryable = bool(words & _LATER) or not words & _NEVER
    return ProviderError(message, provider=NAME, retryable=retryable and "insufficient_quota" not in words)
