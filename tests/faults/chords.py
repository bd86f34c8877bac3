"""A language of chords: each word is two tones at once, so that who said what when is measured and not guessed.

Agents speak it and callers do. A word survives codec, network and jitter buffer; a listener tells the words apart by
arithmetic, without a model, and knows when each began. What is no word of the language sounds as ``HUM``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenroom.audio import Pcm

__all__ = ["HUM", "PACE", "STORY", "WORDS", "Listener", "Word", "sound", "split"]

LOW = (350, 413, 487, 575, 678, 800, 944, 1114)
HIGH = (1320, 1530, 1775, 2060, 2390, 2770, 3215, 3730)
"""Hz. A word is the one of each that its place among ``WORDS`` gives."""
HUM = "hum"
WORDS = (
    *(HUM, "hello", "goodbye", "story", "novel", "drawl", "book", "booked", "unknown", "recall", "fine", "back"),
    *("sorry", "block", "leak", "leave", "what", "apple", "badger", "candle", "desert", "eagle", "forest", "garden"),
    *("harbour", "island", "jungle", "kettle", "ladder", "meadow", "needle", "orange", "pepper", "quarry", "river"),
    *("saddle", "table", "umbrella", "valley", "window", "yellow", "zebra", "anchor", "basket", "cherry", "donkey"),
    *("engine", "feather", "glove", "hammer", "insect", "jacket", "kitchen", "lemon", "mirror", "napkin", "oyster"),
    *("pencil", "rabbit", "spider", "tunnel", "violin", "walnut", "barrel"),
)
STORY = WORDS[17:]
"""Words that mean nothing to anybody, for long answers in which each word has one place."""
LENGTH, PAUSE = 0.16, 0.08
"""Seconds of a word, and of the silence after it."""
PACE = LENGTH + PAUSE
AMPLITUDE = 5000.0
WINDOW, HOP = 0.04, 0.01
CLEAR = 0.6
"""Share of a window's energy that is in the two tones; a window that holds less belongs to no word."""
LOUD = 500.0
LEAST = 0.05
"""Seconds of windows, all of one chord, that make a word."""

_PLACES = {word: place for place, word in enumerate(WORDS)}
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word that was heard; ``began`` and ``ended``: samples since the listener's first."""

    text: str
    began: int
    ended: int


def split(text: str) -> list[str]:
    """The words of a text, as they are heard."""
    return [word if word in _PLACES else HUM for word in _WORD.findall(text.lower())]


def sound(text: str, *, sample_rate: int) -> Pcm:
    """The words of ``text``, each followed by its pause."""
    at = np.arange(round(LENGTH * sample_rate)) / sample_rate
    edge = np.minimum(1.0, np.minimum(at, LENGTH - at) / 0.008)
    pause = np.zeros(round(PAUSE * sample_rate))
    pieces: list[NDArray[np.float64]] = []
    for word in split(text):
        low, high = (2 * np.pi * pitch for pitch in _pitches(word))
        pieces += [AMPLITUDE * edge * (np.sin(low * at) + np.sin(high * at)), pause]
    return np.asarray(np.concatenate(pieces or [pause]), dtype=np.int16)


class Listener:
    """Hears one stream of samples."""

    def __init__(self, sample_rate: int) -> None:
        self._window, self._hop = round(WINDOW * sample_rate), round(HOP * sample_rate)
        at = np.arange(self._window) / sample_rate
        shape = np.hanning(self._window)
        pitches = np.asarray((*LOW, *HIGH), dtype=np.float64)
        self._tones = shape * np.exp(-2j * np.pi * pitches[:, None] * at)
        self._energy = float(shape.sum()) ** 2 / self._window
        self._buffer = np.zeros(0)
        self._at = 0
        self._chord: tuple[int, int] | None = None
        self._began = 0
        self._seen = 0

    def hear(self, pcm: Pcm) -> Iterator[Word]:
        """The words that are over, or clearly begun, with these samples. Each comes once, as soon as it is sure."""
        self._buffer = np.concatenate((self._buffer, pcm))
        while len(self._buffer) >= self._window:
            word = self._step(self._chord_in(self._buffer[: self._window]))
            if word is not None:
                yield word
            self._buffer = self._buffer[self._hop :]
            self._at += self._hop

    def _step(self, chord: tuple[int, int] | None) -> Word | None:
        if chord != self._chord:
            self._chord, self._began, self._seen = chord, self._at, 0
        self._seen += 1
        if chord is None or self._seen != round(LEAST / HOP):
            return None
        place = chord[0] * len(HIGH) + chord[1]
        return Word(WORDS[place], self._began, self._at + self._window) if place < len(WORDS) else None

    def _chord_in(self, samples: NDArray[np.float64]) -> tuple[int, int] | None:
        power = float(samples @ samples)
        if power < LOUD**2 * len(samples):
            return None
        strength = np.abs(self._tones @ samples) ** 2
        low, high = int(np.argmax(strength[: len(LOW)])), int(np.argmax(strength[len(LOW) :]))
        # Of a sine of amplitude a, power is a^2 / 2 a sample, and strength a^2 / 4 times the square of the shape's sum.
        both = 2 * (strength[low] + strength[len(LOW) + high]) / (self._energy * self._window)
        weaker = min(strength[low], strength[len(LOW) + high])
        if both * len(samples) < CLEAR * power or weaker < 0.1 * (strength[low] + strength[len(LOW) + high]):
            return None
        return low, high


def _pitches(word: str) -> tuple[int, int]:
    low, high = divmod(_PLACES[word], len(HIGH))
    return LOW[low], HIGH[high]
