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

    @property
    def end(self) -> float:
        """When the last sample leaves, or left."""
        return self._start + self._samples / self.sample_rate

    def queued(self, now: float) -> float:
        """Seconds of audio that have not left."""
        return max(0.0, self.end - now)

    def add(self, samples: int, now: float) -> float:
        """Queue samples; return when the first of them leaves."""
        if self.end <= now:
            self._start, self._samples = now, 0
        start = self.end
        self._samples += samples
        return start

    def clear(self, now: float) -> float:
        """Drop what has not left; return the seconds dropped."""
        dropped = self.queued(now)
        self._start, self._samples = min(self.end, now), 0
        return dropped


class PacedQueue:
    """``push`` for one caller at a time, holding at most ``limit`` seconds.

    ``clear`` also ends a ``push`` that waits: what it still held is dropped, and it returns.
    """

    def __init__(self, sample_rate: int, *, limit: float) -> None:
        self._clock = PlayClock(sample_rate)
        self._limit = limit
        self._piece = max(1, round(min(PIECE, limit) * sample_rate))
        self._waiting = 0
        self._turn: object | None = None
        self._gate: asyncio.Future[None] | None = None

    @property
    def end(self) -> float:
        """When the last queued sample leaves, or left."""
        return self._clock.end

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
                await self._wait_for_room(len(piece))
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
        if self._gate is not None and not self._gate.done():
            self._gate.set_result(None)
        return self._clock.clear(asyncio.get_running_loop().time())

    async def _wait_for_room(self, samples: int) -> None:
        loop = asyncio.get_running_loop()
        opens = self._clock.end + samples / self._clock.sample_rate - self._limit
        if opens <= loop.time():
            return
        gate = self._gate = loop.create_future()
        timer = loop.call_at(opens, _open, gate)
        try:
            await gate
        finally:
            timer.cancel()
            if self._gate is gate:
                self._gate = None


def _open(gate: asyncio.Future[None]) -> None:
    if not gate.done():
        gate.set_result(None)
