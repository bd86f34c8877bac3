"""How loud something is, sample by sample: fades without a click, and the same again when samples are read again. Pure.

Positions are counts of samples since the mix began.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Envelope", "Samples"]

Samples = NDArray[np.float32]
"""Mono, shape ``(n,)``, in int16 units: -32768 to 32767, and beyond while they are summed."""
HORIZON = 4
"""Ramps that are kept for samples that are read again: nobody asks for more within the queue of a track."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """From ``low`` at ``start`` to ``high``, within ``length`` samples; after that it stays there."""

    start: int
    origin: float
    goal: float
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length

    def at(self, positions: NDArray[np.int64]) -> Samples:
        """Equal power: a quarter of a sine, flat at its loud end."""
        way = np.clip((positions - self.start) / max(self.length, 1), 0.0, 1.0) * (np.pi / 2)
        share = np.sin(way) if self.goal >= self.origin else 1.0 - np.cos(way)
        return np.asarray(self.origin + (self.goal - self.origin) * share, dtype=np.float32)


class Envelope:
    """A gain that moves. ``go`` takes effect with the next samples that are asked for."""

    def __init__(self, gain: float) -> None:
        self._ramps: list[Ramp] = [Ramp(0, gain, gain, 0)]
        self._wanted: tuple[float, int] | None = None

    @property
    def goal(self) -> float:
        """What it is, or is on its way to."""
        return self._wanted[0] if self._wanted is not None else self._ramps[-1].goal

    def go(self, gain: float, *, samples: int) -> None:
        """Be ``gain`` so many samples later."""
        self._wanted = (gain, samples)

    def take(self, start: int, count: int) -> float | Samples:
        """The gain of ``count`` samples from ``start`` on: one number where it is the same for all of them."""
        if self._wanted is not None:
            self._begin(start, *self._wanted)
            self._wanted = None
        current = self._ramps[-1]
        if start >= current.end:
            return current.goal
        positions = np.arange(start, start + count, dtype=np.int64)
        gains = self._ramps[0].at(positions)
        for ramp in self._ramps[1:]:
            gains = np.where(positions >= ramp.start, ramp.at(positions), gains)
        return gains

    @property
    def end(self) -> int:
        """The position from which on it has arrived."""
        return self._ramps[-1].end

    def _begin(self, start: int, gain: float, samples: int) -> None:
        """What was to begin here or later did not: these samples are read again."""
        kept = [ramp for ramp in self._ramps if ramp.start < start] or [self._ramps[0]]
        origin = float(kept[-1].at(np.asarray([start], dtype=np.int64))[0])
        self._ramps = [*kept[-HORIZON:], Ramp(start, origin, gain, samples)]
