"""The linked participant's microphone as an ``AudioInput``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np
import structlog
from livekit import rtc

from greenroom.audio import AudioFrame
from greenroom.room.capture import CaptureClock

__all__ = ["FRAME", "Microphone"]

FRAME = 0.032
"""Length of a frame, seconds: one window of the voice activity models (512 samples at 16 kHz)."""
BACKLOG = 60.0
"""Audio kept for a reader that has stopped reading, seconds; older audio is lost."""

log = structlog.get_logger(__name__)


class Microphone:
    """Frames of ``FRAME`` seconds from whichever track is attached; readers live through changes of the track.

    While a track is muted LiveKit delivers silence, which is handed on. While there is no track, time passes without
    frames: the next one's capture time shows the gap.
    """

    def __init__(self) -> None:
        self._track: rtc.RemoteAudioTrack | None = None
        self._attached = 0
        self._streams: set[rtc.AudioStream] = set()
        self._changed = asyncio.Event()
        self._closed = False
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def track_sid(self) -> str:
        """Of the attached track; empty when there is none."""
        return self._track.sid if self._track is not None else ""

    def attach(self, track: rtc.RemoteAudioTrack) -> None:
        """Listen to this track from now on, and to no other."""
        if self._closed or (self._track is not None and self._track.sid == track.sid):
            return
        self.detach()
        self._track = track
        self._attached += 1
        self._changed.set()

    def detach(self, sid: str | None = None) -> None:
        """Listen to nothing; with ``sid``, only if that is the attached track."""
        if self._track is None or sid not in (None, self._track.sid):
            return
        self._track = None
        for stream in self._streams:
            task = asyncio.get_running_loop().create_task(stream.aclose(), name="close microphone stream")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """End all readers."""
        self._closed = True
        self.detach()
        self._changed.set()
        if self._closing:
            await asyncio.gather(*self._closing)

    async def frames(self, sample_rate: int) -> AsyncGenerator[AudioFrame, None]:
        """Mono frames at ``sample_rate``, until ``aclose``. Several readers may listen at once."""
        not_before = float("-inf")
        heard = 0
        while not self._closed:
            track = self._track
            if track is None or heard == self._attached:
                self._changed.clear()
                await self._changed.wait()
                continue
            heard = self._attached
            async with aclosing(self._listen(track, sample_rate, not_before)) as frames:
                async for frame in frames:
                    not_before = frame.at + frame.duration
                    yield frame

    async def _listen(
        self, track: rtc.RemoteAudioTrack, sample_rate: int, not_before: float
    ) -> AsyncGenerator[AudioFrame, None]:
        loop = asyncio.get_running_loop()
        clock = CaptureClock(sample_rate, not_before=not_before)
        stream = rtc.AudioStream.from_track(
            track=track,
            sample_rate=sample_rate,
            num_channels=1,
            frame_size_ms=round(FRAME * 1000),
            capacity=round(BACKLOG / FRAME),
        )
        self._streams.add(stream)
        log.debug("listening", track=track.sid, sample_rate=sample_rate)
        try:
            async for event in stream:
                pcm = np.frombuffer(event.frame.data, dtype=np.int16)
                yield AudioFrame(pcm, sample_rate, at=clock.stamp(len(pcm), loop.time()))
        finally:
            self._streams.discard(stream)
            await stream.aclose()
