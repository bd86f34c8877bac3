"""What the simulated caller says: synthesised text, or a recording."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from greenroom.audio import AudioFrame, Pcm, Resampler, read_wav
from greenroom.embedded.measure import audible_span
from greenroom.errors import GreenroomError, SettingsError
from greenroom.providers.registry import build
from greenroom.settings import ProviderSettings

__all__ = ["Utterance", "recorded", "spoken"]

VOICE = "piper"


@dataclass(frozen=True, slots=True)
class Utterance:
    """``text``: its words, or the name of the recording. ``pcm``: mono samples at the rate that was asked for."""

    text: str
    pcm: Pcm


async def spoken(text: str, *, sample_rate: int) -> Utterance:
    """The words in the voice of the ``piper`` plugin, the same sound for the same words.

    Raises ``GreenroomError`` that says what to install.
    """
    try:
        voice = build("tts", ProviderSettings(VOICE, {"variation": 0}))
    except GreenroomError as error:
        raise SettingsError(f"{error}; to speak text, or give a recording with --wav", key="--say") from error
    await asyncio.to_thread(voice.load)
    async with aclosing(voice.synthesize(_once(text))) as audio:
        pieces = [piece.frame.pcm async for piece in audio]
    if not pieces:
        raise SettingsError(f"{text!r} has no words to say", key="--say")
    return Utterance(text, _at_rate(AudioFrame(np.concatenate(pieces), voice.sample_rate), sample_rate))


def recorded(path: Path, *, sample_rate: int) -> Utterance:
    """A wav file of any rate. Raises ``SettingsError`` that names it when it cannot be read or holds only silence."""
    try:
        audio = read_wav(path)
    except (OSError, ValueError) as error:
        raise SettingsError(str(error), key="--wav") from error
    pcm = _at_rate(audio, sample_rate)
    if audible_span(pcm, sample_rate=sample_rate) is None:
        raise SettingsError(f"{path}: nothing in it is loud enough to be heard", key="--wav")
    return Utterance(path.name, pcm)


def _at_rate(audio: AudioFrame, sample_rate: int) -> Pcm:
    resampler = Resampler(audio.sample_rate, sample_rate)
    return np.concatenate([resampler.push(audio.pcm), resampler.flush()])


async def _once(text: str) -> AsyncIterator[str]:
    yield text
