"""How loud a voice is, changed while it speaks and without a click."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenroom.audio import Pcm

__all__ = ["LOUDEST", "RAMP", "Gain", "checked_volume"]

RAMP = 0.03
"""Seconds in which one volume becomes another: too slow to click, too quick to be noticed."""
LOUDEST = 4.0
"""The greatest volume, four times as loud as the voice was made: 12 dB."""
KEPT = 2.0
"""Seconds of changes that are remembered, to take samples back: more than any track's queue."""
KNEE = 0.8 * 32767
"""Where a voice that is made louder begins to be rounded off, so that it does not crackle at full scale."""


def checked_volume(volume: float) -> float:
    """The volume, if it is one. Raises ``ValueError``."""
    if not 0.0 <= volume <= LOUDEST:
        raise ValueError(f"the volume is {volume}; expected 0 (silent) to 1 (as made), at most {LOUDEST:g}")
    return float(volume)


@dataclass(frozen=True, slots=True)
class _Change:
    """From the sample ``start`` on the volume goes from ``before`` to ``after``."""

    start: int
    before: float
    after: float


class Gain:
    """A factor on samples, one after the other, that goes to a new value along half a cosine.

    Samples that never left can be taken back: those that come in their place get the volume that these had.
    """

    def __init__(self, sample_rate: int, *, volume: float = 1.0) -> None:
        self._ramp = max(1, round(RAMP * sample_rate))
        self._kept = round(KEPT * sample_rate)
        self._count = 0
        self._changes = deque([_Change(-self._ramp, volume, volume)])

    @property
    def volume(self) -> float:
        """What it is, or is going to."""
        return self._changes[-1].after

    def jump(self, volume: float) -> None:
        """Be that at once: in a silence."""
        self._changes = deque([_Change(self._count - self._ramp, volume, volume)])

    def aim(self, volume: float) -> None:
        """Go there, beginning with the next sample."""
        if volume != self.volume:
            level = float(self._levels(1)[0])
            while self._changes and self._changes[-1].start >= self._count:
                self._changes.pop()
            self._changes.append(_Change(self._count, level, volume))

    def apply(self, pcm: Pcm) -> Pcm:
        """The next samples, as loud as they are to be; these themselves where nothing is to be changed."""
        last = self._changes[-1]
        steady = last.after if self._count >= last.start + self._ramp else None
        levels = self._levels(len(pcm)) if steady is None else steady
        self._count += len(pcm)
        while len(self._changes) > 1 and self._changes[1].start + self._ramp < self._count - self._kept:
            self._changes.popleft()
        if steady == 1.0:
            return pcm
        return _limited(pcm * levels)

    def rewind(self, samples: int) -> None:
        """Take back the last so many: at most ``KEPT`` seconds."""
        self._count -= samples
        while len(self._changes) > 1 and self._changes[-1].start >= self._count:
            self._changes.pop()

    def _levels(self, samples: int) -> NDArray[np.floating[Any]]:
        at = np.arange(self._count, self._count + samples)
        levels = np.full(samples, self._changes[0].before)
        for change in self._changes:
            done = np.clip((at - change.start) / self._ramp, 0.0, 1.0)
            course = change.after + (change.before - change.after) * (0.5 + 0.5 * np.cos(np.pi * done))
            levels = np.where(at >= change.start, course, levels)
        return levels


def _limited(samples: NDArray[np.floating[Any]]) -> Pcm:
    """As 16 bits: what is beyond the knee comes ever closer to full scale and does not reach it."""
    size = np.abs(samples)
    if size.max(initial=0.0) > KNEE:
        room = 32767 - KNEE
        rounded = np.copysign(KNEE + room * np.tanh((size - KNEE) / room), samples)
        samples = np.where(size > KNEE, rounded, samples)
    return np.asarray(np.rint(samples), dtype=np.int16)
