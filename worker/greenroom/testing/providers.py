"""Scripted providers: what they hear, answer and say is written in the test, and so is when.

They wait by the running loop's clock alone, so a loop with virtual time makes every run of a test the same, to the
millisecond. Each step can be made to fail: ``"raise"`` a ``ProviderError``, ``"stall"`` for ever, or be ``"empty"``.
A step that the script does not have raises ``ScriptEnded``; ``left`` says what was never used.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal, NoReturn, TypeAlias

import numpy as np

from greenroom.audio import AudioFrame, Pcm, rms
from greenroom.errors import ProviderError
from greenroom.providers import (
    LLM,
    STT,
    VAD,
    ChatContext,
    LLMChunk,
    SentenceTTS,
    STTStream,
    TextDelta,
    ToolCall,
    ToolChoice,
    ToolSchema,
    Transcript,
    VADStream,
)

__all__ = ["Answer", "Failure", "Heard", "ScriptEnded", "ScriptedLLM", "ScriptedSTT", "ScriptedTTS", "ScriptedVAD"]

Failure: TypeAlias = Literal["raise", "stall", "empty"]


class ScriptEnded(ProviderError):
    """A scripted provider was asked for more than its script has: a mistake in the test, or what it is to find."""

    def __init__(self, kind: str, length: int) -> None:
        super().__init__(f"asked for step {length + 1} of a script of {length}", provider=f"scripted {kind}")


def _fail(kind: str) -> NoReturn:
    raise ProviderError("failed as the script says", provider=f"scripted {kind}", retryable=True)


async def _stall() -> NoReturn:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("a future that nobody has was resolved")


class ScriptedVAD(VAD):
    """Speech is what is loud: ``high`` for a window whose RMS (int16 units) reaches ``level``, else ``low``."""

    def __init__(
        self,
        *,
        level: float = 300.0,
        high: float = 0.95,
        low: float = 0.02,
        sample_rate: int = 16000,
        window: int = 512,
    ) -> None:
        self.level = level
        self.high = high
        self.low = low
        self.sample_rate = sample_rate
        self.window = window

    def stream(self) -> VADStream:
        return _LoudnessStream(self)


class _LoudnessStream(VADStream):
    def __init__(self, vad: ScriptedVAD) -> None:
        self._vad = vad

    def probability(self, window: Pcm) -> float:
        if len(window) != self._vad.window:
            raise ValueError(f"a window of {len(window)} samples; expected {self._vad.window}")
        return self._vad.high if rms(window) >= self._vad.level else self._vad.low

    def reset(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Heard:
    """What a ``ScriptedSTT`` makes of one utterance.

    ``delay``: seconds from the utterance's end to its final transcript, or to its failure. ``interim``: texts and
    when they come, in seconds from its start; those that are due after its end do not come.
    """

    text: str
    delay: float = 0.1
    interim: Mapping[float, str] | None = None
    failure: Failure | None = None
    confidence: float | None = None


class ScriptedSTT(STT):
    """Transcribes its utterances by a script, one entry each, whatever their sound.

    ``audio`` holds what was pushed, of all streams; ``left`` the entries that are not used up.
    """

    def __init__(self, script: Sequence[Heard | str] = (), *, sample_rate: int = 16000) -> None:
        self.sample_rate = sample_rate
        self.left = deque(entry if isinstance(entry, Heard) else Heard(entry) for entry in script)
        self.length = len(self.left)
        self.audio: list[AudioFrame] = []

    def stream(self) -> STTStream:
        return _ScriptedStream(self)


class _ScriptedStream(STTStream):
    def __init__(self, stt: ScriptedSTT) -> None:
        self._stt = stt
        self._open: dict[str, tuple[Heard | None, float]] = {}
        self._due: list[tuple[float, int, Transcript | ProviderError]] = []
        self._order = count()
        self._wake = asyncio.Event()
        self._closed = False

    def push(self, frame: AudioFrame) -> None:
        self._stt.audio.append(frame)

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        now = asyncio.get_running_loop().time()
        heard = self._stt.left.popleft() if self._stt.left else None
        self._open[utterance] = heard, now
        for after, text in ((heard.interim or {}) if heard else {}).items():
            self._put(now + after, Transcript(text, final=False, utterance=utterance))

    def end_of_speech(self, utterance: str) -> None:
        if utterance not in self._open:
            return
        heard, _ = self._open.pop(utterance)
        now = asyncio.get_running_loop().time()
        self._due = [entry for entry in self._due if not _late_interim(entry, utterance, now)]
        heapq.heapify(self._due)
        if heard is None:
            self._put(now, ScriptEnded("stt", self._stt.length))
        elif heard.failure == "raise":
            self._put(now + heard.delay, ProviderError("failed as the script says", provider="scripted stt"))
        elif heard.failure != "stall":
            text = "" if heard.failure == "empty" else heard.text
            self._put(now + heard.delay, Transcript(text, utterance=utterance, confidence=heard.confidence))

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        loop = asyncio.get_running_loop()
        while not self._closed:
            if self._due and self._due[0][0] <= loop.time():
                entry = heapq.heappop(self._due)[2]
                if isinstance(entry, ProviderError):
                    raise entry
                yield entry
                continue
            self._wake.clear()
            try:
                async with asyncio.timeout_at(self._due[0][0] if self._due else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def aclose(self) -> None:
        self._closed = True
        self._wake.set()

    def _put(self, when: float, entry: Transcript | ProviderError) -> None:
        heapq.heappush(self._due, (when, next(self._order), entry))
        self._wake.set()


def _late_interim(entry: tuple[float, int, Transcript | ProviderError], utterance: str, now: float) -> bool:
    when, _, what = entry
    return when > now and isinstance(what, Transcript) and not what.final and what.utterance == utterance


@dataclass(frozen=True, slots=True)
class Answer:
    """What a ``ScriptedLLM`` answers once.

    ``text`` comes in words, the first after ``first_token`` seconds and each other ``gap`` later; then the ``calls``.
    ``failure`` comes in place of the word number ``failure_at``; ``"empty"`` ends the answer there.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    first_token: float = 0.1
    gap: float = 0.02
    failure: Failure | None = None
    failure_at: int = 0


class ScriptedLLM(LLM):
    """Answers by a script, one entry a request: text, an ``Answer``, or a function of the conversation.

    ``contexts``, ``tools`` and ``choices`` hold what each request was given, copied as it was then; ``closed_early``
    counts the answers that were not read to their end; ``left`` holds what was not asked for.
    """

    def __init__(self, script: Sequence[Answer | str | Callable[[ChatContext], Answer | str]] = ()) -> None:
        self.left = deque(script)
        self.length = len(self.left)
        self.contexts: list[ChatContext] = []
        self.tools: list[tuple[ToolSchema, ...]] = []
        self.choices: list[ToolChoice] = []
        self.closed_early = 0

    async def chat(
        self, context: ChatContext, *, tools: Sequence[ToolSchema] = (), tool_choice: ToolChoice = "auto"
    ) -> AsyncGenerator[LLMChunk, None]:
        self.contexts.append(context.copy())
        self.tools.append(tuple(tools))
        self.choices.append(tool_choice)
        if not self.left:
            raise ScriptEnded("llm", self.length)
        entry = self.left.popleft()
        answer = entry(context) if callable(entry) else entry
        answer = Answer(answer) if isinstance(answer, str) else answer
        try:
            async for chunk in _streamed(answer):
                yield chunk
        except (asyncio.CancelledError, GeneratorExit):
            self.closed_early += 1
            raise


async def _streamed(answer: Answer) -> AsyncGenerator[LLMChunk, None]:
    loop = asyncio.get_running_loop()
    words = answer.text.split(" ") if answer.text else []
    texts = [word if number == 0 else f" {word}" for number, word in enumerate(words)]
    chunks: list[LLMChunk] = [*(TextDelta(text) for text in texts), *answer.calls]
    due = loop.time() + answer.first_token
    for number in range(len(chunks) + 1):
        fails = answer.failure is not None and (number == answer.failure_at or number == len(chunks))
        if number == len(chunks) and not fails:
            return
        await asyncio.sleep(max(0.0, due - loop.time()))
        if fails:
            if answer.failure == "raise":
                _fail("llm")
            if answer.failure == "stall":
                await _stall()
            return
        yield chunks[number]
        due += answer.gap


class ScriptedTTS(SentenceTTS):
    """Speaks a tone: ``seconds_per_character`` of it for each character, or ``durations`` sentence by sentence.

    The first audio of a sentence comes after ``first_audio`` seconds, the rest at ``real_time_factor`` of its length.
    ``failures`` says which sentence fails, counted from 0 over all speeches: before its audio, or, ``failure_at``
    seconds of audio later. ``sentences`` holds what was asked for, ``finished`` what was read to its end.
    """

    def __init__(
        self,
        *,
        sample_rate: int = 24000,
        seconds_per_character: float = 0.06,
        durations: Sequence[float] = (),
        first_audio: float = 0.05,
        real_time_factor: float = 0.1,
        failures: Mapping[int, Failure] | None = None,
        failure_at: float = 0.0,
    ) -> None:
        self.sample_rate = sample_rate
        self.seconds_per_character = seconds_per_character
        self.durations = tuple(durations)
        self.first_audio = first_audio
        self.real_time_factor = real_time_factor
        self.failures = dict(failures or {})
        self.failure_at = failure_at
        self.sentences: list[str] = []
        self.finished: list[str] = []

    async def speak(self, sentence: str) -> AsyncGenerator[AudioFrame, None]:
        number = len(self.sentences)
        self.sentences.append(sentence)
        failure = self.failures.get(number)
        seconds = self._duration(number, sentence) if failure is None else self.failure_at
        loop = asyncio.get_running_loop()
        due = loop.time() + self.first_audio
        for pcm in self._tone(seconds):
            await asyncio.sleep(max(0.0, due - loop.time()))
            yield AudioFrame(pcm, self.sample_rate)
            due += self.real_time_factor * len(pcm) / self.sample_rate
        if failure is not None:
            await asyncio.sleep(max(0.0, due - loop.time()))
        if failure == "raise":
            _fail("tts")
        if failure == "stall":
            await _stall()
        self.finished.append(sentence)

    def _duration(self, number: int, sentence: str) -> float:
        return self.durations[number] if number < len(self.durations) else self.seconds_per_character * len(sentence)

    def _tone(self, seconds: float) -> list[Pcm]:
        """440 Hz at a quarter of full scale, in pieces of 50 ms."""
        at = np.arange(round(seconds * self.sample_rate)) / self.sample_rate
        tone = np.round(8000 * np.sin(2 * np.pi * 440 * at)).astype(np.int16)
        step = self.sample_rate // 20
        return [tone[start : start + step] for start in range(0, len(tone), step)]
