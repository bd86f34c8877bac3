"""Sounds for the contracts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from greenroom.audio import AudioFrame, Pcm, Resampler

__all__ = ["Speech", "at_rate", "buzz", "frames", "noise"]


@dataclass(frozen=True, slots=True)
class Speech:
    """A recording and the words in it, lower-case and without punctuation; no words where none are to be found."""

    audio: AudioFrame
    words: str = ""


def buzz(seconds: float, sample_rate: int) -> AudioFrame:
    """Something loud without words: a 120 Hz saw tooth that swells four times a second."""
    at = np.arange(round(seconds * sample_rate)) / sample_rate
    saw = 2 * (120 * at % 1) - 1
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * at)
    return AudioFrame(np.round(8000 * saw * swell).astype(np.int16), sample_rate)


def noise(seconds: float, sample_rate: int, *, level: float) -> AudioFrame:
    """White noise of that RMS in int16 units; always the same."""
    samples = np.random.default_rng(7).normal(0, level, round(seconds * sample_rate))
    return AudioFrame(np.clip(samples, -32768, 32767).astype(np.int16), sample_rate)


def at_rate(frame: AudioFrame, sample_rate: int) -> AudioFrame:
    """The same sound at another rate."""
    if frame.sample_rate == sample_rate:
        return frame
    resampler = Resampler(frame.sample_rate, sample_rate)
    return AudioFrame(np.concatenate([resampler.push(frame.pcm), resampler.flush()]), sample_rate)


def frames(pcm: Pcm, sample_rate: int, *, at: float = 0.0, duration: float = 0.02) -> Iterator[AudioFrame]:
    """The sound in frames, as a room delivers it, with the times at which each began."""
    step = round(duration * sample_rate)
    for start in range(0, len(pcm), step):
        yield AudioFrame(pcm[start : start + step], sample_rate, at + start / sample_rate)
