"""The websocket around ``Utterances``."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable

import structlog

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.providers import STT, STTStream, Transcript
from greenroom_plugins.deepgram.options import NAME, DeepgramOptions
from greenroom_plugins.deepgram.utterances import Utterances
from greenroom_plugins.deepgram.wire import CLOSE, KEEP_ALIVE, Failure, Malformed, decode
from greenroom_plugins.remote.failure import without
from greenroom_plugins.remote.websocket import Address, Ended, WebSocket

__all__ = ["DeepgramSTT", "Stream"]

log = structlog.get_logger(__name__)

KEEP = 4.0
"""Seconds without audio after which the connection is told to stay; Deepgram closes it after 10."""
_PING = 20.0  # seconds; finds a connection that is dead without having ended
_POLICY = 1008  # the close code for audio that Deepgram cannot read


class DeepgramSTT(STT):
    """Deepgram's live transcription: one connection for each stream."""

    def __init__(self, options: DeepgramOptions) -> None:
        self._options = options
        self.sample_rate = options.sample_rate

    def stream(self) -> STTStream:
        return Stream(self._options)

    async def warm_up(self) -> None:
        """Nothing to keep: a stream connects as soon as it is listened to. Only tells whether Deepgram is there."""
        socket = await WebSocket.connect(_address(self._options))
        try:
            await socket.send(CLOSE)
        except Ended:
            pass  # it was there
        finally:
            await socket.aclose()


def _address(options: DeepgramOptions) -> Address:
    return Address(
        options.url,
        NAME,
        headers={"Authorization": f"Token {options.key}"},
        secret=options.key,
        within=options.connect_timeout,
        explained=("dg-error",),
        heartbeat=_PING,
    )


class Stream(STTStream):
    """A task connects, sends what is due and hands on what is heard; who iterates reads that.

    The task ends with a failure, which is raised to the reader, and begins anew when the reader goes on.
    """

    def __init__(self, options: DeepgramOptions) -> None:
        self._options = options
        self._utterances = Utterances(
            sample_rate=options.sample_rate,
            mode=options.utterances,
            patience=options.patience,
            interim=options.interim,
            language="" if options.language == "multi" else options.language,
        )
        self._heard: deque[Transcript] = deque()
        self._failure: BaseException | None = None
        self._news = asyncio.Event()
        self._wake = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    # --- the session's side -----------------------------------------------------------------------------------------

    def push(self, frame: AudioFrame) -> None:
        self._utterances.push(frame.pcm.tobytes(), at=frame.at)
        if self._utterances.waiting:
            self._wake.set()

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        self.tell(self._utterances.begin(utterance, at=at, now=_now()))
        self._wake.set()

    def end_of_speech(self, utterance: str) -> None:
        self.tell(self._utterances.end(utterance, now=_now()))
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        while not self._closed:
            if self._heard:
                yield self._heard.popleft()
            elif self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            else:
                if self._running is None:
                    self._running = asyncio.create_task(self._run(), name="deepgram")
                    self._running.add_done_callback(self._over)
                self._news.clear()
                await self._news.wait()

    async def aclose(self) -> None:
        self._closed = True
        self._heard.clear()
        self._news.set()
        if (running := self._running) is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def tell(self, transcripts: Iterable[Transcript]) -> None:
        """Hand on what was heard; interim words that nobody has read yet give way to later ones."""
        for transcript in transcripts:
            last = self._heard[-1] if self._heard else None
            if last is not None and not last.final and last.utterance == transcript.utterance:
                self._heard.pop()
            self._heard.append(transcript)
        self._news.set()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._running = None
        if not task.cancelled():
            self._failure = task.exception()
            self._news.set()

    # --- Deepgram's side --------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            socket = await WebSocket.connect(_address(self._options))
            try:
                self.tell(self._utterances.connected(now=_now()))
                await self._converse(socket)
            except Ended as end:
                if self._utterances.owing:
                    raise _ended(end, self._options.key) from None
                log.debug("deepgram ended a connection that nobody used", code=end.code)
            finally:
                self._utterances.disconnected()
                await socket.aclose()
            while not self._utterances.waiting:
                self._wake.clear()
                await self._wake.wait()

    async def _converse(self, socket: WebSocket) -> None:
        """Send and listen until one of them fails."""
        tasks = [asyncio.create_task(self._send(socket)), asyncio.create_task(self._listen(socket))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, socket: WebSocket) -> None:
        sent = _now()
        while True:
            self._wake.clear()
            while (message := self._utterances.take(now=_now())) is not None:
                await self._hand_over(socket, message)
                sent = _now()
            if _now() >= sent + KEEP:
                await self._hand_over(socket, KEEP_ALIVE)
                sent = _now()
            deadline = self._utterances.deadline()
            try:
                async with asyncio.timeout_at(min(sent + KEEP, deadline if deadline is not None else sent + KEEP)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            told, dead = self._utterances.expire(now=_now())
            self.tell(told)
            if dead:
                raise _failed("it was sent audio and says nothing")

    async def _hand_over(self, socket: WebSocket, message: str | bytes) -> None:
        try:
            async with asyncio.timeout(self._options.patience):
                await socket.send(message)
        except TimeoutError:
            raise _failed("it takes no more audio") from None

    async def _listen(self, socket: WebSocket) -> None:
        while True:
            try:
                message = decode(await socket.receive())
            except Malformed as error:
                raise _failed(f"it says what is not its protocol: {error}") from None
            if isinstance(message, Failure):
                said = message.description or message.message or message.variant
                raise _failed(f"it fails: {without(self._options.key, said)}")
            if message is not None:
                self.tell(self._utterances.heard(message, now=_now()))
                self._wake.set()  # its deadlines have changed


def _failed(told: str) -> ProviderError:
    return ProviderError(told, provider=NAME, retryable=True)


def _ended(end: Ended, secret: str) -> ProviderError:
    reason = without(secret, end.reason) or "without a reason"
    return ProviderError(f"the connection ended ({end.code}, {reason})", provider=NAME, retryable=end.code != _POLICY)


def _now() -> float:
    return asyncio.get_running_loop().time()
