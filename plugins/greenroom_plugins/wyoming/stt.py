"""Speech to text by a Wyoming server: an utterance is sent while it is spoken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.providers import BatchSTT, STTStream, Transcript
from greenroom_plugins.wyoming.link import Link, failed, known
from greenroom_plugins.wyoming.options import WyomingSTTOptions

__all__ = ["WyomingSTT"]

LOOKBACK = 3.0
"""Seconds of audio kept for the beginning of an utterance that is noticed late."""
KEPT = 120.0
"""Seconds of an utterance that are kept, to be sent again; of a longer one the beginning is let go of."""
PENDING = 8
"""Utterances that may wait for their words."""
_TRIES = 2
_LAST_WORDS = 0.05  # seconds
_BATCH = 0.25  # seconds of audio in one event at most
_RATE = 16000
_WIDTH = 2  # bytes a sample
_FORM = {"rate": _RATE, "width": _WIDTH, "channels": 1}


class WyomingSTT(BatchSTT):
    """A server's transcription; a connection for each utterance, which the session's voice activity has to find."""

    sample_rate = _RATE

    def __init__(self, options: WyomingSTTOptions) -> None:
        self._options = options

    async def warm_up(self) -> None:
        """See whether the server is there and has the model."""
        options = self._options
        await known(options.uri, kind="asr", names="models", wanted=options.model, within=options.connect_timeout)

    def stream(self) -> STTStream:
        return _Stream(self._options)

    async def recognize(self, audio: AudioFrame) -> Transcript:
        utterance = _Utterance("", self._options)
        utterance.add(audio.pcm.tobytes())
        utterance.end()
        return await utterance.recognised(lambda: None)


class _Utterance:
    """One utterance: its audio, and who has it transcribed.

    ``words``: those that came before the last; ``told``: of them, those that were handed on. ``over``: there is no more
    audio. ``work``: what is under way for it, the ``tries``-th.
    """

    def __init__(self, name: str, options: WyomingSTTOptions) -> None:
        self.id = name
        self.over = False
        self.tries = 0
        self.words = ""
        self.told = ""
        self.work: asyncio.Task[Transcript] | None = None
        self._options = options
        self._audio: deque[bytes] = deque()
        self._kept = 0
        self._forgotten = 0
        self._sent = 0
        self._news = asyncio.Event()

    def add(self, pcm: bytes) -> None:
        self._audio.append(pcm)
        self._kept += len(pcm)
        while self._kept > KEPT * _RATE * _WIDTH and len(self._audio) > 1:
            self._kept -= len(self._audio.popleft())
            self._forgotten += 1
        self._news.set()

    def end(self) -> None:
        self.over = True
        self._news.set()

    async def recognised(self, changed: Callable[[], object]) -> Transcript:
        """Its words, from its beginning on; ``changed`` is called when there are some already.

        They may come in several answers: a server may take a pause for the end.
        """
        parts: list[str] = []
        language, self._sent = "", self._forgotten
        while True:
            while not self._left and not self.over:
                self._news.clear()
                await self._news.wait()
            if not self._left:
                break
            async with Link(self._options.uri, within=self._options.connect_timeout) as link:
                asked = {"name": self._options.model, "language": self._options.language}
                await link.send("transcribe", {key: value for key, value in asked.items() if value})
                await link.send("audio-start", _FORM)
                text, language = await self._heard(link, parts, changed)
                parts.append(text)
        text = " ".join(part for part in parts if part)
        return Transcript(text, utterance=self.id, language=language or self._options.language)

    @property
    def _left(self) -> int:
        """Pieces that were not sent."""
        return self._forgotten + len(self._audio) - max(self._sent, self._forgotten)

    async def _heard(self, link: Link, parts: list[str], changed: Callable[[], object]) -> tuple[str, str]:
        """One answer and its language."""
        sending = asyncio.create_task(self._send(link))
        reading = asyncio.create_task(self._read(link, parts, changed))
        try:
            await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                if sending.exception() is not None:
                    await asyncio.wait({reading}, timeout=_LAST_WORDS)  # why it ended the connection, perhaps
                if not reading.done():
                    await sending
                await asyncio.wait({reading}, timeout=self._options.patience)
                if not reading.done():
                    raise failed(f"no words came within {self._options.patience:g} s")
            return await reading
        finally:
            sending.cancel()
            reading.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)

    async def _send(self, link: Link) -> None:
        """The audio as it comes, and that it is over."""
        while True:
            self._news.clear()
            while batch := self._batch():
                await self._hand_over(link, "audio-chunk", batch)
            if self.over:
                await self._hand_over(link, "audio-stop")
                return
            await self._news.wait()

    def _batch(self) -> bytes:
        """What is sent next, and is taken to be sent."""
        batch = bytearray()
        while self._left and len(batch) < _BATCH * _RATE * _WIDTH:
            self._sent = max(self._sent, self._forgotten)
            batch += self._audio[self._sent - self._forgotten]
            self._sent += 1
        return bytes(batch)

    async def _hand_over(self, link: Link, kind: str, payload: bytes = b"") -> None:
        try:
            async with asyncio.timeout(self._options.patience):
                await link.send(kind, _FORM if payload else None, payload)
        except TimeoutError:
            raise failed("it takes no more audio") from None

    async def _read(self, link: Link, parts: list[str], changed: Callable[[], object]) -> tuple[str, str]:
        """The words; those that come before the last are told as interim."""
        so_far = ""
        while (event := await link.receive()).type != "transcript":
            if event.type == "transcript-chunk":
                so_far += event.text("text")
                self.words = " ".join(part for part in (*parts, so_far.strip()) if part)
                changed()
        return event.text("text").strip(), event.text("language")


class _Stream(STTStream):
    """Each utterance has a task that sends it and waits for its words; they are told in the order of utterances."""

    def __init__(self, options: WyomingSTTOptions) -> None:
        self._options = options
        self._recent: deque[AudioFrame] = deque()
        self._held = 0.0
        self._open: _Utterance | None = None
        self._due: deque[_Utterance] = deque()
        self._news = asyncio.Event()
        self._closed = False

    # --- the session's side -----------------------------------------------------------------------------------------

    def push(self, frame: AudioFrame) -> None:
        if self._open is not None:
            self._open.add(frame.pcm.tobytes())
            return
        self._recent.append(frame)
        self._held += frame.duration
        while self._held - self._recent[0].duration > LOOKBACK:
            self._held -= self._recent.popleft().duration

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        if self._open is not None:
            self._open.end()
        self._open = _Utterance(utterance, self._options)
        self._due.append(self._open)
        for frame in self._recent:
            if frame.at + frame.duration > at:
                self._open.add(frame.pcm.tobytes())
        self._recent.clear()
        self._held = 0.0
        if len(self._due) > PENDING:
            self._give_up(self._due[0])
        self._begin(self._open)

    def end_of_speech(self, utterance: str) -> None:
        if self._open is None or self._open.id != utterance:
            return
        self._open.end()
        self._open = None
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        while not self._closed:
            self._news.clear()
            first = self._due[0] if self._due else None
            if first is not None and first.work is None and first.tries < _TRIES:
                self._begin(first)
            if first is not None and first.words != first.told:
                first.told = first.words
                yield Transcript(first.told, final=False, utterance=first.id, language=self._options.language)
            elif first is not None and first.work is not None and first.work.done():
                yield self._finished(first, first.work)
            elif first is not None and first.work is None and first.over:
                self._due.popleft()  # it was tried often enough
                yield Transcript(first.words, utterance=first.id, language=self._options.language)
            else:
                await self._news.wait()

    async def aclose(self) -> None:
        self._closed = True
        self._news.set()
        works = [one.work for one in self._due if one.work is not None]
        self._due.clear()
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    # --- the server's side ------------------------------------------------------------------------------------------

    def _begin(self, utterance: _Utterance) -> None:
        utterance.tries += 1
        utterance.work = asyncio.get_running_loop().create_task(utterance.recognised(self._news.set), name="wyoming")
        utterance.work.add_done_callback(lambda _: self._news.set())

    def _give_up(self, utterance: _Utterance) -> None:
        utterance.tries = _TRIES
        utterance.end()
        if utterance.work is not None:
            utterance.work.cancel()
            utterance.work = None

    def _finished(self, utterance: _Utterance, work: asyncio.Task[Transcript]) -> Transcript:
        """Its words. A failure is raised, and the utterance stays due, until it was tried often enough."""
        try:
            heard = work.result()
        except ProviderError as error:
            utterance.work = None
            if not error.retryable:
                utterance.tries = _TRIES
            raise
        self._due.popleft()
        return heard
