"""What a job has in place of a model that is shared: the same provider, whose work is done in the model host.

Each wraps the provider that the process would have had. That one is built, since it knows its rates, its labels and
what is wrong with its options, and never loads its model.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np

from greenroom.audio import AudioFrame
from greenroom.dialog.history import ChatContext
from greenroom.errors import ProviderError
from greenroom.models.client import HostLink
from greenroom.models.wire import Item, Judge, Likelihood, Recognize, Said, Sound, Speak, Task, Use, Words
from greenroom.providers import BatchSTT, Heard, SentenceTTS, Transcript, TurnDetector
from greenroom.providers.provider import Provider

__all__ = ["SharedSTT", "SharedTTS", "SharedTurnDetector"]


class _Shared(Provider):
    """What all of them leave to the host, or to the provider that they stand for."""

    def __init__(self, own: Provider, link: HostLink, use: Use) -> None:
        self._own, self._link, self._use = own, link, use

    @property
    def label(self) -> str:
        return self._own.label

    def load(self) -> None:
        self._link.load(self._use)

    async def warm_up(self) -> None:
        await self._link.warm_up(self._use)

    async def aclose(self) -> None:
        await self._link.aclose()
        await self._own.aclose()


class SharedSTT(_Shared, BatchSTT):
    """A transcriber of whole utterances."""

    def __init__(self, own: BatchSTT, link: HostLink, use: Use) -> None:
        self.sample_rate = own.sample_rate
        self.attempts = own.attempts
        super().__init__(own, link, use)

    async def recognize(self, audio: AudioFrame) -> Transcript:
        found = await _one(self._link, self._use, Recognize(audio.pcm.tobytes(), audio.sample_rate))
        if not isinstance(found, Words):
            raise _confused(self._use, found)
        return Transcript(found.text, language=found.language, confidence=found.confidence)


class SharedTTS(_Shared, SentenceTTS):
    """A voice. Sentences are found in the job, and made in the host."""

    def __init__(self, own: SentenceTTS, link: HostLink, use: Use) -> None:
        self.sample_rate = own.sample_rate
        self.first_clause = own.first_clause
        self.language = own.language
        super().__init__(own, link, use)

    async def speak(self, sentence: str) -> AsyncGenerator[AudioFrame, None]:
        async with aclosing(self._link.ask(self._use, Speak(sentence))) as items:
            async for item in items:
                if not isinstance(item, Sound):
                    raise _confused(self._use, item)
                yield AudioFrame(np.frombuffer(item.pcm, dtype=np.int16), item.sample_rate)


class SharedTurnDetector(_Shared, TurnDetector):
    """A judge of pauses."""

    def __init__(self, own: TurnDetector, link: HostLink, use: Use) -> None:
        self.modality = own.modality
        self.threshold = own.threshold
        self.sample_rate = own.sample_rate
        self.seconds = own.seconds
        super().__init__(own, link, use)

    async def probability(self, heard: Heard) -> float:
        audio = heard.audio
        # The conversation travels to who reads it: to one that judges by the sound it is of no use.
        context = said_of(heard.context) if self.modality == "text" else ()
        if audio is None:
            asked = Judge(context, heard.text, heard.language)
        else:
            asked = Judge(context, heard.text, heard.language, audio.pcm.tobytes(), audio.sample_rate)
        found = await _one(self._link, self._use, asked)
        if not isinstance(found, Likelihood):
            raise _confused(self._use, found)
        return found.value


def said_of(context: ChatContext) -> tuple[Said, ...]:
    """A conversation as it travels."""
    return tuple(
        Said(type(item).__name__, {name: getattr(item, name) for name in type(item).__slots__})
        for item in context.items
    )


async def _one(link: HostLink, use: Use, task: Task) -> Item | None:
    """The answer of one piece."""
    found: Item | None = None
    async with aclosing(link.ask(use, task)) as items:
        async for item in items:
            found = item
    return found


def _confused(use: Use, found: Item | None) -> ProviderError:
    return ProviderError(f"the model host answered with {type(found).__name__}", provider=use.plugin)
