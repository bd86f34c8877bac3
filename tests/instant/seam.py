"""Where in the source each stretch of a recording comes from. Pure.

The source is cut into pieces of ``PIECE`` seconds; each is looked for in the recording by normalised correlation, near
where the whole words were found. A piece that is found says three things: which source time sounds at which time of
the recording, how alike the two are, and by how much it is louder.

At the ends of a recording that is not enough: a piece that is there only in part is found a few periods of the voice
away, where a whole one is. So the moment of an end is asked the other way round: the recording's last stretch, all of
which is there, is looked for in the source, and by its innovations, which no other period has
(``greenroom.room.preconnect.innovation``; but here the source is known, and all of it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from greenroom.audio import Pcm
from greenroom.room.preconnect.bands import banded
from greenroom.room.preconnect.innovation import innovations_alike
from tests.instant.words import Word

__all__ = ["ALIKE", "HOP", "PIECE", "SURE", "Found", "Ruler", "Sighting", "likeness"]

PIECE = 0.06
HOP = 0.02
REACH = 0.05
"""How far from where its neighbours lie a piece is looked for: a jitter buffer stretches and shortens by this much."""
ALIKE = 0.7
"""Correlation from which a piece counts as found. Opus at the bit rates of a browser's speech gives .85 to .99."""
SURE = 0.8
"""Correlation from which a whole word says where its neighbours are looked for."""
ASTRAY = 1.5
"""Seconds from where most words are, beyond which one was mistaken for another."""
QUIET = 400.0
"""Root mean square, int16, below which a piece of the source says nothing about where it is."""
STRETCH = 0.03
STRIDE = 0.01
AWAY = 0.2
"""Length of a stretch whose moment is asked, and how far from the end it may be where nothing sounds there, in which
strides. Seconds."""
ASIDE = 0.08
"""How far from where its neighbours lie the moment of a stretch is looked for. Seconds."""
CONTEXT = 0.04
"""What is before a stretch and is foretold from. Seconds."""
ITSELF = 0.5
"""Likeness of innovations from which a stretch is known. Of 37,000 places one is so much alike by chance where 20 ms
are compared."""
MOMENT = 0.002
SILENT = 40.0
"""Root mean square, int16, of a moment of the source in which there is nothing to be heard: 58 dB below full scale, 40
below the words."""

Samples = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Found:
    """A piece: ``source`` and ``place`` are the times of its middle. ``gain`` in dB."""

    source: float
    place: float
    alike: float
    gain: float

    @property
    def offset(self) -> float:
        """Source time minus place: it grows by what is missing and falls by what comes twice."""
        return self.source - self.place


@dataclass(frozen=True, slots=True)
class Sighting:
    """A whole word: where it begins, and how alike it is."""

    place: float
    alike: float


class Ruler:
    """Finds pieces of one source, at ``sample_rate``, in recordings at the same rate."""

    def __init__(self, source: Pcm, words: Sequence[Word], *, sample_rate: int) -> None:
        self.words = tuple(words)
        self.sample_rate = sample_rate
        self._source = source.astype(np.float64)
        self._banded = banded(source, sample_rate).wide
        length = round(PIECE * sample_rate)
        self._pieces = [
            (start / sample_rate, self._source[start : start + length])
            for start in range(0, len(source) - length, round(HOP * sample_rate))
            if _rms(self._source[start : start + length]) > QUIET
        ]

    def sounding(self, start: float, end: float) -> float:
        """Seconds of the source between two times of it in which there is sound; 0 where the end lies before."""
        step = round(MOMENT * self.sample_rate)
        first, last = (max(0, round(time * self.sample_rate)) for time in (start, end))
        moments = [self._source[at : min(at + step, last)] for at in range(first, last, step)]
        return sum(len(moment) for moment in moments if len(moment) and _rms(moment) > SILENT) / self.sample_rate

    def end(self, recording: Pcm, place: float, found: list[Found], *, ending: bool) -> float:
        """``moment`` near where the pieces that were found lie."""
        return self.moment(recording, place, near=place + _offset(found, place), ending=ending)

    def moment(self, recording: Pcm, place: float, *, near: float, ending: bool) -> float:
        """The source time of a place of a recording: of what is just before it, or (``ending`` is false) just behind,
        or where that is not known, of what is nearest and is known.

        ``near``: what is believed where nothing sounds at the place or not far from it.
        """
        length, context, aside = (round(seconds * self.sample_rate) for seconds in (STRETCH, CONTEXT, ASIDE))
        at, stride = round(place * self.sample_rate), round(STRIDE * self.sample_rate)
        nearest = at - length if ending else at
        strides = sorted(range(-round(AWAY / STRIDE), round(AWAY / STRIDE)), key=abs)
        for first in (nearest + stride * number for number in strides):
            if first < 0 or first + length > len(recording):
                continue
            start = max(0, first - context)
            stretch = banded(recording[start : first + length + 2], self.sample_rate).wide
            middle = round(near * self.sample_rate) + first - at
            begins = np.arange(max(0, middle - aside), min(middle + aside, len(self._source) - length), 3)
            if not len(begins):
                continue
            alike = innovations_alike(self._banded, begins, stretch, length, self.sample_rate)[:, first - start :]
            best, later = np.unravel_index(int(np.argmax(alike)), alike.shape)
            if alike[best, later] >= ITSELF:
                return float(begins[best] - later + at - first) / self.sample_rate
        return near

    def pieces(self, word: Word) -> int:
        """How many pieces a word has."""
        return sum(word.start <= start + PIECE / 2 <= word.end for start, _ in self._pieces)

    @cached_property
    def own(self) -> dict[str, int]:
        """How often each word is seen in the source itself: a voice may say two words alike."""
        return {word.text: len(self.sight(word, self._source)) for word in self.words}

    def sight(self, word: Word, recording: Pcm | Samples) -> list[Sighting]:
        """Everywhere that the word is, the likest first; places closer than its length are one."""
        wanted = self._source[round(word.start * self.sample_rate) : round(word.end * self.sample_rate)]
        alike = likeness(wanted, recording.astype(np.float64))
        sightings = []
        while len(alike) and (best := int(np.argmax(alike))) >= 0 and alike[best] >= ALIKE:
            sightings.append(Sighting(best / self.sample_rate, float(alike[best])))
            alike[max(0, best - len(wanted)) : best + len(wanted)] = -1.0
        return sightings

    def measure(self, recording: Pcm) -> list[Found]:
        """The pieces that are in the recording, in the order of the source."""
        anchors = self._anchors(recording)
        if not anchors:
            return []
        samples = recording.astype(np.float64)
        found = []
        for start, piece in self._pieces:
            best: Found | None = None
            for offset in _nearest(anchors, start):
                here = self._look(start, piece, samples, start - offset)
                if here is not None and (best is None or here.alike > best.alike):
                    best = here
            if best is not None and best.alike >= ALIKE:
                found.append(best)
        return found

    def _anchors(self, recording: Pcm) -> list[tuple[float, float]]:
        """(source time, offset) of the words that are there whole. One far from the others was mistaken for another."""
        sighted = [(word, each[0]) for word in self.words if (each := self.sight(word, recording))]
        offsets = [word.start - each.place for word, each in sighted if each.alike >= SURE]
        middle = float(np.median(offsets)) if offsets else 0.0
        return [
            (word.start, word.start - each.place)
            for word, each in sighted
            if each.alike >= SURE and abs(word.start - each.place - middle) < ASTRAY
        ]

    def _look(self, start: float, piece: Samples, samples: Samples, place: float) -> Found | None:
        first = max(0, round((place - REACH) * self.sample_rate))
        span = samples[first : max(0, round((place + REACH) * self.sample_rate) + len(piece))]
        if len(span) < len(piece):
            return None
        alike = likeness(piece, span)
        best = int(np.argmax(alike))
        there = span[best : best + len(piece)]
        gain = _rms(there) / _rms(piece)  # of what is there, however a codec changed its phases
        return Found(
            source=start + PIECE / 2,
            place=(first + best) / self.sample_rate + PIECE / 2,
            alike=float(alike[best]),
            gain=20 * float(np.log10(max(gain, 1e-6))),
        )


def _nearest(anchors: list[tuple[float, float]], time: float) -> list[float]:
    """The offsets of the words around a time: two before, two after."""
    before = [offset for at, offset in anchors if at <= time][-2:]
    return before + [offset for at, offset in anchors if at > time][:2]


def _offset(found: list[Found], place: float) -> float:
    """Source time minus place, at a place between pieces."""
    return float(np.interp(place, [each.place for each in found], [each.offset for each in found]))


def likeness(wanted: Samples, samples: Samples) -> Samples:
    """Normalised correlation of ``wanted`` with each place of ``samples`` that holds all of it."""
    if len(samples) < len(wanted):
        return np.zeros(0)
    size = 1 << (len(samples) + len(wanted) - 1).bit_length()
    product = np.fft.rfft(samples, size) * np.conj(np.fft.rfft(wanted, size))
    places = len(samples) - len(wanted) + 1
    correlation = np.fft.irfft(product, size)[:places]
    energy = np.concatenate([[0.0], np.cumsum(samples**2)])
    power = np.maximum(energy[len(wanted) :][:places] - energy[:places], 1.0)
    return np.asarray(correlation / np.sqrt(power * max(float(np.dot(wanted, wanted)), 1.0)))


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples**2)))
