"""One speech in the making: its text from the model or from the caller, its audio from the voice or from the caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog

from greenroom.audio import AudioFrame, AudioFrameLike, Pcm, Resampler, to_mono
from greenroom.dialog.events import Event, Generated, RequestedCall, Synthesised
from greenroom.dialog.history import ChatContext
from greenroom.errors import ProviderError
from greenroom.providers.llm import TextDelta, ToolCall, ToolChoice, Usage
from greenroom.providers.realtime import RealtimeChunk
from greenroom.providers.tts import SENTENCE_BEGUN, SynthesizedAudio
from greenroom.session.metrics import LLMMetrics, Metrics, TTSMetrics
from greenroom.session.nodes import raised_at
from greenroom.session.tools import FunctionTool
from greenroom.session.voice import Voice
from greenroom.session.words import Shown, TextChannel, Wording
from greenroom.speech.rewriting import Rewriting

__all__ = ["Content", "Making", "Source", "Voicing"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Content:
    """What a speech is made of: given text and audio (``say``), or what the model is asked (``generate_reply``)."""

    text: str | AsyncIterable[str] | None = None
    audio: AsyncIterable[AudioFrameLike] | None = None
    instructions: str = ""
    chat_ctx: ChatContext | None = None
    user_input: str = ""
    tools: tuple[str, ...] | None = None
    tool_choice: ToolChoice = "auto"

    @property
    def worded(self) -> bool:
        """It has words to show; audio alone has none."""
        return self.text is not None or self.audio is None

    @property
    def given(self) -> bool:
        """Nothing has to be asked of a model."""
        return self.text is not None or self.audio is not None


@dataclass(frozen=True, slots=True)
class Source:
    """A model, asked for one step. ``ask`` begins it; it may raise ``ProviderError`` at once.

    ``tools``: those that it was told of, by name. ``voiced``: its sound comes with its words. ``label``: its class.
    """

    ask: Callable[[], AsyncGenerator[RealtimeChunk, None]]
    tools: Sequence[FunctionTool] = ()
    voiced: bool = False
    label: str = ""

    def call(self, chunk: ToolCall) -> RequestedCall:
        """A call with the policies of the tool that it names."""
        for tool in self.tools:
            if tool.name == chunk.name:
                return RequestedCall(chunk.call_id, chunk.name, chunk.arguments, tool.on_interrupt, tool.on_duplicate)
        return RequestedCall(chunk.call_id, chunk.name, chunk.arguments)


@dataclass(frozen=True, slots=True)
class Voicing:
    """A voice. ``speak`` is given text as it comes; it may raise ``ProviderError`` at once. ``label``: its class.

    ``rewriting``: makes what rewrites one speech's words to those that it is given.
    """

    speak: Callable[[AsyncIterable[str]], AsyncGenerator[SynthesizedAudio, None]]
    label: str = ""
    rewriting: Callable[[], Rewriting] = Rewriting


@dataclass(slots=True)
class _Step:
    text: TextChannel
    voice: Voice
    voiced: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    shown: Shown | None = None


class Making:
    """Makes one speech, step by step, and reports to the dialog. Cancelled as a whole."""

    def __init__(
        self,
        speech: str,
        content: Content,
        *,
        sample_rate: int,
        feed: Callable[[Event], None],
        failed: Callable[[BaseException, str], None],
        measured: Callable[[Metrics], None],
    ) -> None:
        self.speech = speech
        self.content = content
        self.tokens = 0
        """Pieces of text that the model has sent."""
        self._sample_rate = sample_rate
        self._feed = feed
        self._failed = failed
        self._measured = measured
        self._steps: dict[int, _Step] = {}

    def voice(self, step: int) -> Voice:
        return self._step(step).voice

    def generate(self, step: int, source: Source) -> None:
        """Begin to make a step's text, and its audio where the model speaks."""
        if self.content.given:
            self._spawn(step, self._read_given(step), "text")
        else:
            self._step(step).voiced = source.voiced
            self._spawn(step, self._ask(step, source), "text")

    def synthesise(self, step: int, voicing: Voicing) -> None:
        """Begin to make a step's audio."""
        if self.content.audio is not None:
            self._spawn(step, self._read_audio(step, self.content.audio), "audio")
        elif not self._step(step).voiced:
            self._spawn(step, self._speak(step, voicing), "audio")

    def shown(self, step: int, make: Callable[[], Shown]) -> Shown:
        """Where the words of a step go that are heard."""
        entry = self._step(step)
        if entry.shown is None:
            entry.shown = make()
        return entry.shown

    def cancel(self) -> None:
        """Stop at once; what was made stays readable, nothing more comes."""
        for step in self._steps.values():
            for task in step.tasks:
                task.cancel()
            step.voice.end(complete=False)

    def release(self) -> None:
        """The speech is over: its audio is not kept."""
        for step in self._steps.values():
            step.voice.discard()

    @property
    def over(self) -> bool:
        """Nothing of it is under way any more."""
        return all(
            all(task.done() for task in step.tasks) and (step.shown is None or step.shown.over)
            for step in self._steps.values()
        )

    async def aclose(self) -> None:
        self.cancel()
        tasks = [task for step in self._steps.values() for task in step.tasks]
        await asyncio.gather(*tasks, return_exceptions=True)
        for step in self._steps.values():
            if step.shown is not None:
                await step.shown.aclose()

    # --- text -------------------------------------------------------------------------------------------------------

    async def _read_given(self, step: int) -> None:
        given, channel = self.content.text, self._step(step).text
        text = ""
        try:
            if isinstance(given, str):
                text = given
                channel.write(given)
            elif given is not None:
                async for part in given:
                    text += part
                    channel.write(part)
        except Exception as error:  # noqa: BLE001  # the caller's own iterator: reported, and the speech fails
            self._failed(error, "say")
            self._feed(Generated(self.speech, step, "failed", text, error=f"the given text failed: {error}"))
        else:
            self._feed(Generated(self.speech, step, "end", text))
        channel.end()

    async def _ask(self, step: int, source: Source) -> None:
        entry = self._step(step)
        answer = _Answer(began=_now())
        sound = _Sound(self._sample_rate)
        try:
            async with aclosing(source.ask()) as chunks:
                async for chunk in chunks:
                    if isinstance(chunk, TextDelta | AudioFrame) and answer.first is None and _has_content(chunk):
                        answer.first = _now()
                        self._feed(Generated(self.speech, step, "first"))
                    if isinstance(chunk, TextDelta):
                        self._take_text(entry, answer, chunk.text)
                    elif isinstance(chunk, ToolCall):
                        answer.calls.append(source.call(chunk))
                    elif isinstance(chunk, Usage):
                        answer.usage = chunk
                    else:
                        await self._write(step, sound.push(chunk))
            await self._write(step, sound.flush())
        except asyncio.CancelledError:
            self._measured(self._llm_metrics(step, source, answer, cancelled=True))
            raise
        except Exception as error:  # noqa: BLE001  # a model's code or the user's: the speech fails, the call goes on
            told = _told(error, "llm")
            self._failed(error, "llm")
            self._feed(Generated(self.speech, step, "failed", answer.text, error=told))
        else:
            # The dialog learns of the tools before the voice can end, so that it knows what the silence then means.
            self._feed(Generated(self.speech, step, "end", answer.text, tuple(answer.calls)))
            self._measured(self._llm_metrics(step, source, answer))
            if entry.voiced:
                self._feed(Synthesised(self.speech, step, "end", entry.voice.seconds))
                entry.voice.end()
        if entry.voiced:
            entry.voice.end(complete=False)  # of no effect on one that has ended well
        entry.text.end()

    def _take_text(self, entry: _Step, answer: _Answer, text: str) -> None:
        if not text:
            return
        self.tokens += 1
        answer.pieces += 1
        answer.text += text
        if entry.voiced:
            entry.voice.mark(text)
        else:
            entry.text.write(text)

    def _llm_metrics(self, step: int, source: Source, answer: _Answer, *, cancelled: bool = False) -> LLMMetrics:
        usage = answer.usage
        return LLMMetrics(
            speech_id=self.speech,
            step=step,
            label=source.label,
            ttft=answer.first - answer.began if answer.first is not None else None,
            duration=_now() - answer.began,
            pieces=answer.pieces,
            prompt_tokens=usage.prompt_tokens if usage is not None else None,
            completion_tokens=usage.completion_tokens if usage is not None else None,
            cancelled=cancelled,
        )

    # --- audio ------------------------------------------------------------------------------------------------------

    async def _read_audio(self, step: int, audio: AsyncIterable[AudioFrameLike]) -> None:
        voice = self._step(step).voice
        sound = _Sound(self._sample_rate)
        if isinstance(self.content.text, str):
            voice.mark(self.content.text)
        elif self.content.text is not None:
            self._spawn(step, self._mark_text(step), "marks")
        try:
            async for frame in audio:
                await self._write(step, sound.push(frame))
            await self._write(step, sound.flush())
        except Exception as error:  # noqa: BLE001  # the caller's own iterator: reported, and the speech fails
            self._failed(error, "say")
            self._feed(Synthesised(self.speech, step, "failed", voice.seconds, f"the given audio failed: {error}"))
            voice.end(complete=False)
        else:
            self._feed(Synthesised(self.speech, step, "end", voice.seconds))
            voice.end()

    async def _mark_text(self, step: int) -> None:
        entry = self._step(step)
        async for part in entry.text:
            entry.voice.mark(part)

    async def _speak(self, step: int, voicing: Voicing) -> None:
        entry = self._step(step)
        voice, spoken = entry.voice, _Spoken(Wording(entry.text, voicing.rewriting()), voicing.label)
        SENTENCE_BEGUN.set(lambda: self._sentence_begun(step, spoken))  # this task speaks nothing else
        try:
            await self._pronounce(step, voicing, spoken)
            await entry.text.drain()  # what it did not want to speak
        except asyncio.CancelledError:
            self._measure_voice(step, spoken, cancelled=True)
            raise
        except Exception as error:  # noqa: BLE001  # a voice's code or the user's: the speech fails, the call goes on
            told = _told(error, "tts")
            self._failed(error, "tts")
            self._feed(Synthesised(self.speech, step, "failed", voice.seconds, told))
            voice.end(complete=False)
        else:
            self._feed(Synthesised(self.speech, step, "end", voice.seconds))
            voice.end()
            self._measure_voice(step, spoken)

    def _sentence_begun(self, step: int, spoken: _Spoken) -> None:
        if not spoken.sentences:
            self._feed(Synthesised(self.speech, step, "sentence"))
        spoken.sentences += 1

    async def _pronounce(self, step: int, voicing: Voicing, spoken: _Spoken) -> None:
        """All that the voice makes of the text, with the words where they begin."""
        voice, wording = self._step(step).voice, spoken.wording
        sound = _Sound(self._sample_rate)
        labelled = False
        async with aclosing(voicing.speak(wording)) as pieces:
            async for piece in pieces:
                text, aligned = "", False
                if piece.text:
                    labelled = True
                    wording.cached += len(piece.text) if piece.cached else 0
                    before, text, certain = wording.label(piece.text)
                    aligned = piece.aligned and certain
                    if before:
                        voice.mark(before)
                elif not labelled and (read := wording.rest()):
                    voice.mark(read)  # the voice does not say where words are
                if spoken.first is None and len(piece.frame.pcm):
                    spoken.first = _now()
                await self._write(step, sound.push(piece.frame), text=text, aligned=aligned)
        await self._write(step, sound.flush())
        if read := wording.rest():
            voice.mark(read)

    def _measure_voice(self, step: int, spoken: _Spoken, *, cancelled: bool = False) -> None:
        began = spoken.wording.began
        if began is None:
            return
        self._measured(
            TTSMetrics(
                speech_id=self.speech,
                step=step,
                label=spoken.label,
                ttfb=spoken.first - began if spoken.first is not None else None,
                duration=_now() - began,
                audio_seconds=self._step(step).voice.seconds,
                characters=spoken.wording.characters,
                cached_characters=spoken.wording.cached,
                cancelled=cancelled,
            )
        )

    async def _write(self, step: int, pcm: Pcm, *, text: str = "", aligned: bool = False) -> None:
        voice = self._step(step).voice
        if voice.seconds == 0 and len(pcm):
            self._feed(Synthesised(self.speech, step, "first"))
        if len(pcm) or text:
            await voice.write(pcm, text=text, aligned=aligned)

    # --- pieces -----------------------------------------------------------------------------------------------------

    def _step(self, number: int) -> _Step:
        if number not in self._steps:
            self._steps[number] = _Step(TextChannel(), Voice(self._sample_rate))
        return self._steps[number]

    def _spawn(self, step: int, work: Coroutine[Any, Any, None], what: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"{what} {self.speech}.{step}")
        self._step(step).tasks.append(task)


@dataclass(slots=True)
class _Answer:
    """What a model has sent so far."""

    began: float
    first: float | None = None
    text: str = ""
    pieces: int = 0
    calls: list[RequestedCall] = field(default_factory=list)
    usage: Usage | None = None


@dataclass(slots=True)
class _Spoken:
    """What a voice has made so far. ``first``: when its first sound came; ``sentences``: that it has begun with."""

    wording: Wording
    label: str
    first: float | None = None
    sentences: int = 0


class _Sound:
    """Frames of any rate and number of channels to mono samples of one rate."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._resampler: Resampler | None = None

    def push(self, frame: AudioFrameLike) -> Pcm:
        if self._resampler is not None and self._resampler.source_rate == frame.sample_rate:
            return self._resampler.push(to_mono(frame))
        tail = self.flush()
        self._resampler = Resampler(frame.sample_rate, self._sample_rate)
        pcm = self._resampler.push(to_mono(frame))
        return np.concatenate((tail, pcm)) if len(tail) else pcm

    def flush(self) -> Pcm:
        return self._resampler.flush() if self._resampler is not None else np.zeros(0, dtype=np.int16)


def _has_content(chunk: TextDelta | AudioFrame) -> bool:
    return bool(chunk.text) if isinstance(chunk, TextDelta) else len(chunk.pcm) > 0


def _told(error: Exception, source: str) -> str:
    """The failure in words; one that is no provider's is a mistake in somebody's code, and logged as such."""
    if isinstance(error, ProviderError):
        return str(error)
    log.error("the code of a model or of a node failed", source=source, error=repr(error), at=raised_at(error))
    return f"{type(error).__name__}: {error}"


def _now() -> float:
    return asyncio.get_running_loop().time()
