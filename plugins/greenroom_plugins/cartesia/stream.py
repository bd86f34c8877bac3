"""The websocket around ``Voicing``."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing, suppress

import structlog

from greenroom.errors import ProviderError
from greenroom.providers import TTS, SynthesizedAudio
from greenroom.providers.sentences import sentences, speakable
from greenroom.providers.tts import SENTENCE_BEGUN
from greenroom_plugins.cartesia.options import NAME, CartesiaOptions
from greenroom_plugins.cartesia.voicing import Voicing
from greenroom_plugins.cartesia.wire import Chunk, Done, Failure, Malformed, Timestamps, cancel, decode, say
from greenroom_plugins.remote.failure import refusal
from greenroom_plugins.remote.websocket import Address, Ended, WebSocket

__all__ = ["CartesiaTTS"]

log = structlog.get_logger(__name__)

PAUSE = 0.5
"""Seconds without text after which a context is finished: Cartesia forgets one that waits for longer than a second."""
UNSPOKEN = 1000
"""Characters that Cartesia has been sent and not spoken, beyond which it is sent no more."""
SOUNDLESS = 3.0
"""Seconds of nothing at the beginning of a speech that are taken for a fault."""
_KEPT = 2  # connections
_FAREWELL = 0.1  # seconds that telling Cartesia to stop may take


class CartesiaTTS(TTS):
    """One voice. Each speech has a connection to itself while it lasts, and leaves it to the next."""

    def __init__(self, options: CartesiaOptions) -> None:
        self._options = options
        self.sample_rate = options.sample_rate
        self._kept: list[tuple[WebSocket, asyncio.AbstractEventLoop, float]] = []

    async def warm_up(self) -> None:
        socket, _ = await self.connection()
        await self._keep(socket)

    async def aclose(self) -> None:
        kept, self._kept = self._kept, []
        for socket, loop, _ in kept:
            if loop is asyncio.get_running_loop():
                await socket.aclose()

    async def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        speech = _Speech(self._options, self)
        writing = asyncio.create_task(speech.write(text), name="cartesia")
        writing.add_done_callback(lambda _: speech.written())
        said = False
        try:
            while (pieces := await speech.read(writing)) is not None:
                for piece in pieces:
                    yield piece
            for piece in speech.voicing.end():
                yield piece
            said = True
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await self._leave(speech, said=said)

    async def fresh(self) -> WebSocket:
        """A connection that was not used before."""
        return await WebSocket.connect(
            Address(
                self._options.url,
                NAME,
                headers={"X-API-Key": self._options.key},
                secret=self._options.key,
                within=self._options.connect_timeout,
            )
        )

    async def connection(self) -> tuple[WebSocket, bool]:
        """A connection, and whether it was used before."""
        loop = asyncio.get_running_loop()
        while self._kept:
            socket, its_loop, since = self._kept.pop()
            if its_loop is not loop:
                continue
            if not socket.closed and loop.time() < since + self._options.keep:
                return socket, True
            await socket.aclose()
        return await self.fresh(), False

    async def _keep(self, socket: WebSocket) -> None:
        loop = asyncio.get_running_loop()
        if self._options.keep > 0 and len(self._kept) < _KEPT:
            self._kept.append((socket, loop, loop.time()))
        else:
            await socket.aclose()

    async def _leave(self, speech: _Speech, *, said: bool) -> None:
        """Let go of a speech's connection: to the next, where nothing is wrong with it."""
        socket = speech.socket
        if socket is None:
            return
        well = said
        if not said and not speech.failed:
            with suppress(Ended, TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    if speech.context:
                        await socket.send(cancel(speech.context))
                well = True
        if well:
            await self._keep(socket)
        else:
            await socket.aclose()


class _Speech:
    """One speech: a task writes sentences to Cartesia, whoever iterates reads what it says.

    ``context``: the one that is open, or waits for its end; a pause in the text ends one, and the next sentence begins
    another.
    """

    def __init__(self, options: CartesiaOptions, tts: CartesiaTTS) -> None:
        self._options = options
        self._tts = tts
        self._request = options.request
        self._said: list[str] = []
        self._sending = asyncio.Lock()
        self._ended = asyncio.Event()
        self._spoken = asyncio.Event()
        self._idle = False
        self._finished = False
        self._sounds = 0
        self._owing = False
        self._active = self._heard = _now()
        self._reused = False
        self.voicing = Voicing(options.sample_rate, timestamps=options.timestamps)
        self._changed = asyncio.Event()
        self._waiting: asyncio.Timeout | None = None
        self.socket: WebSocket | None = None
        self.context = ""
        self.failed = False

    # --- writing ----------------------------------------------------------------------------------------------------

    async def write(self, text: AsyncIterable[str]) -> None:
        """Send the text sentence by sentence, no further ahead of what is spoken than is useful."""
        options = self._options
        async with aclosing(sentences(text, first_clause=options.first_clause, language=options.language)) as pieces:
            while (piece := await self._next(pieces)) is not None:
                self.voicing.labels.write(piece)
                if not speakable(piece):
                    continue
                if (told := SENTENCE_BEGUN.get(None)) is not None:
                    told()
                await self._room()
                await self._begin()
                await self._send(say(piece, context=self.context, request=self._request, more=True))
        await self._finish()

    async def _next(self, pieces: AsyncGenerator[str, None]) -> str | None:
        """The next sentence; a context that has to wait for it for long is finished."""
        reading = asyncio.ensure_future(_first(pieces))
        try:
            if self.context and not (await asyncio.wait({reading}, timeout=PAUSE))[0]:
                await self._finish()
            return await reading
        finally:
            if not reading.done():
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _room(self) -> None:
        while self.voicing.labels.pending > UNSPOKEN and not self._idle:
            self._spoken.clear()
            await self._spoken.wait()
        self._idle = False

    async def _begin(self) -> None:
        """Have a context that takes text."""
        while self.context and self._finished:
            self._ended.clear()
            await self._ended.wait()
        if self.context:
            return
        if self.socket is None:
            self.socket, self._reused = await self._tts.connection()
        self.voicing.begin()
        self._said.clear()
        self._finished, self._sounds = False, 0
        self.context = uuid.uuid4().hex
        self._changed.set()

    async def _finish(self) -> None:
        if self.context and not self._finished:
            self._finished = True
            await self._send(say("", context=self.context, request=self._request, more=False))

    async def _send(self, message: str) -> None:
        async with self._sending:
            self._said.append(message)
            self._owing, self._active = True, _now()
            if self.socket is not None:
                await self._hand_over(self.socket, message)

    async def _hand_over(self, socket: WebSocket, message: str) -> None:
        try:
            async with asyncio.timeout(self._options.patience):
                await socket.send(message)
        except TimeoutError:
            raise self._fault("it takes no more text") from None
        except Ended:
            log.debug("the connection has ended")  # who reads from it learns so, and why

    def written(self) -> None:
        """All has been written, or it failed: who listens looks."""
        self._changed.set()
        if self._waiting is not None:
            self._waiting.reschedule(0)

    # --- reading ----------------------------------------------------------------------------------------------------

    async def read(self, writing: asyncio.Task[None]) -> list[SynthesizedAudio] | None:
        """What is to be heard next; nothing, where something has come that is not heard. ``None`` at the end."""
        self._active = max(self._active, _now())  # who listens may have been away
        while True:
            if writing.done():
                writing.result()
            if self.context:
                return await self._listen(writing)
            if writing.done():
                return None
            self._changed.clear()
            await self._changed.wait()

    async def _listen(self, writing: asyncio.Task[None]) -> list[SynthesizedAudio]:
        socket, tick = self.socket, self._options.patience / 4
        if socket is None:
            return []
        due = self.voicing.due()
        while not writing.done() or writing.exception() is None:
            wait = tick if due is None else min(tick, max(0.0, due - _now()))
            try:
                async with asyncio.timeout(wait) as self._waiting:
                    message = decode(await socket.receive())
            except TimeoutError:
                if not self._owing and _now() >= self._heard + tick:
                    self._make_room()
                if due is not None and _now() >= due:
                    return self.voicing.release(now=_now())
                if self._owing and _now() >= self._active + self._options.patience:
                    raise self._fault(f"nothing came for {self._options.patience:g} s") from None
            except Malformed as error:
                raise self._fault(f"it says what is not its protocol: {error}") from None
            except Ended as end:
                await self._replace(end)
                return []
            else:
                self._active = self._heard = _now()
                return self._take(message)
            finally:
                self._waiting = None
        return []

    async def _replace(self, end: Ended) -> None:
        """A connection that was kept may have ended meanwhile: say all once more on a new one. Else it is a failure."""
        if not self._reused:
            raise self._fault(f"the connection ended ({end})")
        self._reused = False
        async with self._sending:
            old, self.socket = self.socket, None
            if old is not None:
                await old.aclose()
            self.socket = await self._tts.fresh()
            for message in self._said:
                await self._hand_over(self.socket, message)
            self._active = _now()

    def _take(self, message: Chunk | Timestamps | Done | Failure | None) -> list[SynthesizedAudio]:
        if message is None or (message.context_id or self.context) != self.context:
            return []  # what is left of a speech that was cancelled
        self._reused = False
        now = _now()
        self._spoken.set()
        if isinstance(message, Failure):
            self.failed = True
            raise refusal(message.status_code, message.said, provider=NAME, secret=self._options.key)
        if isinstance(message, Timestamps):
            told = message.word_timestamps
            return self.voicing.name(told.words, told.start, told.end, now=now)
        if isinstance(message, Done):
            return self._over(now)
        try:
            pcm = message.pcm
        except Malformed as error:
            raise self._fault(f"it says what is not its protocol: {error}") from None
        self._owing = self._finished
        self._sounds += len(pcm)
        pieces = self.voicing.add(pcm, now=now)
        if not self.voicing.sounded and self.voicing.soundless >= SOUNDLESS:
            raise self._fault(f"{self.voicing.soundless:.1f} s of silence came instead of a voice")
        return pieces

    def _make_room(self) -> None:
        """All that was sent has been spoken, named or not: more can be sent."""
        self._idle = True
        self._spoken.set()

    def _over(self, now: float) -> list[SynthesizedAudio]:
        """The context has ended."""
        self.context, self._owing, self._finished = "", False, True
        self._ended.set()
        self._make_room()
        if not self._sounds or not self.voicing.sounded:
            raise self._fault("it made no sound of the text")
        return self.voicing.release(now=now, everything=True)

    def _fault(self, told: str) -> ProviderError:
        self.failed = True
        return ProviderError(told, provider=NAME, retryable=True)


async def _first(pieces: AsyncGenerator[str, None]) -> str | None:
    return await anext(pieces, None)


def _now() -> float:
    return asyncio.get_running_loop().time()
