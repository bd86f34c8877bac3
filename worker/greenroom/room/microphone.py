"""The linked participant's microphone as an ``AudioInput``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np
from livekit import rtc

from greenroom.audio import AudioFrame, Pcm, Resampler
from greenroom.room.preconnect.lead import Lead
from greenroom.room.track_audio import FRAME, TrackAudio

__all__ = ["FRAME", "Microphone"]

HOLE = 0.05
"""Frames whose times are further apart than they are long do not follow each other. Seconds."""


class Microphone:
    """Frames of ``FRAME`` seconds from whichever track is attached; readers live through changes of the track.

    While a track is muted LiveKit delivers silence, which is handed on. While there is no track, time passes without
    frames: the next one's capture time shows the gap. What was recorded before anybody listened comes first, at once,
    with the times at which it was captured.

    ``sample_rate``: Hz, at which tracks are listened to. Who reads at another rate is given the same, resampled.
    """

    def __init__(self, *, sample_rate: int = 16_000) -> None:
        self.sample_rate = sample_rate
        self._audio: TrackAudio | None = None
        self._not_before = float("-inf")
        self._changed = asyncio.Event()
        self._closed = False
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def track_sid(self) -> str:
        """Of the attached track; empty when there is none."""
        return self._audio.sid if self._audio is not None else ""

    def attach(self, track: rtc.RemoteAudioTrack, *, lead: Lead | None = None) -> None:
        """Listen to this track from now on, and to no other. ``lead``: what was recorded of it before."""
        if self._closed or self.track_sid == track.sid:
            return
        self.detach()
        self._audio = TrackAudio(track, sample_rate=self.sample_rate, lead=lead, not_before=self._not_before)
        self._changed.set()

    def detach(self, sid: str | None = None) -> None:
        """Listen to nothing; with ``sid``, only if that is the attached track."""
        if self._audio is None or sid not in (None, self._audio.sid):
            return
        audio, self._audio = self._audio, None
        self._not_before = audio.end
        task = audio.close()
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
        heard: TrackAudio | None = None
        while not self._closed:
            audio = self._audio
            if audio is None or audio is heard:
                self._changed.clear()
                await self._changed.wait()
                continue
            heard = audio
            frames = audio.frames() if sample_rate == audio.sample_rate else _resampled(audio, sample_rate)
            async with aclosing(frames):
                async for frame in frames:
                    yield frame


async def _resampled(audio: TrackAudio, sample_rate: int) -> AsyncGenerator[AudioFrame, None]:
    """The same, at another rate, in frames of the same length."""
    size, ratio = round(FRAME * sample_rate), sample_rate / audio.sample_rate
    resampler = Resampler(audio.sample_rate, sample_rate)
    pending: Pcm = np.zeros(0, dtype=np.int16)
    owed = expected = 0.0
    async with aclosing(audio.frames()) as frames:
        async for frame in frames:
            if abs(frame.at - expected) > HOLE:
                resampler, pending, owed = Resampler(audio.sample_rate, sample_rate), pending[:0], 0.0
            expected = frame.at + frame.duration
            pending = np.concatenate((pending, resampler.push(frame.pcm)))
            owed += len(frame.pcm) * ratio  # samples since, those that the resampler has not given yet included
            while len(pending) >= size:
                yield AudioFrame(pending[:size], sample_rate, expected - owed / sample_rate)
                pending, owed = pending[size:], owed - size
