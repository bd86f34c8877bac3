"""A room in memory: a microphone that follows a script, and a loudspeaker that remembers what was heard and when.

Both keep the running loop's time, so in virtual time a minute of conversation takes none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np

from greenroom.audio import AudioFrame, Pcm, Resampler
from greenroom.errors import LocalProtocolError
from greenroom.room.pacing import PacedQueue

__all__ = ["LoopbackInput", "LoopbackOutput", "Segment"]

PITCH = 220.0
"""Of scripted speech, Hz."""


@dataclass(slots=True, eq=False)
class Segment:
    """A part of the script. ``start`` and ``end``: when it was captured, on the loop's clock, once it was."""

    seconds: float
    amplitude: float = 0.0
    pcm: Pcm | None = None
    sample_rate: int = 0
    gap: bool = False
    start: float | None = None
    end: float | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def played(self) -> None:
        """Returns when its last sample has been delivered."""
        await self.done.wait()

    def render(self, sample_rate: int) -> Pcm:
        """Its samples at ``sample_rate``."""
        if self.pcm is not None:
            resampler = Resampler(self.sample_rate, sample_rate)
            return np.concatenate((resampler.push(self.pcm), resampler.flush()))
        count = round(self.seconds * sample_rate)
        if not self.amplitude:
            return np.zeros(count, dtype=np.int16)
        wave = np.sin(2 * np.pi * PITCH / sample_rate * np.arange(count))
        return np.asarray(self.amplitude * 32767 * wave, dtype=np.int16)


class LoopbackInput:
    """An ``AudioInput`` fed by a script: what ``speak``, ``silence``, ``play`` and ``gap`` append, one after the other.

    Frames of ``frame`` seconds are delivered when their last sample has been captured, with the exact capture time of
    their first. After the script comes silence, until ``end``.
    """

    def __init__(self, *, frame: float = 0.032) -> None:
        self._frame = frame
        self._script: deque[Segment] = deque()
        self._ending = False
        self._reading = False

    def speak(self, seconds: float, *, amplitude: float = 0.5) -> Segment:
        """A voice-like tone; ``amplitude`` from 0 to 1."""
        return self._append(Segment(seconds, amplitude=amplitude))

    def silence(self, seconds: float) -> Segment:
        """A microphone that hears nothing."""
        return self._append(Segment(seconds))

    def play(self, pcm: Pcm, sample_rate: int) -> Segment:
        """Recorded audio, mono."""
        return self._append(Segment(len(pcm) / sample_rate, pcm=pcm, sample_rate=sample_rate))

    def gap(self, seconds: float) -> Segment:
        """No frames at all, as when a track is unpublished; rounded up to whole frames."""
        return self._append(Segment(seconds, gap=True))

    def end(self) -> None:
        """The room closes after what the script still holds."""
        self._ending = True

    async def frames(self, sample_rate: int) -> AsyncGenerator[AudioFrame, None]:
        """One reader at a time; what is captured while nobody reads is lost."""
        if self._reading:
            raise LocalProtocolError("two readers on one loopback microphone")
        self._reading = True
        try:
            async with aclosing(self._frames(sample_rate)) as frames:
                async for frame in frames:
                    yield frame
        finally:
            self._reading = False

    def _append(self, segment: Segment) -> Segment:
        self._script.append(segment)
        return segment

    async def _frames(self, sample_rate: int) -> AsyncGenerator[AudioFrame, None]:
        size = round(self._frame * sample_rate)
        origin, taken = asyncio.get_running_loop().time(), 0
        reel = _Reel(self._script, sample_rate)
        try:
            while not (self._ending and reel.empty):
                at = origin + taken / sample_rate
                gap = reel.gap()
                frame = None if gap else reel.take(size, at)
                taken += -(-gap // size) * size if gap else size
                await _sleep_until(origin + taken / sample_rate)
                if frame is not None:
                    yield AudioFrame(frame, sample_rate, at=at)
                else:
                    reel.gap_over(at, origin + taken / sample_rate)
                reel.delivered()
        finally:
            reel.abandon(origin + taken / sample_rate)


class _Reel:
    """The script as samples."""

    def __init__(self, script: deque[Segment], sample_rate: int) -> None:
        self._script = script
        self._sample_rate = sample_rate
        self._current: Segment | None = None
        self._rest: Pcm = np.zeros(0, dtype=np.int16)
        self._ended: list[Segment] = []

    @property
    def empty(self) -> bool:
        return self._current is None and not self._script

    def gap(self) -> int:
        """Samples that are missing from here on."""
        if self._current is None and self._script and self._script[0].gap:
            return max(1, round(self._script[0].seconds * self._sample_rate))
        return 0

    def gap_over(self, start: float, end: float) -> None:
        segment = self._script.popleft()
        segment.start, segment.end = start, end
        self._ended.append(segment)

    def take(self, size: int, at: float) -> Pcm:
        """The next samples; silence before a gap and after the end of the script."""
        frame: Pcm = np.zeros(size, dtype=np.int16)
        filled = 0
        while filled < size:
            if self._current is None:
                if not self._script or self._script[0].gap:
                    break
                self._current = self._script.popleft()
                self._current.start = at + filled / self._sample_rate
                self._rest = self._current.render(self._sample_rate)
            part = self._rest[: size - filled]
            frame[filled : filled + len(part)] = part
            filled, self._rest = filled + len(part), self._rest[len(part) :]
            if not len(self._rest):
                self._current.end = at + filled / self._sample_rate
                self._ended.append(self._current)
                self._current = None
        return frame

    def delivered(self) -> None:
        """What ended with the samples last taken has been heard."""
        for segment in self._ended:
            segment.done.set()
        self._ended.clear()

    def abandon(self, at: float) -> None:
        """Nobody reads on: what was being played ends here."""
        if self._current is not None:
            self._current.end = at
            self._ended.append(self._current)
        self.delivered()


class LoopbackOutput:
    """An ``AudioOutput`` with the queue of the real one, that keeps what left it.

    Nothing can sound at the same time as anything else: pushing while another push waits raises.
    """

    def __init__(self, *, sample_rate: int = 24_000, limit: float = 0.2, ready: bool = True) -> None:
        self.sample_rate = sample_rate
        self._queue = PacedQueue(sample_rate, limit=limit)
        self._sent: list[AudioFrame] = []
        self._ready = asyncio.Event()
        self.set_ready(ready)

    async def push(self, pcm: Pcm) -> None:
        """Queue samples; waits while the queue is full. Returns early when ``clear`` is called."""
        await self._queue.push(pcm, self._send)

    def clear(self) -> float:
        """Drop what has not left; returns its seconds."""
        dropped = self._queue.queued
        self._sent = self._left()
        self._queue.clear()
        return dropped

    @property
    def queued(self) -> float:
        """Seconds that were pushed and have not left."""
        return self._queue.queued

    @property
    def ready(self) -> bool:
        """What ``set_ready`` said."""
        return self._ready.is_set()

    async def wait_ready(self) -> None:
        """Returns once ``set_ready(True)`` was said."""
        await self._ready.wait()

    def set_ready(self, ready: bool) -> None:
        """Whether somebody can hear."""
        if ready:
            self._ready.set()
        else:
            self._ready.clear()

    @property
    def heard(self) -> list[AudioFrame]:
        """What has left so far: one frame for each stretch without a pause, ``at`` the time its first sample left."""
        stretches: list[list[AudioFrame]] = []
        for frame in self._left():
            last = stretches[-1][-1] if stretches else None
            if last is not None and abs(last.at + last.duration - frame.at) < 0.5 / self.sample_rate:
                stretches[-1].append(frame)
            else:
                stretches.append([frame])
        return [AudioFrame(np.concatenate([f.pcm for f in each]), self.sample_rate, each[0].at) for each in stretches]

    @property
    def heard_seconds(self) -> float:
        """How much has left so far."""
        return sum(frame.duration for frame in self._left())

    async def _send(self, piece: Pcm, at: float) -> None:
        self._sent.append(AudioFrame(piece.copy(), self.sample_rate, at))

    def _left(self) -> list[AudioFrame]:
        """The frames, and the parts of frames, that have left by now."""
        now = asyncio.get_running_loop().time()
        left: list[AudioFrame] = []
        for frame in self._sent:
            samples = min(len(frame.pcm), round((now - frame.at) * self.sample_rate))
            if samples > 0:
                left.append(AudioFrame(frame.pcm[:samples], self.sample_rate, frame.at))
        return left


async def _sleep_until(when: float) -> None:
    loop = asyncio.get_running_loop()
    woken = loop.create_future()
    timer = loop.call_at(when, woken.set_result, None)
    try:
        await woken
    finally:
        timer.cancel()
