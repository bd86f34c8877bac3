"""A short queue in front of something that plays in real time: what has left it, and who has to wait.

Nothing reports back when a sample is played, and nothing needs to: samples leave at exactly their rate, so the loop's
clock and a count of samples say all. ``room.Speaker`` paces LiveKit's source with it, ``testing.LoopbackOutput`` its
recording: the two cannot differ.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from greenroom.audio import Pcm
from greenroom.errors import LocalProtocolError

__all__ = ["PIECE", "PacedQueue", "PlayClock"]

PIECE = 0.05
"""Longest stretch of audio that is queued at once. Seconds."""


class PlayClock:
    """Counts samples against the time. Pure: told the time, and exact, since it never adds up rounded durations."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._start = 0.0
        self._samples = 0
        self._stopped: float | None = None

    @property
    def end(self) -> float:
        """When the last sample leaves, or left. While the clock stands still: as if it went on when it stopped."""
        return self._start + self._samples / self.sample_rate

    def queued(self, now: float) -> float:
        """Seconds of audio that have not left."""
        return max(0.0, self.end - self._at(now))

    def stop(self, now: float) -> None:
        """Nothing leaves from now on."""
        if self._stopped is None:
            self._stopped = now

    def go_on(self, now: float) -> None:
        """What was queued leaves from now on."""
        if self._stopped is not None:
            if self.end > self._stopped:
                self._start += now - self._stopped
            self._stopped = None

    def add(self, samples: int, now: float) -> float:
        """Queue samples; return when the first of them leaves."""
        now = self._at(now)
        if self.end <= now:
            self._start, self._samples = now, 0
        start = self.end
        self._samples += samples
        return start

    def clear(self, now: float) -> float:
        """Drop what has not left; return the seconds dropped."""
        dropped = self.queued(now)
        self._start, self._samples = min(self.end, self._at(now)), 0
        return dropped

    def _at(self, now: float) -> float:
        return now if self._stopped is None else self._stopped


class PacedQueue:
    """``push`` for one caller at a time, holding at most ``limit`` seconds.

    ``clear`` also ends a ``push`` that waits: what it still held is dropped, and it returns. Between ``stop`` and
    ``go_on`` nothing leaves and every ``push`` waits.
    """

    def __init__(self, sample_rate: int, *, limit: float) -> None:
        self._clock = PlayClock(sample_rate)
        self._limit = limit
        self._piece = max(1, round(min(PIECE, limit) * sample_rate))
        self._waiting = 0
        self._stopped = False
        self._turn: object | None = None
        self._gate: asyncio.Future[None] | None = None

    @property
    def end(self) -> float:
        """When the last queued sample leaves, or left."""
        return self._clock.end

    @property
    def waiting(self) -> int:
        """Samples that a push which waits has not sent."""
        return self._waiting

    @property
    def queued(self) -> float:
        """Seconds handed to ``push`` that have not left, those of a push that waits included."""
        now = asyncio.get_running_loop().time()
        return self._clock.queued(now) + self._waiting / self._clock.sample_rate

    async def push(self, pcm: Pcm, send: Callable[[Pcm, float], Awaitable[None]]) -> None:
        """Hand ``pcm`` to ``send`` piece by piece as room comes, each with the time at which it begins to leave.

        Raises ``LocalProtocolError`` when another push has not ended: two voices would be woven into each other.
        """
        if self._turn is not None:
            raise LocalProtocolError("audio was pushed while another push had not ended")
        turn = self._turn = object()
        self._waiting = len(pcm)
        try:
            for start in range(0, len(pcm), self._piece):
                piece = pcm[start : start + self._piece]
                await self._wait_for_room(len(piece), turn)
                if self._turn is not turn:
                    return
                self._waiting -= len(piece)
                at = self._clock.add(len(piece), asyncio.get_running_loop().time())
                await send(piece, at)
                if self._turn is not turn:
                    return
        finally:
            if self._turn is turn:
                self._turn, self._waiting = None, 0

    def clear(self) -> float:
        """Drop what has not left; returns the seconds dropped."""
        self._turn, self._waiting = None, 0
        self._look_again()
        return self._clock.clear(asyncio.get_running_loop().time())

    def stop(self) -> None:
        """Have time stand still for what is queued."""
        self._stopped = True
        self._clock.stop(asyncio.get_running_loop().time())
        self._look_again()

    def go_on(self) -> None:
        """Have it go on."""
        self._stopped = False
        self._clock.go_on(asyncio.get_running_loop().time())
        self._look_again()

    async def _wait_for_room(self, samples: int, turn: object) -> None:
        loop = asyncio.get_running_loop()
        while self._turn is turn:
            opens = self._clock.end + samples / self._clock.sample_rate - self._limit
            if not self._stopped and opens <= loop.time():
                return
            gate = self._gate = loop.create_future()
            timer = None if self._stopped else loop.call_at(opens, _open, gate)
            try:
                await gate
            finally:
                if timer is not None:
                    timer.cancel()
                if self._gate is gate:
                    self._gate = None

    def _look_again(self) -> None:
        if self._gate is not None:
            _open(self._gate)


def _open(gate: asyncio.Future[None]) -> None:
    if not gate.done():
        gate.set_result(None)
