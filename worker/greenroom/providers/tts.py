"""Text to speech.

Providers that take text as it comes implement ``TTS``; a model that speaks sentence by sentence implements
``SentenceTTS`` and gets the splitting for free.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass

from greenroom.audio import AudioFrame, silence
from greenroom.providers.provider import Provider
from greenroom.providers.sentences import sentences, speakable

__all__ = ["SENTENCE_BEGUN", "TTS", "SentenceTTS", "SynthesizedAudio"]

SENTENCE_BEGUN: ContextVar[Callable[[], None]] = ContextVar("sentence_begun")
"""Set by who reads a voice and wants to know when a sentence is handed to its model: called with each, before it is."""


@dataclass(frozen=True, slots=True)
class SynthesizedAudio:
    """A piece of speech.

    ``frame``: mono int16 at ``TTS.sample_rate``, any length; empty at the end of a speech whose last words have no
    sound. ``text``: the words whose sound begins with this frame, spaces included, or empty when the frame continues
    the words before; over a whole speech the texts join to what was asked for. ``aligned``: the provider knows that the
    words begin here, and the session need not estimate. ``cached``: it was made before, and no model was asked.
    """

    frame: AudioFrame
    text: str = ""
    aligned: bool = False
    cached: bool = False


class TTS(Provider):
    """A text to speech model or vendor."""

    sample_rate: int = 24000
    """Hz, of the audio that it makes."""
    variant: str = ""
    """What else than plugin and options decides how it sounds, such as an address that the environment names: speech
    that is kept of one variant is not played as another's."""

    @abstractmethod
    def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        """Speak a stream of text.

        Implemented as an async generator; audio should begin before the text has ended. Closing it (``aclose``, or
        cancelling the task that iterates it) must stop the work at once. Raises ``ProviderError``.
        """


class SentenceTTS(TTS):
    """For models that speak one sentence at a time.

    Driven by whoever iterates: the next sentence is made when it is asked for, so that nothing runs ahead of a reader
    who has stopped. A reader that plays in real time keeps a buffer.
    """

    first_clause: int = 0
    """Characters after which the first sentence may be cut at a comma, so that its sound begins sooner; 0: never."""
    language: str = ""
    """Of the text, such as ``de`` or ``pt-BR``: it decides where sentences end. Empty: not known."""

    @abstractmethod
    def speak(self, sentence: str) -> AsyncGenerator[AudioFrame, None]:
        """The audio of one sentence, in pieces as they are made. An async generator; must not block the loop.

        ``sentence`` holds at least one letter or digit and no spaces around it. Raises ``ProviderError``.
        """

    async def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        label = ""
        async with aclosing(sentences(text, first_clause=self.first_clause, language=self.language)) as pieces:
            async for piece in pieces:
                label += piece
                if not speakable(piece):
                    continue
                if (told := SENTENCE_BEGUN.get(None)) is not None:
                    told()
                async with aclosing(self.speak(piece.strip())) as audio:
                    async for frame in audio:
                        yield SynthesizedAudio(frame, label, aligned=bool(label))
                        label = ""
        if label:
            yield SynthesizedAudio(silence(0, self.sample_rate), label)
