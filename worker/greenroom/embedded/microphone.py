"""A microphone made of samples: real-time frames from an absolute schedule, silence where nothing is said."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from livekit import rtc

from greenroom.audio import Pcm
from greenroom.embedded.measure import audible_span

__all__ = ["SAMPLE_RATE", "Microphone", "Spoken"]

SAMPLE_RATE = 48000
FRAME = 0.02
AHEAD = 2
"""Frames kept in LiveKit's queue, so that a late wake-up of the loop is not heard as a hole."""
QUEUE_MS = 200
RESET_AFTER = 1.0


@dataclass(frozen=True, slots=True)
class Spoken:
    """When an utterance left: ``began`` its first audible sample, ``ended`` its last."""

    began: float
    ended: float


class _Utterance:
    """``position``: how many samples of it have been pushed."""

    def __init__(self, pcm: Pcm) -> None:
        span = audible_span(pcm, sample_rate=SAMPLE_RATE)
        self.pcm = pcm
        self.first, self.last = span if span is not None else (0, len(pcm))
        self.position = 0
        self.began: float | None = None
        self.spoken: asyncio.Future[Spoken] = asyncio.get_running_loop().create_future()


class Microphone:
    """Feeds one ``rtc.AudioSource``. Every frame has its time on one schedule, so there is no drift."""

    def __init__(self) -> None:
        self.source = rtc.AudioSource(SAMPLE_RATE, 1, queue_size_ms=QUEUE_MS)
        self._utterance: _Utterance | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send silence."""
        self._task = asyncio.create_task(self._run(), name="microphone")

    async def speak(self, pcm: Pcm) -> Spoken:
        """Say mono samples at ``SAMPLE_RATE``; returns when the last audible one has left for the server."""
        if self._utterance is not None:
            raise RuntimeError("the microphone is speaking already")
        utterance = self._utterance = _Utterance(pcm)
        spoken = await utterance.spoken
        await asyncio.sleep(max(0.0, spoken.ended - time.monotonic()))
        return spoken

    async def aclose(self) -> None:
        """Stop sending and free the source."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self.source.aclose()

    async def _run(self) -> None:
        size = round(FRAME * SAMPLE_RATE)
        try:
            started, frames = time.monotonic(), 0
            while True:
                due = started + (frames - AHEAD) * FRAME
                now = time.monotonic()
                if now < due:
                    await asyncio.sleep(due - now)
                elif now - due > RESET_AFTER:
                    # The machine slept or stalled: to send all of it now would only delay what follows.
                    started, frames = now, 0
                await self._push(size)
                frames += 1
        except BaseException as error:
            utterance, self._utterance = self._utterance, None
            if utterance is not None and not utterance.spoken.done():
                utterance.spoken.set_exception(ConnectionError(f"the microphone stopped: {error!r}"))
            raise

    async def _push(self, size: int) -> None:
        utterance = self._utterance
        pcm = np.zeros(size, dtype=np.int16)
        if utterance is not None:
            piece = utterance.pcm[utterance.position : utterance.position + size]
            pcm[: len(piece)] = piece
        await self.source.capture_frame(rtc.AudioFrame(pcm.tobytes(), SAMPLE_RATE, 1, size))
        if utterance is not None:
            self._follow(utterance, size)

    def _follow(self, utterance: _Utterance, size: int) -> None:
        """Note when the bounds of the sound leave: what was pushed leaves when what is queued before it has."""
        left = time.monotonic() + self.source.queued_duration  # of the last sample that was pushed
        utterance.position += size
        if utterance.began is None and utterance.position > utterance.first:
            utterance.began = left - (utterance.position - utterance.first) / SAMPLE_RATE
        if utterance.began is not None and utterance.position >= utterance.last and not utterance.spoken.done():
            utterance.spoken.set_result(
                Spoken(utterance.began, left - (utterance.position - utterance.last) / SAMPLE_RATE)
            )
        if utterance.position >= len(utterance.pcm):
            self._utterance = None
