"""A scripted realtime model: what it hears, says and remembers is written in the test, and so is when.

It waits by the running loop's clock alone, as the scripted providers do. ``memory`` is the model's own conversation: a
test compares it with the session's history.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from greenroom.audio import AudioFrame, Pcm, rms
from greenroom.dialog.history import ChatContext, ChatItem, FunctionCall, FunctionCallOutput
from greenroom.errors import ProviderError
from greenroom.providers.llm import TextDelta, ToolCall, ToolSchema
from greenroom.providers.realtime import (
    RealtimeChunk,
    RealtimeHeard,
    RealtimeModel,
    RealtimeRequest,
    RealtimeSession,
    SpeechStarted,
    SpeechStopped,
)
from greenroom.providers.stt import Transcript
from greenroom.session.segments import SegmentRules, VoiceSegmenter, VoiceStarted, VoiceStopped
from greenroom.testing.providers import Failure, Heard, ScriptEnded

__all__ = ["Remembered", "Response", "ScriptedRealtime", "Update"]


@dataclass(frozen=True, slots=True)
class Response:
    """What a ``ScriptedRealtime`` says once.

    ``text`` comes in words, each with its tone of ``seconds_per_character``: the first after ``first`` seconds, the
    rest at ``real_time_factor`` of their length; then the ``calls``. ``failure`` comes in place of the word number
    ``failure_at``; ``"empty"`` ends the response there.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    first: float = 0.2
    seconds_per_character: float = 0.06
    real_time_factor: float = 0.1
    failure: Failure | None = None
    failure_at: int = 0


@dataclass(frozen=True, slots=True)
class Remembered:
    """A part of the model's memory. ``id``: of the utterance, the response or the item; ``role``: user, assistant,
    system, call or output."""

    id: str
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Update:
    """What the session told the model of itself."""

    instructions: str | None
    tools: tuple[ToolSchema, ...] | None
    chat_ctx: ChatContext | None


class ScriptedRealtime(RealtimeModel):
    """Answers by a script, one entry a response, and hears by another, one entry an utterance, whatever their sound.

    ``requests``, ``updates`` and ``truncated`` (response, seconds, text) hold what it was told; ``audio`` what was
    pushed; ``memory`` what it knows now; ``left`` what was not asked for. ``closed_early`` counts the responses that
    were not read to their end. With ``detect_speech`` speech is what is loud (``level``, RMS in int16 units), and an
    utterance ends after ``min_silence`` seconds below that.
    """

    def __init__(
        self,
        script: Sequence[Response | str] = (),
        *,
        heard: Sequence[Heard | str] = (),
        sample_rate: int = 24000,
        speaks: bool = True,
        transcribes: bool = True,
        level: float = 300.0,
        min_silence: float = 0.5,
    ) -> None:
        self.sample_rate = sample_rate
        self.speaks = speaks
        self.transcribes = transcribes
        self.level = level
        self.min_silence = min_silence
        self.left = deque(Response(entry) if isinstance(entry, str) else entry for entry in script)
        self.length = len(self.left)
        self.to_hear = deque(Heard(entry) if isinstance(entry, str) else entry for entry in heard)
        self.requests: list[RealtimeRequest] = []
        self.updates: list[Update] = []
        self.truncated: list[tuple[str, float, str]] = []
        self.audio: list[AudioFrame] = []
        self.memory: list[Remembered] = []
        self.sessions = 0
        self.closed = 0
        self.closed_early = 0

    def session(self, *, detect_speech: bool) -> RealtimeSession:
        self.sessions += 1
        return _Session(self, detect_speech=detect_speech)

    def remembered(self) -> list[tuple[str, str]]:
        """The memory as roles and texts, without what is empty."""
        return [(part.role, part.text) for part in self.memory if part.text]


class _Session(RealtimeSession):
    def __init__(self, model: ScriptedRealtime, *, detect_speech: bool) -> None:
        self._model = model
        self._heard: asyncio.Queue[RealtimeHeard | ProviderError | None] = asyncio.Queue()
        self._timers: list[asyncio.TimerHandle] = []
        self._detector = _Detector(model) if detect_speech else None
        self._responding = ""

    # --- what it hears ----------------------------------------------------------------------------------------------

    def push(self, frame: AudioFrame) -> None:
        self._model.audio.append(frame)
        if self._detector is None:
            return
        for heard in self._detector.push(frame):
            if isinstance(heard, SpeechStopped):
                self.end_of_speech(heard.utterance)
            self._heard.put_nowait(heard)

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        pass

    def end_of_speech(self, utterance: str) -> None:
        heard = self._model.to_hear.popleft() if self._model.to_hear else Heard("", failure="raise")
        if heard.failure is None:
            self._remember(Remembered(utterance, "user", heard.text))
        if not self._model.transcribes or heard.failure == "stall":
            return
        outcome: RealtimeHeard | ProviderError = Transcript(heard.text, utterance=utterance)
        if heard.failure == "raise":
            outcome = ProviderError("failed as the script says", provider="scripted realtime")
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(heard.delay, self._heard.put_nowait, outcome))

    async def __aiter__(self) -> AsyncIterator[RealtimeHeard]:
        while (heard := await self._heard.get()) is not None:
            if isinstance(heard, ProviderError):
                raise heard
            yield heard

    # --- what it says -----------------------------------------------------------------------------------------------

    async def respond(self, request: RealtimeRequest) -> AsyncGenerator[RealtimeChunk, None]:
        model = self._model
        if self._responding:
            raise AssertionError(f"{request.id} was asked for while {self._responding} was being made")
        model.requests.append(request)
        if not model.left:
            raise ScriptEnded("realtime", model.length)
        self._responding = request.id
        said = Remembered(request.id, "assistant", "")
        self._remember(said)
        try:
            async for chunk in _streamed(model.left.popleft(), model):
                if isinstance(chunk, TextDelta):
                    said = replace(said, text=said.text + chunk.text)
                    self._remember(said)
                elif isinstance(chunk, ToolCall):
                    self._remember(Remembered(f"call {chunk.call_id}", "call", f"{chunk.name} {chunk.arguments}"))
                yield chunk
        except (asyncio.CancelledError, GeneratorExit):
            model.closed_early += 1
            raise
        finally:
            self._responding = ""

    def truncate(self, response: str, *, seconds: float, text: str) -> None:
        if response == self._responding:
            raise AssertionError(f"{response} was truncated while it was being made")
        self._model.truncated.append((response, seconds, text))
        self._remember(Remembered(response, "assistant", text))

    # --- what it is told --------------------------------------------------------------------------------------------

    def add(self, item: ChatItem) -> None:
        self._remember(_remembered(item))

    def update(
        self,
        *,
        instructions: str | None = None,
        tools: Sequence[ToolSchema] | None = None,
        chat_ctx: ChatContext | None = None,
    ) -> None:
        self._model.updates.append(Update(instructions, tuple(tools) if tools is not None else None, chat_ctx))
        if chat_ctx is not None:
            self._model.memory[:] = [_remembered(item) for item in chat_ctx]

    async def aclose(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._heard.put_nowait(None)
        self._model.closed += 1

    def _remember(self, part: Remembered) -> None:
        """Known parts change where they are, new ones come last."""
        for place, known in enumerate(self._model.memory):
            if known.id == part.id:
                self._model.memory[place] = part
                return
        self._model.memory.append(part)


class _Detector:
    """Speech is what is loud."""

    WINDOW = 0.02

    def __init__(self, model: ScriptedRealtime) -> None:
        self._model = model
        self._segmenter = VoiceSegmenter(SegmentRules(min_silence=model.min_silence))
        self._count = 0

    def push(self, frame: AudioFrame) -> list[SpeechStarted | SpeechStopped]:
        found: list[SpeechStarted | SpeechStopped] = []
        size = round(self.WINDOW * frame.sample_rate)
        for start in range(0, len(frame.pcm), size):
            window = frame.pcm[start : start + size]
            at, seconds = frame.at + start / frame.sample_rate, len(window) / frame.sample_rate
            loud = float(rms(window) >= self._model.level)
            happened = self._segmenter.push(loud, at=at, seconds=seconds)
            if isinstance(happened, VoiceStarted):
                self._count += 1
                found.append(SpeechStarted(f"heard_{self._count}", happened.at))
            elif isinstance(happened, VoiceStopped):
                found.append(SpeechStopped(f"heard_{self._count}", happened.at))
        return found


async def _streamed(response: Response, model: ScriptedRealtime) -> AsyncGenerator[RealtimeChunk, None]:
    loop = asyncio.get_running_loop()
    words = response.text.split(" ") if response.text else []
    due = loop.time() + response.first
    for number in range(len(words) + 1):
        await asyncio.sleep(max(0.0, due - loop.time()))
        if response.failure is not None and number == min(response.failure_at, len(words)):
            await _fail(response.failure)
            return
        if number == len(words):
            break
        text = words[number] if number == 0 else f" {words[number]}"
        yield TextDelta(text)
        seconds = response.seconds_per_character * len(text)
        if model.speaks:
            yield AudioFrame(_tone(seconds, model.sample_rate), model.sample_rate)
        due += response.real_time_factor * seconds
    for call in response.calls:
        yield call


async def _fail(failure: Failure) -> None:
    if failure == "raise":
        raise ProviderError("failed as the script says", provider="scripted realtime", retryable=True)
    if failure == "stall":
        await asyncio.get_running_loop().create_future()


def _tone(seconds: float, sample_rate: int) -> Pcm:
    """440 Hz at a quarter of full scale."""
    at = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.asarray(np.round(8000 * np.sin(2 * np.pi * 440 * at)), dtype=np.int16)


def _remembered(item: ChatItem) -> Remembered:
    if isinstance(item, FunctionCall):
        return Remembered(f"call {item.call_id}", "call", f"{item.name} {item.arguments}")
    if isinstance(item, FunctionCallOutput):
        return Remembered(f"output {item.call_id}", "output", item.output)
    return Remembered(item.id, item.role, item.text)
