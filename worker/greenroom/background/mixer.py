"""All that is played behind the voice, as one sound. Pure: samples in, samples out, told nothing but how many.

Whoever plays the mix takes back what has not left, so that a change is heard at once and not after a queue: the mix is
then read again from an earlier position. So each part keeps the last samples that it gave, and what is asked of it
(volume, stop, ducking) begins with the next sample that is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from greenroom.audio import Pcm
from greenroom.background.envelope import Envelope, Samples

__all__ = ["Ducking", "Mixer", "Part", "Sound"]

REWIND = 1.0
"""Seconds that may be read again; more than any track's queue."""
SOFT = 0.005
"""The shortest fade: what begins or ends at once clicks. Seconds."""
TURN = 0.05
"""Seconds in which a volume changes."""
NOTHING: Pcm = np.zeros(0, dtype=np.int16)


class Sound(Protocol):
    """Where a part's samples come from: mono, at the mixer's rate."""

    def take(self, samples: int) -> Pcm:
        """The next ones, up to so many: fewer at the end, and where more are on their way."""
        ...

    @property
    def ready(self) -> bool:
        """There are samples, or there will be none."""
        ...

    @property
    def ended(self) -> bool:
        """No more will come."""
        ...

    def close(self) -> None:
        """Nobody wants more."""
        ...

    async def wait_closed(self) -> None:
        """Until nothing works for it any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ducking:
    """How far everything goes down while the agent speaks: to ``to`` of its volume, within ``attack`` seconds, and back
    within ``release`` seconds after it. 1.0: not at all."""

    to: float = 0.4
    attack: float = 0.1
    release: float = 0.6


class Part:
    """One sound in the mix, from ``read`` to its end. Positions are the mixer's."""

    def __init__(
        self, sound: Sound, *, sample_rate: int, volume: float = 1.0, fade_in: float = 0.0, fade_out: float = 0.0
    ) -> None:
        self.sound = sound
        self._rate = sample_rate
        self._volume = Envelope(volume)
        self._presence = Envelope(0.0)
        self._presence.go(1.0, samples=self._count(fade_in))
        self._fade_out = fade_out
        self._stopping = False
        self._start: int | None = None
        self._recent = NOTHING
        self._exhausted = False
        self._taken = 0  # samples that came from the sound, with the silence in the place of those that were late
        self.end: int | None = None
        """After its last sample, once that is known."""

    def playing(self, position: int) -> bool:
        """Whether there is, or may be, anything to hear of it from there on."""
        if self._start is None:
            return self.end is None and self.sound.ready
        return self.end is None or self.end > position

    @property
    def volume(self) -> float:
        """What it is, or is on its way to."""
        return self._volume.goal

    def turn(self, volume: float, *, seconds: float = TURN) -> None:
        """Change the volume."""
        self._volume.go(volume, samples=self._count(seconds))

    def stop(self, *, fade: float | None = None) -> None:
        """Fall silent within ``fade`` seconds, by default its own; that is its end."""
        if self._start is None:  # nobody has heard anything
            self.end = 0
        elif not self._stopping:
            self._stopping = True
            self._presence.go(0.0, samples=self._count(self._fade_out if fade is None else fade))

    def read(self, start: int, count: int) -> Samples | None:
        """Its samples at these positions; ``None`` where it has none."""
        if not self.playing(start):
            return None
        if self._start is None:
            self._start = start
        heard = self._raw(start - self._start, count)
        presence = self._presence.take(start, count)
        if self._stopping:
            self.end = min(self._presence.end, self.end if self.end is not None else self._presence.end)
        return heard * (self._volume.take(start, count) * presence)

    def _count(self, seconds: float) -> int:
        return round(max(seconds, SOFT) * self._rate)

    def _raw(self, begin: int, count: int) -> Samples:
        """From ``begin`` of its own samples on; before the first there is silence."""
        missing = begin + count - self._taken
        if missing > 0:
            self._pull(missing)
        first = self._taken - len(self._recent)
        pcm = self._recent[max(begin - first, 0) : max(begin + count - first, 0)]
        raw = np.zeros(count, dtype=np.float32)
        ahead = max(first - begin, 0)
        raw[ahead : ahead + len(pcm)] = pcm
        return raw

    def _pull(self, samples: int) -> None:
        pieces = [self._recent]
        while samples:
            piece = self.sound.take(samples)
            if not len(piece):
                break
            pieces.append(piece)
            samples -= len(piece)
        kept = np.concatenate(pieces)
        self._taken += len(kept) - len(self._recent)
        if self.sound.ended and not self._exhausted:
            self._exhausted = True
            end = (self._start or 0) + self._taken
            self.end = end if self.end is None else min(end, self.end)
        if samples:  # late, or over: the time goes on
            kept = np.concatenate((kept, np.zeros(samples, dtype=np.int16)))
            self._taken += samples
        self._recent = kept[-round(REWIND * self._rate) :]


class Mixer:
    """The sum of its parts, ducked. ``position``: that of the next sample."""

    def __init__(self, sample_rate: int, *, ducking: Ducking | None = None) -> None:
        self.sample_rate = sample_rate
        self.position = 0
        self._ducking = ducking or Ducking()
        self._gain = Envelope(1.0)
        self._parts: list[Part] = []

    @property
    def playing(self) -> bool:
        """Whether there is anything to hear from here on."""
        return any(part.playing(self.position) for part in self._parts)

    @property
    def next_end(self) -> int | None:
        """The first end of a part that is known."""
        return min((part.end for part in self._parts if part.end is not None), default=None)

    def add(self, part: Part) -> None:
        """Play it too, from the next sample on."""
        self._parts.append(part)

    def duck(self, down: bool) -> bool:
        """Go down, or come back; whether that changes anything."""
        seconds = 0.0
        if self.playing:
            seconds = max(self._ducking.attack if down else self._ducking.release, SOFT)
        gain = self._ducking.to if down else 1.0
        if gain == self._gain.goal:
            return False
        self._gain.go(gain, samples=round(seconds * self.sample_rate))
        return bool(self._parts)

    def read(self, samples: int) -> Samples:
        """The next ones."""
        start = self.position
        self.position += samples
        gain = self._gain.take(start, samples)
        heard = [piece for part in self._parts if (piece := part.read(start, samples)) is not None]
        if not heard:
            return np.zeros(samples, dtype=np.float32)
        mixed = heard[0] if len(heard) == 1 else np.sum(heard, axis=0, dtype=np.float32)
        return np.asarray(mixed * gain, dtype=np.float32)

    def rewind(self, samples: int) -> None:
        """The last ones were not heard: they are read again. At most ``REWIND`` seconds."""
        self.position -= samples

    def reap(self, left: int) -> list[Part]:
        """Take out, and return, the parts whose last sample is before position ``left``: all of them are heard."""
        over = [part for part in self._parts if part.end is not None and part.end <= left]
        for part in over:
            self._parts.remove(part)
            part.sound.close()
        return over

    def clear(self) -> list[Part]:
        """Take out all parts, and return them."""
        parts, self._parts = self._parts, []
        for part in parts:
            part.sound.close()
        return parts
