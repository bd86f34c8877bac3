"""Realtime models: speech in, speech out, in one model that holds its own memory of the conversation.

A realtime model takes the place of the language model (``llm=``), and of transcriber and voice with it. It decides
nothing: the session says when the user's turn is over, asks for each response, plays it or not, and tells the model
what the user has heard of it. An implementation therefore turns off what its vendor would do by itself: answering when
the user pauses, and cancelling its answer when the user speaks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from greenroom.audio import AudioFrame
from greenroom.dialog.history import ChatContext, ChatItem
from greenroom.providers.llm import TextDelta, ToolCall, ToolChoice, ToolSchema, Usage
from greenroom.providers.provider import Provider
from greenroom.providers.stt import Transcript

__all__ = [
    "RealtimeChunk",
    "RealtimeHeard",
    "RealtimeModel",
    "RealtimeRequest",
    "RealtimeSession",
    "SpeechStarted",
    "SpeechStopped",
]


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The model's own voice activity: an utterance has begun. ``at``: capture time of its first voiced sample."""

    utterance: str
    at: float


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """It is over, and part of the model's memory. ``at``: capture time after its last voiced sample."""

    utterance: str
    at: float


RealtimeHeard: TypeAlias = SpeechStarted | SpeechStopped | Transcript
"""What a model says of the user's voice."""

RealtimeChunk: TypeAlias = TextDelta | AudioFrame | ToolCall | Usage
"""A piece of a response: words, their sound (mono, any length), a tool call, or what it cost."""


@dataclass(frozen=True, slots=True)
class RealtimeRequest:
    """What a response is asked for.

    ``id``: names the response afterwards. ``instructions``: in place of the session's, for this response; ``None``: the
    session's. ``tools``: likewise. ``chat_ctx``: the conversation that this response alone is made from, in place of
    the model's memory; the response joins the memory all the same.
    """

    id: str
    instructions: str | None = None
    tools: tuple[ToolSchema, ...] | None = None
    tool_choice: ToolChoice = "auto"
    chat_ctx: ChatContext | None = None


class RealtimeSession(ABC):
    """One conversation with a realtime model.

    Its memory is made of what it heard (utterances), what it said (responses), and what it was told (``add``). None of
    the methods that return nothing blocks or raises: a connection that fails is made again, with the memory as it was,
    and what cannot be mended is raised as ``ProviderError`` from the iterator or from ``respond``. An outage that is
    being mended may be raised from the iterator too, once, as ``retryable``: for who watches.
    """

    @abstractmethod
    def push(self, frame: AudioFrame) -> None:
        """Take the next frame of the user's audio, at ``RealtimeModel.sample_rate``."""

    @abstractmethod
    def start_of_speech(self, utterance: str, *, at: float) -> None:
        """The session's voice activity found an utterance. ``at``: capture time of its first sample, in the past.

        What was pushed before that need not be kept. Not called when the model finds utterances itself.
        """

    @abstractmethod
    def end_of_speech(self, utterance: str) -> None:
        """The utterance is over: it joins the memory as the user's words, and a final transcript of it is due if the
        model transcribes. Not called when the model finds utterances itself."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[RealtimeHeard]:
        """What the model hears. Transcripts carry their utterance. Ends after ``aclose``; after a ``ProviderError`` the
        session iterates again."""

    @abstractmethod
    def respond(self, request: RealtimeRequest) -> AsyncGenerator[RealtimeChunk, None]:
        """Make a response to the memory as it is. An async generator; one at a time.

        Closing it must stop the response at once: what was yielded of it stays in the memory. Words should come no
        later than their sound. Raises ``ProviderError``.
        """

    @abstractmethod
    def truncate(self, response: str, *, seconds: float, text: str) -> None:
        """The user heard no more of a response than this: its first ``seconds``, which is ``text``.

        0 seconds: nothing, and the memory is to forget its words. Its tool calls stay. Called once it has ended.
        """

    @abstractmethod
    def add(self, item: ChatItem) -> None:
        """Something joins the memory that the model neither heard nor said: typed words, what a tool returned, words
        that another voice spoke."""

    @abstractmethod
    def update(
        self,
        *,
        instructions: str | None = None,
        tools: Sequence[ToolSchema] | None = None,
        chat_ctx: ChatContext | None = None,
    ) -> None:
        """From the next response on. ``None`` leaves as it is; ``chat_ctx`` (without instructions) replaces the memory,
        utterances included."""

    @abstractmethod
    async def aclose(self) -> None:
        """Stop at once."""


class RealtimeModel(Provider):
    """A speech to speech model or vendor."""

    sample_rate: int = 24000
    """Hz, of the frames that ``push`` takes."""
    speaks: bool = True
    """Its responses have sound; else the session's TTS speaks their words."""
    transcribes: bool = True
    """It gives transcripts of the user's words; else the session needs an STT."""

    @abstractmethod
    def session(self, *, detect_speech: bool) -> RealtimeSession:
        """A fresh conversation. ``detect_speech``: the model is to find the user's utterances itself."""
