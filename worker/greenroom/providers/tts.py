"""Text to speech.

Providers that take text as it comes implement ``TTS``; a model that speaks sentence by sentence implements
``SentenceTTS`` and gets the splitting for free.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from dataclasses import dataclass

from greenroom.audio import AudioFrame, silence
from greenroom.providers.sentences import sentences, speakable

__all__ = ["TTS", "SentenceTTS", "SynthesizedAudio"]


@dataclass(frozen=True, slots=True)
class SynthesizedAudio:
    """A piece of speech.

    ``frame``: mono int16 at ``TTS.sample_rate``, any length; empty at the end of a speech whose last words have no
    sound. ``text``: the words whose sound begins with this frame, spaces included, or empty when the frame continues
    the words before; over a whole speech the texts join to what was asked for. ``aligned``: the provider knows that the
    words begin here, and the session need not estimate.
    """

    frame: AudioFrame
    text: str = ""
    aligned: bool = False


class TTS(ABC):
    """A text to speech model or vendor."""

    sample_rate: int = 24000
    """Hz, of the audio that it makes."""

    @abstractmethod
    def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        """Speak a stream of text.

        Implemented as an async generator; audio should begin before the text has ended. Closing it (``aclose``, or
        cancelling the task that iterates it) must stop the work at once. Raises ``ProviderError``.
        """

    def load(self) -> None:  # noqa: B027  # loading early is optional
        """Load the model; called once in a warm process, before a job. Blocks. Idempotent."""


class SentenceTTS(TTS):
    """For models that speak one sentence at a time.

    Driven by whoever iterates: the next sentence is made when it is asked for, so that nothing runs ahead of a reader
    who has stopped. A reader that plays in real time keeps a buffer.
    """

    first_clause: int = 0
    """Characters after which the first sentence may be cut at a comma, so that its sound begins sooner; 0: never."""

    @abstractmethod
    def speak(self, sentence: str) -> AsyncGenerator[AudioFrame, None]:
        """The audio of one sentence, in pieces as they are made. An async generator; must not block the loop.

        ``sentence`` holds at least one letter or digit and no spaces around it. Raises ``ProviderError``.
        """

    async def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        label = ""
        async with aclosing(sentences(text, first_clause=self.first_clause)) as pieces:
            async for piece in pieces:
                label += piece
                if not speakable(piece):
                    continue
                async with aclosing(self.speak(piece.strip())) as audio:
                    async for frame in audio:
                        yield SynthesizedAudio(frame, label, aligned=bool(label))
                        label = ""
        if label:
            yield SynthesizedAudio(silence(0, self.sample_rate), label)
