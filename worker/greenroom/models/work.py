"""In the host: a request done by the provider that it is for, and a provider made ready to serve many."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeAlias, cast

import numpy as np

from greenroom.audio import AudioFrame, Pcm
from greenroom.dialog import history
from greenroom.errors import ProviderError
from greenroom.models.wire import Item, Judge, Likelihood, Recognize, Sound, Speak, Task, Use, Words
from greenroom.providers import BatchSTT, ChatContext, Heard, SentenceTTS, Transcript, TurnDetector, registry
from greenroom.providers.parallel import BatchRecognizer, Parallel
from greenroom.settings import ProviderSettings

__all__ = ["LONG", "SHAREABLE", "Shareable", "audio_of", "load", "perform", "perform_batch", "size_of"]

Shareable: TypeAlias = BatchSTT | SentenceTTS | TurnDetector

SHAREABLE: dict[str, type[Shareable]] = {"stt": BatchSTT, "tts": SentenceTTS, "turn": TurnDetector}
"""What can be shared of each kind: what is asked for one thing and answers it."""
LONG = {"stt": 8.0, "tts": 200.0, "turn": float("inf")}
"""The size above which a request is long: seconds of audio, characters."""

_ITEMS = {kind.__name__: kind for kind in (history.Message, history.FunctionCall, history.FunctionCallOutput)}


def load(use: Use, *, threads: int) -> tuple[Shareable, int, int]:
    """The provider with its model loaded, how many requests it works on at once, and how many in one batch.

    Blocks. Raises ``GreenroomError``, and whatever the plugin does.
    """
    kind = cast("registry.Kind", use.kind)
    provider = registry.build(kind, ProviderSettings(use.plugin, use.options))
    if not isinstance(provider, SHAREABLE.get(use.kind, ())):
        raise ProviderError(f"{type(provider).__name__} cannot be shared", provider=use.plugin)
    slots = max(1, min(provider.share(threads), threads)) if isinstance(provider, Parallel) else 1
    provider.load()
    batch = max(1, provider.batch) if isinstance(provider, BatchRecognizer) else 1
    return cast("Shareable", provider), slots, batch


def size_of(task: Task) -> float:
    """How much work a request is, in the unit of ``LONG``."""
    match task:
        case Recognize(pcm, sample_rate):
            return len(pcm) / 2 / max(sample_rate, 1)
        case Speak(sentence):
            return len(sentence)
        case Judge():
            return 1.0


async def perform(provider: Shareable, task: Task) -> AsyncGenerator[Item, None]:
    """Do one request. Raises what the provider raises; closing the generator stops the work."""
    match provider, task:
        case BatchSTT(), Recognize():
            yield _words(await provider.recognize(audio_of(task.pcm, task.sample_rate)))
        case SentenceTTS(), Speak(sentence):
            async with aclosing(provider.speak(sentence)) as frames:
                async for frame in frames:
                    yield Sound(frame.pcm.tobytes(), frame.sample_rate)
        case TurnDetector(), Judge():
            yield Likelihood(await provider.probability(_heard(task)))
        case _:
            raise TypeError(f"{type(provider).__name__} asked to {type(task).__name__}")


async def perform_batch(provider: BatchRecognizer, tasks: Sequence[Task]) -> list[Item]:
    """Do several requests of one kind in one go; an item for each."""
    audio = [audio_of(task.pcm, task.sample_rate) for task in tasks if isinstance(task, Recognize)]
    heard = await provider.recognize_batch(audio)
    if len(heard) != len(tasks):
        raise TypeError(f"{type(provider).__name__}: {len(heard)} transcripts of {len(tasks)} utterances")
    return [_words(one) for one in heard]


def audio_of(pcm: bytes, sample_rate: int) -> AudioFrame:
    samples: Pcm = np.frombuffer(pcm, dtype=np.int16)
    return AudioFrame(samples, sample_rate)


def _heard(task: Judge) -> Heard:
    context = ChatContext(_ITEMS[said.what](**said.fields) for said in task.context if said.what in _ITEMS)
    audio = None if task.pcm is None else audio_of(task.pcm, task.sample_rate)
    return Heard(context, task.text, audio, task.language)


def _words(heard: Transcript) -> Words:
    return Words(heard.text, heard.language, heard.confidence)
