"""Speech for servers that are small: each word is a tone, so that what is sent can be understood and what is spoken
can be read, to the sample, without a model.

``spell`` makes the sound of words, ``read`` finds the words in a sound. A word of ``VOCABULARY`` is read as itself,
any other as the one whose tone it shares. What is no such tone (noise, a buzz, silence) has no words in it.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from greenroom.audio import AudioFrame, Pcm

__all__ = ["GAP", "VOCABULARY", "WORD", "Placed", "read", "spell"]

WORD = 0.16
"""Seconds that a word takes."""
GAP = 0.08
"""Seconds of silence after each word."""
LOUDNESS = 8000
_SENTENCES = (
    "hello there what time is it",
    "the quick brown fox jumps over a lazy dog and goes on to find some water near old mill",
    "one two three four five six seven eight nine ten",
)
VOCABULARY = " ".join(_SENTENCES).split()
_LOWEST, _STEP = 500.0, 50.0  # Hz
_QUIET = 1000  # int16, the level below which there is no word


@dataclass(frozen=True, slots=True)
class Placed:
    """A word and where it is. Seconds."""

    word: str
    start: float
    end: float


def spell(text: str, sample_rate: int) -> tuple[AudioFrame, list[Placed]]:
    """The sound of the words in a text, and where each of them is; no sound for none."""
    placed: list[Placed] = []
    sounds: list[Pcm] = []
    samples = 0
    for word in re.findall(r"\w+(?:['’]\w+)*", text):
        sound = _tone(_number(word), sample_rate)
        start = samples / sample_rate
        placed.append(Placed(word, start, start + WORD))
        sounds += [sound, np.zeros(round(GAP * sample_rate), dtype=np.int16)]
        samples += sum(len(part) for part in sounds[-2:])
    return AudioFrame(np.concatenate(sounds or [np.zeros(0, dtype=np.int16)]), sample_rate), placed


def read(pcm: Pcm, sample_rate: int) -> list[Placed]:
    """The words in a sound; one that is cut off before its half is not read."""
    step = round(0.01 * sample_rate)
    windows = pcm[: len(pcm) // step * step].reshape(-1, step).astype(np.float64)
    loud = np.zeros(len(windows) + 2, dtype=np.int8)
    loud[1:-1] = np.sqrt((windows**2).mean(axis=1)) > _QUIET
    edges = np.flatnonzero(np.diff(loud))
    found: list[Placed] = []
    for start, end in zip(edges[::2] * step, edges[1::2] * step, strict=True):
        if (end - start) / sample_rate >= WORD / 2 and (word := _recognised(pcm[start:end], sample_rate)):
            found.append(Placed(word, float(start / sample_rate), float(end / sample_rate)))
    return found


def _number(word: str) -> int:
    lower = word.lower()
    return VOCABULARY.index(lower) if lower in VOCABULARY else zlib.crc32(lower.encode()) % len(VOCABULARY)


@lru_cache(256)
def _tone(number: int, sample_rate: int) -> Pcm:
    at = np.arange(round(WORD * sample_rate)) / sample_rate
    ramp = np.clip(np.minimum(at, WORD - at) / 0.005, 0, 1)
    return np.round(LOUDNESS * ramp * np.sin(2 * np.pi * (_LOWEST + _STEP * number) * at)).astype(np.int16)


def _recognised(pcm: Pcm, sample_rate: int) -> str:
    size = sample_rate // 5  # bins of 5 Hz
    spectrum = np.abs(np.fft.rfft(pcm[:size].astype(np.float64) * np.hanning(len(pcm[:size])), size))
    number = (float(np.argmax(spectrum)) * 5 - _LOWEST) / _STEP
    nearest = round(number)
    return VOCABULARY[nearest] if abs(number - nearest) < 0.3 and 0 <= nearest < len(VOCABULARY) else ""
