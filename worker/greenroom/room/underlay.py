"""LiveKit's audio source, and what is played beneath the voice that it is given: a bed.

The bed is queued ahead of the network, as the voice is, so that a busy loop does not interrupt it. It gives way to
nothing: when a voice comes, or when the bed is to sound otherwise, what has not left is taken back from the source, and
the same moments are handed over anew, with the voice, or as they are to sound now. So neither waits for a queue, and of
neither is a sample lost or heard twice.

The voice's own accounts (``room.tally``) know nothing of a bed: of the pieces that were sent they are told those that
held a voice.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import Protocol

import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from greenroom.audio import Pcm
from greenroom.room.tally import TICK, Count, audible

__all__ = ["Bed", "Source", "Underlay"]

PIECE = 0.05
"""Seconds of a bed that are handed over at once, at least."""
LOW = 0.05
"""Seconds of a voice that are still queued when the bed goes on behind it: what follows of the voice comes before."""
SETTLING_ATTEMPTS = 3


class Bed(Protocol):
    """What is played beneath a voice, for as long as it has something to play."""

    @property
    def playing(self) -> bool:
        """Whether there is anything to hear."""
        ...

    def read(self, samples: int) -> NDArray[np.float32]:
        """The next samples, exactly so many, in int16 units."""
        ...

    def rewind(self, samples: int) -> None:
        """The last ones did not leave: they are read again."""
        ...


class Source(Protocol):
    """What is needed of LiveKit's ``rtc.AudioSource``."""

    async def capture_frame(self, frame: rtc.AudioFrame) -> None: ...

    def clear_queue(self) -> None: ...

    async def aclose(self) -> None: ...


class Underlay:
    """``source`` plays 16 bit mono at ``sample_rate`` in pieces of ``TICK`` seconds, and is closed with this.

    ``ahead``: seconds of a bed that are queued. ``voice``: counts what the source is given, and has sent, of the voice;
    this is told of all that is sent (``batch``), and passes on what it has of the voice.
    """

    def __init__(self, source: Source, *, sample_rate: int, ahead: float, voice: Count | None = None) -> None:
        self._source = source
        self._rate = sample_rate
        self._ahead = ahead
        self._voice = voice
        self._tick = round(TICK * sample_rate)
        self._count = Count(self._tick)
        self._laid: deque[Pcm | None] = deque()
        """Of each piece that was handed over and not reported as sent: its voice."""
        self._beds: list[Bed] = []
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._anew = False
        self._held = False
        self._clears = 0
        self._cuts = 0

    # --- the voice ----------------------------------------------------------------------------------------------------

    def until_certain(self, now: float) -> float:
        """Seconds to wait until it is certain how much of a bed has left."""
        return self._count.until_certain(now) if self._beds else 0.0

    async def capture(self, pcm: Pcm, *, counted: Callable[[], None]) -> None:
        """Hand over whole pieces of a voice: right behind the voice that is queued, or at once.

        ``counted`` is called as that begins. It may wait up to 5 ms for a place between two ticks, where a bed is
        queued. The pieces are dropped when ``clear_queue`` comes before their turn.
        """
        cuts = self._cuts
        async with self._turn:
            if self._cuts != cuts:
                return
            back: list[Pcm] = []
            if self._laid and self._laid[-1] is None and self._count.queued(self._now()):
                back = self._take_back(self._between_ticks())
            counted()
            await self._lay([*back, *pcm.reshape(-1, self._tick)])
        if self._beds:
            self._wake.set()  # less is queued than the bed had filled up

    def clear_queue(self) -> None:
        """Drop the voice that has not left. The bed goes on."""
        self._cuts += 1
        self._take_back(self._now())
        self._wake.set()

    def hold(self) -> None:
        """Nobody hears: the bed stands still."""
        self._held = True

    def go_on(self) -> None:
        """It goes on."""
        self._held = False
        self._wake.set()

    # --- the bed ------------------------------------------------------------------------------------------------------

    def add(self, bed: Bed) -> None:
        """Play it too, from now on."""
        self._beds.append(bed)
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._run(), name="play a bed")
        self.changed()

    def remove(self, bed: Bed) -> None:
        """Not any more."""
        if bed in self._beds:
            self._beds.remove(bed)
            self.changed()

    def changed(self) -> None:
        """A bed is to sound otherwise from now on: at once, or, where a voice is queued, behind it."""
        self._anew = True
        self._wake.set()

    @property
    def queued(self) -> float:
        """Seconds of anything that have not left."""
        return self._count.queued(self._now()) / self._rate

    def batch(self, pieces: int, now: float) -> None:
        """So many of the pieces that were handed over have been sent, since the batch before."""
        self._count.batch(pieces, now)
        alone = sum(self._laid.popleft() is None for _ in range(min(pieces, len(self._laid))))
        if self._voice is not None:
            self._voice.batch(pieces - alone, now)

    async def aclose(self) -> None:
        """Silence, for good."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        await self._source.aclose()

    async def _run(self) -> None:
        """Keep the bed queued."""
        while True:
            self._wake.clear()
            if self._anew:
                self._anew = False
                await self._settled()
                async with self._turn:
                    if not self._sounding():
                        self._take_back(self._now())
                        await self._lay_bed()
                continue
            due = self._due()
            if due is not None and due <= 0.0:
                async with self._turn:
                    await self._lay_bed()
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(due):
                    await self._wake.wait()

    def _due(self) -> float | None:
        """Seconds until more of the bed is to be handed over; ``None`` while there is none."""
        if self._held or not any(bed.playing for bed in self._beds):
            return None
        return self.queued - (LOW if self._sounding() else self._ahead - PIECE)

    def _sounding(self) -> bool:
        """Whether any of the voice is queued."""
        queued = self._count.queued(self._now()) // self._tick
        return any(piece is not None for piece in islice(reversed(self._laid), queued))

    async def _lay_bed(self) -> None:
        """Fill the queue up."""
        due = self._due()
        if due is not None and due <= 0.0:
            await self._lay([None] * round((self._ahead - self.queued) / TICK))

    async def _settled(self) -> None:
        """Wait for a place between two ticks."""
        for _ in range(SETTLING_ATTEMPTS):
            if not (wait := self._count.until_certain(self._now())):
                return
            await asyncio.sleep(wait)

    # --- the source ---------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _between_ticks(self) -> float:
        now = self._now()
        for _ in range(SETTLING_ATTEMPTS):
            if not (wait := self._count.until_certain(now)):
                break
            time.sleep(wait)
            now = self._now()
        return now

    def _take_back(self, now: float) -> list[Pcm]:
        """Empty the source; the voice that has not left."""
        self._source.clear_queue()
        self._clears += 1
        queued = min(self._count.queued(now) // self._tick, len(self._laid))
        self._count.drop(now)
        taken = [self._laid.pop() for _ in range(queued)]
        for bed in self._beds:
            bed.rewind(queued * self._tick)
        return [piece for piece in reversed(taken) if piece is not None]

    async def _lay(self, pieces: list[Pcm | None]) -> None:
        """Hand over pieces of a voice, or of a bed alone. In turn."""
        if not pieces:
            return
        pcm = self._mixed(pieces)
        self._count.hand(len(pieces), self._now())
        self._laid.extend(pieces)
        clears = self._clears
        await self._source.capture_frame(rtc.AudioFrame(pcm.tobytes(), self._rate, 1, len(pcm)))
        if clears != self._clears:  # in three of a hundred cases the source takes a piece after it was cleared
            self._source.clear_queue()

    def _mixed(self, pieces: Iterable[Pcm | None]) -> Pcm:
        silence: Pcm = np.zeros(self._tick, dtype=np.int16)
        voice: Pcm = np.concatenate([silence if piece is None else piece for piece in pieces])
        if not self._beds:
            return voice
        mixed = voice.astype(np.float32)
        for bed in self._beds:
            mixed += bed.read(len(voice))
        return audible(np.asarray(np.rint(np.clip(mixed, -32768, 32767)), dtype=np.int16), self._tick)
