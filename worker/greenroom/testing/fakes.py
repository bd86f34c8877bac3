"""Models of known delays, for benchmarks: what a call costs beyond them is the framework's own.

All delays are wall-clock time on an absolute schedule (``t0 + k * step``, never chained sleeps), so that a loop which
is late once does not stay late.

======  ====================================================================================================
STT     hears voice by loudness, in pieces of 10 ms; ``delay`` after the last voiced one its words: ``turn 1``
LLM     ``first_token`` after the request the first of ``tokens`` words, then one each ``gap``
TTS     ``first_audio`` after the first text a tone of 440 Hz, ``seconds`` in all, a ``piece`` each ``gap``
======  ====================================================================================================

The floor under a turn is therefore known: the end of the turn, plus ``first_token`` and ``first_audio``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence

import numpy as np

from greenroom.audio import AudioFrame, Pcm
from greenroom.dialog.history import Message
from greenroom.providers import (
    LLM,
    STT,
    TTS,
    ChatContext,
    LLMChunk,
    STTStream,
    SynthesizedAudio,
    TextDelta,
    ToolChoice,
    ToolSchema,
    Transcript,
)

__all__ = ["FakeLLM", "FakeSTT", "FakeTTS"]

SUBFRAME = 0.01
"""Audio is judged in pieces so long. Seconds."""
SPEECH = 3
"""Voiced pieces since the last words that make speech."""


class FakeSTT(STT):
    """Counts the turns that it hears. Finds utterances by itself and names none, as many vendors do.

    A piece of 10 ms is voiced when its RMS (int16 units) is above ``level``.
    """

    def __init__(self, *, delay: float = 0.2, level: float = 300.0, sample_rate: int = 16000) -> None:
        self.delay = delay
        self.level = level
        self.sample_rate = sample_rate

    def stream(self) -> STTStream:
        return _FakeStream(self)


class _FakeStream(STTStream):
    def __init__(self, stt: FakeSTT) -> None:
        self._stt = stt
        self._least = stt.level**2 * round(SUBFRAME * stt.sample_rate)
        """A voiced piece has at least so much energy."""
        self._piece = round(SUBFRAME * stt.sample_rate)
        self._voiced = 0
        self._turns = 0
        self._due: asyncio.TimerHandle | None = None
        self._words: asyncio.Queue[Transcript | None] = asyncio.Queue()

    def push(self, frame: AudioFrame) -> None:
        if not len(frame.pcm) or -self._stt.level < np.min(frame.pcm) <= np.max(frame.pcm) < self._stt.level:
            return
        count = len(frame.pcm) // self._piece
        pieces = frame.pcm[: count * self._piece].astype(np.float32).reshape(count, self._piece)
        voiced = np.flatnonzero(np.einsum("ij,ij->i", pieces, pieces) > self._least)
        if len(voiced) == 0:
            return
        self._voiced += len(voiced)
        if self._voiced < SPEECH:
            return
        loop = asyncio.get_running_loop()
        after = (len(frame.pcm) - (int(voiced[-1]) + 1) * self._piece) / frame.sample_rate
        if self._due is not None:
            self._due.cancel()
        self._due = loop.call_at(loop.time() - after + self._stt.delay, self._final)

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        pass

    def end_of_speech(self, utterance: str) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        while (heard := await self._words.get()) is not None:
            yield heard

    async def aclose(self) -> None:
        if self._due is not None:
            self._due.cancel()
        self._words.put_nowait(None)

    def _final(self) -> None:
        self._due, self._voiced = None, 0
        self._turns += 1
        self._words.put_nowait(Transcript(f"turn {self._turns}"))


class FakeLLM(LLM):
    """Says what it was told, in ``tokens`` words."""

    def __init__(self, *, first_token: float = 0.1, gap: float = 0.005, tokens: int = 12) -> None:
        self.first_token = first_token
        self.gap = gap
        self.tokens = tokens

    async def chat(
        self, context: ChatContext, *, tools: Sequence[ToolSchema] = (), tool_choice: ToolChoice = "auto"
    ) -> AsyncGenerator[LLMChunk, None]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, word in enumerate(self._answer(context)):
            await _until(began + self.first_token + number * self.gap)
            yield TextDelta(word if number == 0 else f" {word}")

    def _answer(self, context: ChatContext) -> list[str]:
        said = [item.text for item in context if isinstance(item, Message) and item.role == "user"]
        words = f"reply to {said[-1] if said else ''} with some more words to speak aloud now".split()
        return [*words, *["and"] * self.tokens][: self.tokens]


class FakeTTS(TTS):
    """Speaks a tone, ``seconds`` long whatever the words are: amplitude 12000, faster than it plays.

    ``piece`` should hold whole periods of 440 Hz, such as any multiple of 50 ms: they join without a click.
    """

    def __init__(
        self,
        *,
        seconds: float = 2.0,
        first_audio: float = 0.05,
        piece: float = 0.1,
        gap: float = 0.02,
        sample_rate: int = 24000,
    ) -> None:
        self.seconds = seconds
        self.first_audio = first_audio
        self.gap = gap
        self.sample_rate = sample_rate
        self._pieces = round(seconds / piece)
        at = np.arange(round(piece * sample_rate)) / sample_rate
        self._tone: Pcm = (12000 * np.sin(2 * np.pi * 440 * at)).astype(np.int16)

    async def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        words = _Words(text)
        try:
            if not await words.begin():
                return
            began = asyncio.get_running_loop().time()
            for number in range(self._pieces):
                await _until(began + self.first_audio + number * self.gap)
                yield SynthesizedAudio(AudioFrame(self._tone, self.sample_rate), words.take())
            if rest := await words.rest():
                yield SynthesizedAudio(AudioFrame(self._tone[:0], self.sample_rate), rest)
        finally:
            await words.aclose()


class _Words:
    """A text that is read on while it is spoken."""

    def __init__(self, text: AsyncIterable[str]) -> None:
        self._text = aiter(text)
        self._read = ""
        self._reading: asyncio.Task[None] | None = None

    async def begin(self) -> bool:
        """Wait for the first words; ``False``: there are none."""
        while not self._read.strip():
            try:
                self._read += await anext(self._text)
            except StopAsyncIteration:
                return False
        self._reading = asyncio.create_task(self._read_on(), name="fake voice's text")
        return True

    def take(self) -> str:
        """What has come since."""
        taken, self._read = self._read, ""
        return taken

    async def rest(self) -> str:
        """What is left, once all of it is there."""
        if self._reading is not None:
            await self._reading
        return self.take()

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read_on(self) -> None:
        async for part in self._text:
            self._read += part


async def _until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - asyncio.get_running_loop().time()))
