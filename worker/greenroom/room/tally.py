"""How much of the agent's voice has left. LiveKit's source tells nobody, but what it sends can be listened to.

The source sends one piece of ``TICK`` seconds after the other, at ticks of a clock that never drifts, silence where it
has nothing. The tally listens to its own track. It counts the pieces that are not silence, and from the batches that
they arrive in it knows when the ticks are, within a fraction of a millisecond. So what has left by now is what was
counted, and a piece for each tick since.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

import numpy as np
from livekit import rtc

from greenroom.audio import Pcm
from greenroom.room.stream import TrackStream

__all__ = ["BATCH", "TICK", "Batches", "Count", "Tally", "TickLine", "audible"]

TICK = 0.01
"""The source plays whole pieces of this many seconds, and keeps what is shorter until more comes."""
BATCH = 4
"""Pieces that come at once, to be cheap: 25 batches a second cost half a percent of a core."""
SETTLED, IMMINENT = 0.15, 0.7
"""The part of the way from one tick to the next in which the one has come for certain and the other has not: threads
are late on a busy machine, and what is handed over now has to be there in time."""
WINDOW = 250
"""Batches after which an old idea of when the ticks are is given up: ten seconds."""


def audible(pcm: Pcm, tick: int) -> Pcm:
    """Whole pieces of ``tick`` samples, none of them all zeros: such a one gets a single step, at -90 dB.

    A piece of a voice is told from the source's own silence by that.
    """
    pieces = pcm.reshape(-1, tick)
    silent = ~pieces.any(axis=1)
    if not silent.any():
        return pcm
    marked = pieces.copy()
    marked[silent, 0] = 1
    return marked.reshape(-1)


class TickLine:
    """When the ticks are, from the arrivals of batches: never early, often late. Pure.

    The least delayed batch of the last ``WINDOW`` to ``2 * WINDOW`` says it for all.
    """

    def __init__(self) -> None:
        self.batches = 0
        self._oldest = float("inf")
        self._newest = float("inf")

    def arrived(self, now: float) -> None:
        """The next batch is here."""
        self.batches += 1
        if self.batches % WINDOW == 0:
            self._oldest, self._newest = self._newest, float("inf")
        self._newest = min(self._newest, now - self.batches * BATCH * TICK)

    def tick(self, now: float) -> int:
        """How many have passed: those of all batches that came, and maybe more."""
        return max(int(self._position(now)), self.batches * BATCH)

    def until_safe(self, now: float) -> float:
        """Seconds to wait until no tick is so near that it may, or may not, have come."""
        fraction = self._position(now) % 1.0
        if SETTLED <= fraction <= IMMINENT:
            return 0.0
        return ((SETTLED - fraction) % 1.0) * TICK

    def _position(self, now: float) -> float:
        return (now - min(self._oldest, self._newest)) / TICK if self.batches else 0.0


class Count:
    """What of a voice the source holds: told what it is given and what was sent. Pure.

    It counts pieces of ``tick`` samples, by runs: a run begins with the first piece that an empty source is given.
    """

    def __init__(self, tick: int) -> None:
        self._tick = tick
        self._line = TickLine()
        self._since = 0  # tick at which the run began
        self._handed = 0  # pieces, in this run
        self._sent = 0  # of them, in the batches that came; below zero: what of the run before is still to come
        self._samples = 0  # of the voice, in this run
        self._padding: deque[tuple[int, int]] = deque()  # after which piece of the run: samples that are not

    def hand(self, pieces: int, now: float, *, padding: int = 0) -> None:
        """The source is given so many pieces; the last ``padding`` samples of them are not of the voice."""
        if self._left(now) >= self._handed:
            self._sent = min(0, self._sent - self._handed)
            self._since, self._handed, self._samples = self._line.tick(now), 0, 0
            self._padding.clear()
        self._handed += pieces
        self._samples += pieces * self._tick - padding
        if padding:
            self._padding.append((self._handed, padding))

    def queued(self, now: float) -> int:
        """Samples of the voice that the source has been given and that have not left."""
        left = self._left(now)
        padded = sum(samples for piece, samples in self._padding if piece <= left)
        return self._samples - left * self._tick + padded

    def drop(self, now: float) -> None:
        """The source was emptied."""
        self._samples -= self.queued(now)
        self._handed = self._left(now)

    def batch(self, pieces: int, now: float) -> None:
        """``BATCH`` pieces were sent; so many of them are of the voice."""
        self._sent += pieces
        self._line.arrived(now)

    def until_safe(self, now: float) -> float:
        """Seconds to wait until no tick is so near that it may, or may not, have come.

        0.0 when nothing is queued, or nothing has left yet: then it had better be silenced at once.
        """
        return self.until_certain(now) if self._left(now) > 0 else 0.0

    def until_certain(self, now: float) -> float:
        """The same, and not 0.0 where nothing has left yet: it is to be known how much has."""
        return self._line.until_safe(now) if self._left(now) < self._handed else 0.0

    def _left(self, now: float) -> int:
        """Pieces of this run that have left: those sent in the batches that came, and one for each tick since."""
        known = self._line.batches * BATCH
        sent = self._sent if self._since < known else 0
        return min(self._handed, sent + self._line.tick(now) - max(known, self._since))


class Batches(Protocol):
    """Who is told what was sent."""

    def batch(self, pieces: int, now: float) -> None:
        """``BATCH`` pieces were sent; so many of them are not silence."""
        ...


class Tally:
    """Listens to a track, and tells ``count`` what it sends."""

    def __init__(self, track: rtc.LocalAudioTrack, count: Batches, *, sample_rate: int) -> None:
        self._count = count
        self._tick = round(TICK * sample_rate)
        self._stream = TrackStream(track, sample_rate=sample_rate, frame_ms=round(BATCH * TICK * 1000), take=self._sent)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _sent(self, pcm: Pcm) -> None:
        voiced = int(np.count_nonzero(pcm.reshape(BATCH, self._tick).any(axis=1)))
        self._count.batch(voiced, asyncio.get_running_loop().time())
