"""Which part of a known sound was heard when, in a recording of it that went through codec, network and jitter buffer.

The sound is noise, no two stretches of which are alike: a window of the recording fits one place of it and no other.
Where a stretch begins and ends is told within ``ACCURACY``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenroom.audio import Pcm, rms

__all__ = ["ACCURACY", "Stretch", "stretches"]

ACCURACY = 0.002
"""Seconds, of each end of a stretch. Measured with cuts at known samples: up to 0.8 ms, inwards."""
WINDOW = 0.05
"""Seconds that are looked for in the sound as a whole."""
EDGE = 0.002
"""Seconds within which a recording is, or is not, the sound at a place already known; some are spoilt by the codec."""
SPOILT = 8
"""Such windows in a row, each half a millisecond after the other, that end a stretch."""
ALIKE = 0.8
"""Correlation of a window that was found: 0.95 and more in all that went through, 0.2 by chance."""
QUIET = 300.0

Samples = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Heard without a break: the samples of the sound from ``begin`` to ``end``, from ``at`` of the recording on."""

    at: int
    begin: int
    end: int

    @property
    def until(self) -> int:
        """In the recording."""
        return self.at + self.end - self.begin


@dataclass(slots=True)
class _Found:
    """Windows in a row: where in the recording the first and the last of them are, and the sound's places there."""

    first: tuple[int, int]
    last: tuple[int, int]


def stretches(recording: Pcm, sound: Pcm, *, sample_rate: int) -> list[Stretch]:
    """The sound's stretches in the order in which they were heard."""
    window = round(WINDOW * sample_rate)
    finder = _Finder(recording.astype(np.float64), sound.astype(np.float64), edge=round(EDGE * sample_rate))
    found: list[_Found] = []
    for at in range(0, len(recording) - window, window // 2):
        if rms(recording[at : at + window]) < QUIET:
            continue
        ahead = found[-1].last[1] - found[-1].last[0] if found else 0
        place, alike = finder.find(at, window, expected=at + ahead)
        if alike < ALIKE:
            continue
        if found and abs(place - at - ahead) <= finder.drift:
            found[-1].last = (at, place)
        else:
            found.append(_Found((at, place), (at, place)))
    result = []
    for each in found:
        # A window that was found may reach out of the stretch by a third: the walks begin at its inner end.
        at, begin = finder.walk((each.first[0] + window, each.first[1] + window), -1)
        _, end = finder.walk(each.last, 1)
        result.append(Stretch(at, begin, end))
    return result


class _Finder:
    drift = 2
    """Samples by which two clocks shift a sound while it lasts."""

    def __init__(self, recording: Samples, sound: Samples, *, edge: int) -> None:
        self._recording = recording
        self._sound = sound
        self._edge = edge
        self._energy = np.cumsum(np.concatenate(([0.0], sound**2)))
        self._size = 1 << (2 * len(sound) - 1).bit_length()
        self._spectrum = np.fft.rfft(sound, self._size)

    def find(self, at: int, window: int, *, expected: int) -> tuple[int, float]:
        """Where in the sound this window of the recording is, and how much alike the two are."""
        piece = self._recording[at : at + window]
        near = range(expected - self.drift, expected + self.drift + 1)
        alike, place = max((self._alike(piece, place), place) for place in near)
        if alike >= ALIKE:
            return place, alike
        products = np.fft.irfft(self._spectrum * np.conj(np.fft.rfft(piece, self._size)), self._size)
        energy = self._energy[window:] - self._energy[:-window]
        everywhere = products[: len(energy)] / np.sqrt(np.maximum(energy * float(piece @ piece), 1.0))
        place = int(everywhere.argmax())
        return place, float(everywhere[place])

    def walk(self, start: tuple[int, int], step: int) -> tuple[int, int]:
        """Where the stretch around ``start`` ends in this direction, in the recording and in the sound."""
        at, place = start
        reached, misses = 0, 0
        for far in self._ways(at, place, step):
            piece = self._recording[at + far : at + far + self._edge]
            sound = self._sound[place + far : place + far + self._edge]
            if float(piece @ sound) >= 0.5 * float(sound @ sound):
                reached, misses = far, 0
            elif (misses := misses + 1) == SPOILT:
                break
        reached += self._edge // 2
        return at + reached, place + reached

    def _ways(self, at: int, place: int, step: int) -> Iterator[int]:
        room = min(len(self._recording) - at, len(self._sound) - place) - self._edge
        far = min(0, room)
        while -min(at, place) <= far <= room:
            yield far
            far += step * (self._edge // 4)

    def _alike(self, piece: Samples, place: int) -> float:
        there = self._sound[max(0, place) : max(0, place) + len(piece)]
        if len(there) < len(piece):
            return 0.0
        return float(piece @ there) / math.sqrt(max(float(piece @ piece) * float(there @ there), 1.0))
