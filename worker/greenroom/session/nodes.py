"""The nodes of an agent: where its own code may stand in for a model, or between two of them.

A node that is not overridden costs nothing: the provider is called directly. One that is may be an async generator, or
return an async iterable, or a coroutine that does; ``None`` instead disables it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from greenroom.audio import AudioFrame, AudioFrameLike, to_mono
from greenroom.dialog.history import ChatContext
from greenroom.errors import ProviderError
from greenroom.providers.llm import LLM, LLMChunk, TextDelta, ToolCall, ToolChoice, Usage
from greenroom.providers.realtime import RealtimeModel
from greenroom.providers.stt import STT, STTStream, Transcript
from greenroom.providers.tts import TTS, SynthesizedAudio

if TYPE_CHECKING:
    from greenroom.session.agent import Agent
    from greenroom.session.tools import FunctionTool

__all__ = [
    "DefaultNodes",
    "ModelSettings",
    "NodeResult",
    "NodeSTT",
    "SpokenFrame",
    "default_node",
    "is_default",
    "opened",
    "raised_at",
    "speak",
    "think",
]

T = TypeVar("T")
Node = TypeVar("Node", bound=Callable[..., Any])

NodeResult: TypeAlias = AsyncIterable[T] | Awaitable[AsyncIterable[T] | None] | None
"""What a node may return."""

BACKLOG = 30.0
"""Audio kept for an ``stt_node`` that reads slowly. Seconds; beyond it the oldest is lost."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How the session wants the model to be used this time. ``tool_choice``: for ``llm_node``."""

    tool_choice: ToolChoice = "auto"


@dataclass(frozen=True, slots=True)
class SpokenFrame(AudioFrame):
    """A frame of the default voice, and the words that begin with it (see ``SynthesizedAudio``)."""

    text: str = ""
    aligned: bool = False
    cached: bool = False


def default_node(method: Node) -> Node:
    """Marks ``Agent``'s own nodes: an override does not have the mark."""
    method.is_default = True  # type: ignore[attr-defined]  # a mark on the function
    return method


def is_default(node: Callable[..., Any]) -> bool:
    return getattr(node, "is_default", False)


def raised_at(error: BaseException) -> str:
    """Where in the code an error was raised. Unlike a whole traceback it reads no source file, which would block."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else ""


async def opened(result: Any, name: str) -> AsyncGenerator[Any, None]:
    """What a node yields, whichever way it is written. Raises ``TypeError`` for one that is written wrongly."""
    given = await result if inspect.isawaitable(result) else result
    if given is None:
        return
    if isinstance(given, str):
        yield given
        return
    if not isinstance(given, AsyncIterable):
        raise TypeError(f"{name} returned {type(given).__name__}; expected an async iterable, or None")
    iterator = aiter(given)
    try:
        async for item in iterator:
            yield item
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


# --- llm_node -------------------------------------------------------------------------------------------------------


def think(
    agent: Agent,
    model: LLM | RealtimeModel | None,
    context: ChatContext,
    *,
    tools: Sequence[FunctionTool],
    tool_choice: ToolChoice,
) -> AsyncGenerator[LLMChunk, None]:
    """Ask the agent's model, or what stands in for it. ``context`` is handed over: the node may change it."""
    if not is_default(agent.llm_node):
        return _chunks(agent.llm_node(context, list(tools), ModelSettings(tool_choice=tool_choice)))
    if not isinstance(model, LLM):
        raise ProviderError("the agent has no language model; set llm in the YAML or on the Agent", provider="llm")
    return model.chat(context, tools=[tool.schema() for tool in tools], tool_choice=tool_choice)


async def _chunks(result: NodeResult[LLMChunk | str]) -> AsyncGenerator[LLMChunk, None]:
    async with aclosing(opened(result, "llm_node")) as chunks:
        async for chunk in chunks:
            if isinstance(chunk, str):
                yield TextDelta(chunk)
            elif isinstance(chunk, TextDelta | ToolCall | Usage):
                yield chunk
            else:
                raise TypeError(f"llm_node yielded {type(chunk).__name__}; expected str or an LLMChunk")


# --- tts_node -------------------------------------------------------------------------------------------------------


def speak(agent: Agent, tts: TTS | None, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
    """Have the agent's voice, or what stands in for it, speak a text."""
    if not is_default(agent.tts_node):
        return _audio(agent.tts_node(text, ModelSettings()), text)
    if tts is None:
        raise ProviderError("the agent has none; set tts in the YAML or on the Agent", provider="tts")
    return tts.synthesize(text)


async def _audio(
    result: NodeResult[AudioFrameLike | SynthesizedAudio], text: AsyncIterable[str]
) -> AsyncGenerator[SynthesizedAudio, None]:
    given = await result if inspect.isawaitable(result) else result
    if given is None:  # it is not to be heard, but read
        async for _ in text:
            pass
        return
    async with aclosing(opened(given, "tts_node")) as frames:
        async for frame in frames:
            if isinstance(frame, SynthesizedAudio):
                yield frame
            elif isinstance(frame, SpokenFrame):
                yield SynthesizedAudio(frame, frame.text, frame.aligned, frame.cached)
            elif isinstance(frame, AudioFrame):
                yield SynthesizedAudio(frame)
            else:
                yield SynthesizedAudio(AudioFrame(to_mono(frame), frame.sample_rate))


# --- stt_node -------------------------------------------------------------------------------------------------------


class NodeSTT(STT):
    """The transcriber of an agent that overrides ``stt_node``."""

    def __init__(self, agent: Agent, *, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._agent = agent

    def stream(self) -> STTStream:
        return _NodeStream(self._agent)


@dataclass(frozen=True, slots=True)
class _Mark:
    """Between two frames: an utterance begins (``at``) or ends (``None``)."""

    utterance: str
    at: float | None


class _NodeStream(STTStream):
    """Audio on its way through ``stt_node``. The marks travel with it, to the transcriber of the default node."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._queue: deque[AudioFrame | _Mark] = deque()
        self._held = 0.0
        self._wake = asyncio.Event()
        self._closed = False
        self._inner: STTStream | None = None

    def push(self, frame: AudioFrame) -> None:
        self._put(frame)
        self._held += frame.duration
        while self._held > BACKLOG:
            oldest = next(item for item in self._queue if isinstance(item, AudioFrame))
            self._queue.remove(oldest)
            self._held -= oldest.duration

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        self._put(_Mark(utterance, at))

    def end_of_speech(self, utterance: str) -> None:
        self._put(_Mark(utterance, None))

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        _EAR.set(self)  # the task that reads this does nothing else
        try:
            async with aclosing(opened(self._agent.stt_node(_Audio(self), ModelSettings()), "stt_node")) as heard:
                async for words in heard:
                    if not isinstance(words, str | Transcript):
                        raise TypeError(f"stt_node yielded {type(words).__name__}; expected str or Transcript")
                    yield Transcript(words) if isinstance(words, str) else words
        except ProviderError:
            raise
        except Exception as error:  # a node is the user's code: it fails as a provider does
            raise ProviderError(f"stt_node failed: {type(error).__name__}: {error}", provider="stt") from error
        while (item := await self.next()) is not None:  # it listens no more, and nobody is to wait for its words
            if isinstance(item, _Mark) and item.at is None:
                yield Transcript("", utterance=item.utterance)

    async def aclose(self) -> None:
        self._closed = True
        self._wake.set()
        if self._inner is not None:
            await self._inner.aclose()

    def inner(self, stt: STT) -> STTStream:
        """The stream of the agent's own transcriber: one for as long as this one lives, also when a node fails."""
        if self._inner is None:
            self._inner = stt.stream()
        return self._inner

    def _put(self, item: AudioFrame | _Mark) -> None:
        self._queue.append(item)
        self._wake.set()

    async def next(self) -> AudioFrame | _Mark | None:
        """What came next; ``None`` once closed."""
        while not self._queue and not self._closed:
            self._wake.clear()
            await self._wake.wait()
        if self._closed:
            return None
        item = self._queue.popleft()
        if isinstance(item, AudioFrame):
            self._held -= item.duration
        return item

    def tell(self, mark: _Mark) -> None:
        """The frames before this mark have gone through the node."""
        if self._inner is None:
            return
        if mark.at is not None:
            self._inner.start_of_speech(mark.utterance, at=mark.at)
        else:
            self._inner.end_of_speech(mark.utterance)


class _Audio:
    """What ``stt_node`` reads. When it asks for the next frame, it has dealt with those before."""

    def __init__(self, stream: _NodeStream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[AudioFrame]:
        return self

    async def __anext__(self) -> AudioFrame:
        while (item := await self._stream.next()) is not None:
            if isinstance(item, AudioFrame):
                return item
            self._stream.tell(item)
        raise StopAsyncIteration


_EAR: ContextVar[_NodeStream] = ContextVar("ear")
"""Inside ``stt_node``: the stream that it reads from."""


# --- what Agent.default offers ----------------------------------------------------------------------------------------


class DefaultNodes:
    """What each node does by itself, to be called from an override: ``Agent.default.llm_node(self, ...)``."""

    @staticmethod
    async def stt_node(
        agent: Agent, audio: AsyncIterable[AudioFrameLike], model_settings: ModelSettings
    ) -> AsyncGenerator[Transcript, None]:
        """Transcribe ``audio`` with the agent's STT. Of use inside ``stt_node`` alone."""
        stt, ear = agent.session.providers(agent).stt, _EAR.get(None)
        if stt is None:
            raise ProviderError("the agent has none; set stt in the YAML or on the Agent", provider="stt")
        if ear is None:
            raise RuntimeError("Agent.default.stt_node was called outside of stt_node")
        stream = ear.inner(stt)
        feeding = asyncio.ensure_future(_feed(audio, stream))
        words = aiter(stream)
        try:
            while (heard := await _unless_failed(anext(words, None), feeding)) is not None:
                yield heard
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    @staticmethod
    async def llm_node(
        agent: Agent, chat_ctx: ChatContext, tools: Sequence[FunctionTool], model_settings: ModelSettings
    ) -> AsyncGenerator[LLMChunk, None]:
        """Ask the agent's LLM."""
        model = agent.session.providers(agent).llm
        if not isinstance(model, LLM):
            raise ProviderError("the agent has no language model; set llm in the YAML or on the Agent", provider="llm")
        schemas = [tool.schema() for tool in tools]
        async with aclosing(model.chat(chat_ctx, tools=schemas, tool_choice=model_settings.tool_choice)) as chunks:
            async for chunk in chunks:
                yield chunk

    @staticmethod
    async def tts_node(
        agent: Agent, text: AsyncIterable[str], model_settings: ModelSettings
    ) -> AsyncGenerator[SpokenFrame, None]:
        """Speak ``text`` with the agent's TTS."""
        tts = agent.session.providers(agent).tts
        if tts is None:
            raise ProviderError("the agent has none; set tts in the YAML or on the Agent", provider="tts")
        async with aclosing(tts.synthesize(text)) as pieces:
            async for piece in pieces:
                frame = piece.frame
                yield SpokenFrame(frame.pcm, frame.sample_rate, 0.0, piece.text, piece.aligned, piece.cached)

    @staticmethod
    async def realtime_audio_output_node(
        agent: Agent, audio: AsyncIterable[AudioFrame], model_settings: ModelSettings
    ) -> AsyncGenerator[AudioFrame, None]:
        """Play what the realtime model says as it is."""
        async for frame in audio:
            yield frame

    @staticmethod
    async def transcription_node(
        agent: Agent, text: AsyncIterable[str], model_settings: ModelSettings
    ) -> AsyncGenerator[str, None]:
        """Show the words as they are."""
        async for words in text:
            yield words


async def _feed(audio: AsyncIterable[AudioFrameLike], stream: STTStream) -> None:
    async for frame in audio:
        stream.push(frame if isinstance(frame, AudioFrame) else AudioFrame(to_mono(frame), frame.sample_rate))


async def _unless_failed(wanted: Awaitable[T], other: asyncio.Future[None]) -> T:
    """The result of ``wanted``, unless ``other`` fails before it is there."""
    waiting = asyncio.ensure_future(wanted)
    try:
        await asyncio.wait({waiting, *(() if other.done() else (other,))}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done() and not other.cancelled() and (error := other.exception()) is not None:
            raise error
        return await waiting
    finally:
        waiting.cancel()
