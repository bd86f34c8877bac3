"""What is to be played: a source, or a choice of several."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from greenroom.audio import AudioFrameLike
from greenroom.background.clips import BuiltinAudioClip

__all__ = ["AudioConfig", "AudioSource", "Playable", "choices", "choose"]

AudioSource: TypeAlias = "BuiltinAudioClip | str | Path | AsyncIterable[AudioFrameLike]"
"""A clip that comes along; the path of a file, of any format that FFmpeg reads; or frames, LiveKit's or greenroom's."""


@dataclass(frozen=True, slots=True)
class AudioConfig:
    """A source, and how it is played.

    ``volume``: 1.0 is as loud as it is, 0.5 half the amplitude. ``probability``: of being chosen among several; where
    they come to less than 1 in sum, nothing is played in the rest of the cases. ``fade_in`` and ``fade_out``: seconds
    at the beginning, and after ``stop()``.
    """

    source: AudioSource
    volume: float = 1.0
    probability: float = 1.0
    fade_in: float = 0.0
    fade_out: float = 0.0

    def __post_init__(self) -> None:
        for name in ("volume", "probability", "fade_in", "fade_out"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value!r}; expected a number from 0 on")


Playable: TypeAlias = "AudioSource | AudioConfig | Sequence[AudioSource | AudioConfig]"


def choices(audio: Playable | None) -> tuple[AudioConfig, ...]:
    """All that may be played, as configurations."""
    if audio is None:
        return ()
    if isinstance(audio, AudioConfig):
        return (audio,)
    if isinstance(audio, Sequence) and not isinstance(audio, str):
        return tuple(each if isinstance(each, AudioConfig) else AudioConfig(each) for each in audio)
    return (AudioConfig(audio),)


def choose(configs: Sequence[AudioConfig], *, draw: float | None = None) -> AudioConfig | None:
    """One of them, by their probabilities, or none. ``draw``: from 0 to below 1, by default at random."""
    total = sum(config.probability for config in configs)
    place = (random.random() if draw is None else draw) * max(total, 1.0)
    for config in configs:
        if place < config.probability:
            return config
        place -= config.probability
    return None
