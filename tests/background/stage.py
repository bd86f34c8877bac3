"""A track in virtual time: LiveKit's source as it behaves, and what left it, sample by sample."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
from livekit import rtc

from greenroom.audio import Pcm
from greenroom.background.player import Ground
from greenroom.room.tally import BATCH, TICK, Batches, Count
from greenroom.room.underlay import Bed, Underlay

__all__ = ["AHEAD", "PHASE", "RATE", "LoopStage", "VirtualSource", "VirtualTrack", "played"]

RATE = 24_000
AHEAD = 0.2
PHASE = 0.0031
"""Of the source's ticks; the tests' own times never fall on one."""


class VirtualSource:
    """Every ``TICK`` it plays a piece of what it was given, silence where it has nothing; each ``BATCH`` is told."""

    def __init__(self, *, delay: float = 0.0) -> None:
        self.left: list[Pcm] = []
        self.began = 0.0
        self.captures = 0
        self.told: Batches | None = None
        self._delay = delay
        self._held: deque[Pcm] = deque()
        self._tick = round(TICK * RATE)
        self._sounding = 0
        self._task = asyncio.get_running_loop().create_task(self._run(), name="virtual source")

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        self.captures += 1
        if self._delay:
            await asyncio.sleep(self._delay)
        pcm = np.frombuffer(frame.data, dtype=np.int16).copy()
        assert len(pcm) % self._tick == 0
        self._held.extend(pcm.reshape(-1, self._tick))

    def clear_queue(self) -> None:
        self._held.clear()

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def pcm(self) -> Pcm:
        """All that left, silence included."""
        return np.concatenate([np.zeros(0, dtype=np.int16), *self.left])

    def heard(self, start: float, end: float) -> Pcm:
        """What left between two moments of the loop's clock."""
        first, last = (round((moment - self.began) * RATE) for moment in (start, end))
        return self.pcm[first:last]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self.began = loop.time() + PHASE
        silence: Pcm = np.zeros(self._tick, dtype=np.int16)
        for number in range(1, 1_000_000):
            await asyncio.sleep(self.began + (number - 1) * TICK - loop.time())
            piece = self._held.popleft() if self._held else silence
            self._sounding += bool(piece.any())
            self.left.append(piece)
            if number % BATCH == 0 and self.told is not None:
                self.told.batch(self._sounding, loop.time())
                self._sounding = 0


class VirtualTrack:
    """An underlay on such a source, with the voice's count beside it."""

    def __init__(self, *, delay: float = 0.0) -> None:
        self.sample_rate = RATE
        self.source = VirtualSource(delay=delay)
        self.voice = Count(round(TICK * RATE))
        self.underlay = Underlay(self.source, sample_rate=RATE, ahead=AHEAD, voice=self.voice)
        self.source.told = self.underlay

    async def say(self, pcm: Pcm) -> None:
        """Hand over whole pieces of a voice, as the speaker does."""
        pieces = len(pcm) // round(TICK * RATE)

        def counted() -> None:
            self.voice.hand(pieces, asyncio.get_running_loop().time())

        await self.underlay.capture(pcm, counted=counted)

    def cut(self) -> int:
        """Drop the voice, as the speaker does; returns how many samples of it were queued."""
        now = asyncio.get_running_loop().time()
        self.underlay.clear_queue()
        dropped = self.voice.queued(now)
        self.voice.drop(now)
        return dropped


class LoopStage:
    """A room of which only the tracks are there."""

    def __init__(self) -> None:
        self.voice = VirtualTrack()
        self.own: VirtualTrack | None = None
        self.closings: list[Callable[[], Awaitable[None]]] = []

    @property
    def source(self) -> VirtualSource:
        """Of the track that the background is on."""
        return (self.own or self.voice).source

    async def open_soundtrack(self, bed: Bed, *, options: rtc.TrackPublishOptions | None = None) -> Ground:
        self.own = VirtualTrack()
        return VirtualGround(bed, self.own.underlay)

    def mix(self, bed: Bed, *, sample_rate: int) -> Ground:
        assert sample_rate == RATE
        return VirtualGround(bed, self.voice.underlay)

    def before_leaving(self, closing: Callable[[], Awaitable[None]]) -> None:
        self.closings.append(closing)

    async def leave(self) -> None:
        for closing in self.closings:
            await closing()
        for track in (self.own, self.voice):
            if track is not None:
                await track.underlay.aclose()


class VirtualGround:
    def __init__(self, bed: Bed, underlay: Underlay) -> None:
        self._bed = bed
        self._underlay = underlay
        underlay.add(bed)

    @property
    def queued(self) -> float:
        return self._underlay.queued

    def changed(self) -> None:
        self._underlay.changed()

    async def aclose(self) -> None:
        self._underlay.remove(self._bed)


@asynccontextmanager
async def played() -> AsyncIterator[LoopStage]:
    stage = LoopStage()
    try:
        yield stage
    finally:
        await stage.leave()
