"""One speech in the making: its text from the model or from the caller, its audio from the voice or from the caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from greenroom.audio import AudioFrameLike, Resampler, to_mono
from greenroom.dialog.events import Event, Generated, RequestedCall, Synthesised
from greenroom.dialog.history import ChatContext
from greenroom.errors import ProviderError
from greenroom.providers.llm import LLM, TextDelta, ToolCall, ToolChoice, ToolSchema
from greenroom.providers.tts import TTS
from greenroom.session.playout import Voice

__all__ = ["Content", "Making", "TextChannel"]


@dataclass(frozen=True, slots=True)
class Content:
    """What a speech is made of: given text and audio (``say``), or what the model is asked (``generate_reply``)."""

    text: str | AsyncIterable[str] | None = None
    audio: AsyncIterable[AudioFrameLike] | None = None
    instructions: str = ""
    chat_ctx: ChatContext | None = None
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


class TextChannel:
    """A step's text on its way to the voice. One reader; what was written before it came is kept."""

    def __init__(self) -> None:
        self._parts: asyncio.Queue[str | None] = asyncio.Queue()

    def write(self, text: str) -> None:
        self._parts.put_nowait(text)

    def end(self) -> None:
        self._parts.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[str]:
        while (part := await self._parts.get()) is not None:
            yield part


@dataclass(slots=True)
class _Step:
    text: TextChannel
    voice: Voice
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


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
    ) -> None:
        self.speech = speech
        self.content = content
        self.tokens = 0
        """Pieces of text that the model has sent."""
        self._sample_rate = sample_rate
        self._feed = feed
        self._failed = failed
        self._steps: dict[int, _Step] = {}

    def voice(self, step: int) -> Voice:
        return self._step(step).voice

    def generate(
        self, step: int, llm: LLM | None, context: ChatContext, tools: Sequence[ToolSchema], tool_choice: ToolChoice
    ) -> None:
        """Begin to make a step's text."""
        if self.content.given:
            self._spawn(step, self._read_given(step), "text")
        else:
            self._spawn(step, self._ask(step, llm, context, tools, tool_choice), "text")

    def synthesise(self, step: int, tts: TTS | None) -> None:
        """Begin to make a step's audio."""
        if self.content.audio is not None:
            self._spawn(step, self._read_audio(step, self.content.audio), "audio")
        else:
            self._spawn(step, self._speak(step, tts), "audio")

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

    async def aclose(self) -> None:
        self.cancel()
        tasks = [task for step in self._steps.values() for task in step.tasks]
        await asyncio.gather(*tasks, return_exceptions=True)

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

    async def _ask(
        self,
        step: int,
        llm: LLM | None,
        context: ChatContext,
        tools: Sequence[ToolSchema],
        tool_choice: ToolChoice,
    ) -> None:
        channel = self._step(step).text
        text = ""
        calls: list[RequestedCall] = []
        try:
            if llm is None:
                raise ProviderError(
                    "the agent has no language model; set llm in the YAML or on the Agent", provider="llm"
                )
            async with aclosing(llm.chat(context, tools=tools, tool_choice=tool_choice)) as chunks:
                async for chunk in chunks:
                    if isinstance(chunk, TextDelta) and chunk.text:
                        if not text:
                            self._feed(Generated(self.speech, step, "first"))
                        self.tokens += 1
                        text += chunk.text
                        channel.write(chunk.text)
                    elif isinstance(chunk, ToolCall):
                        calls.append(RequestedCall(chunk.call_id, chunk.name, chunk.arguments))
        except ProviderError as error:
            self._failed(error, "llm")
            self._feed(Generated(self.speech, step, "failed", text, error=str(error)))
        else:
            # The dialog learns of the tools before the voice can end, so that it knows what the silence then means.
            self._feed(Generated(self.speech, step, "end", text, tuple(calls)))
        channel.end()

    # --- audio ------------------------------------------------------------------------------------------------------

    async def _read_audio(self, step: int, audio: AsyncIterable[AudioFrameLike]) -> None:
        voice = self._step(step).voice
        resampler: Resampler | None = None
        if isinstance(self.content.text, str):
            voice.mark(self.content.text)
        elif self.content.text is not None:
            self._spawn(step, self._mark_text(step), "marks")
        try:
            async for frame in audio:
                if resampler is None or resampler.source_rate != frame.sample_rate:
                    resampler = Resampler(frame.sample_rate, self._sample_rate)
                await self._write(step, resampler.push(to_mono(frame)))
            if resampler is not None:
                await self._write(step, resampler.flush())
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

    async def _speak(self, step: int, tts: TTS | None) -> None:
        entry = self._step(step)
        voice = entry.voice
        labelled = False
        try:
            if tts is None:
                raise ProviderError("the agent has none; set tts in the YAML or on the Agent", provider="tts")
            resampler = Resampler(tts.sample_rate, self._sample_rate)
            spoken = _Noted(entry.text)
            async with aclosing(tts.synthesize(spoken)) as pieces:
                async for piece in pieces:
                    labelled = labelled or bool(piece.text)
                    if not labelled and spoken.noted:
                        voice.mark(spoken.take())  # the provider does not say where words are
                    await self._write(step, resampler.push(piece.frame.pcm), text=piece.text, aligned=piece.aligned)
            if not labelled and spoken.noted:
                voice.mark(spoken.take())
            await self._write(step, resampler.flush())
        except ProviderError as error:
            self._failed(error, "tts")
            self._feed(Synthesised(self.speech, step, "failed", voice.seconds, str(error)))
            voice.end(complete=False)
        else:
            self._feed(Synthesised(self.speech, step, "end", voice.seconds))
            voice.end()

    async def _write(self, step: int, pcm: Any, *, text: str = "", aligned: bool = False) -> None:
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

    def _spawn(self, step: int, work: Any, what: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"{what} {self.speech}.{step}")
        self._step(step).tasks.append(task)


class _Noted:
    """A text stream that remembers what has been read from it."""

    def __init__(self, text: AsyncIterable[str]) -> None:
        self._text = text
        self.noted = ""

    async def __aiter__(self) -> AsyncIterator[str]:
        async for part in self._text:
            self.noted += part
            yield part

    def take(self) -> str:
        text, self.noted = self.noted, ""
        return text
