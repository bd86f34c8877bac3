"""One track's audio, from the moment it is attached: kept for who comes to listen, after what was recorded before."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress

import structlog
from livekit import rtc

from greenroom.audio import AudioFrame, Pcm, rms
from greenroom.room.capture import CaptureClock
from greenroom.room.preconnect.lead import Lead
from greenroom.room.preconnect.seam import SEARCHED
from greenroom.room.preconnect.splice import Recording, Spliced, first_sound, splice, splice_late, stretch
from greenroom.room.stream import TrackStream

__all__ = ["FRAME", "TrackAudio"]

FRAME = 0.032
"""Length of a frame, seconds: one window of the voice activity models (512 samples at 16 kHz)."""
BACKLOG = 60.0
"""Audio kept for a reader that has stopped reading, seconds; older audio is lost."""
SETTLED = 0.2
"""When the last of a recording has arrived, what overlaps it has arrived live so much later at most. Seconds."""
PATIENCE = 0.5
"""For live audio to begin, where there is a recording to put before it. Seconds."""
COMPARABLE = 0.1
"""Live audio that is worth a comparison. Seconds."""
VOICE = 300.0
"""A frame with this root mean square, -41 dBFS, may be somebody speaking."""

log = structlog.get_logger(__name__)


class TrackAudio:
    """Frames of ``FRAME`` seconds at ``sample_rate``. The first reader is given all since the track was attached, and
    before that the recording of its ``lead``, if there is one; a later reader hears from then on.

    ``not_before``: no frame is stamped earlier.
    """

    def __init__(
        self, track: rtc.RemoteAudioTrack, *, sample_rate: int, lead: Lead | None = None, not_before: float
    ) -> None:
        self.sid = track.sid
        self.sample_rate = sample_rate
        self.end = not_before
        """The capture time after the last sample so far."""
        self._size = round(FRAME * sample_rate)
        self._lead = lead
        self._frames: deque[AudioFrame] = deque(maxlen=round(BACKLOG / FRAME))
        self._count = 0
        self._opening: list[AudioFrame] = []
        """The first frames, for a recording that comes late."""
        self._cursors: list[_Cursor] = []
        self._begun = False
        self._over = False
        self._changed = asyncio.Event()
        if lead is not None:
            lead.notify(self._changed.set)
        self._clock = CaptureClock(sample_rate, not_before=not_before)
        self._task = asyncio.get_running_loop().create_task(self._listen(track), name="listen to a track")

    async def frames(self) -> AsyncGenerator[AudioFrame, None]:
        """Until the track is closed; several readers may listen at once."""
        cursor = _Cursor(self._count if self._begun else self._count - len(self._frames))
        self._cursors.append(cursor)
        try:
            while self._lead is not None and not self._lead.settled and not self._begun and not self._over:
                await self._change()
            while True:
                if self._lead is not None and (recording := self._lead.take()) is not None:
                    spliced = await self._splice(recording, cursor)
                    for recorded in spliced.frames:
                        self._begun = True
                        yield recorded
                        await asyncio.sleep(0)  # whoever listens works on each, and the loop carries audio too
                frame = self._next(cursor)
                if frame is not None:
                    self._begun = True
                    yield frame
                    if cursor.next < self._count:
                        await asyncio.sleep(0)
                elif self._over:
                    return
                else:
                    await self._change()
        finally:
            self._cursors.remove(cursor)

    def close(self) -> asyncio.Task[None]:
        """Listen no more; readers end with what is there. Returns the task that is coming to its end."""
        self._over = True
        self._task.cancel()
        self._changed.set()
        return self._task

    async def _listen(self, track: rtc.RemoteAudioTrack) -> None:
        with suppress(asyncio.CancelledError):
            stream = TrackStream(track, sample_rate=self.sample_rate, frame_ms=round(FRAME * 1000), take=self._heard)
            log.debug("listening", track=self.sid, sample_rate=self.sample_rate)
            try:
                await stream.ended()
            finally:
                await stream.aclose()
        self._over = True
        self._changed.set()

    def _heard(self, pcm: Pcm) -> None:
        at = self._clock.stamp(len(pcm), asyncio.get_running_loop().time())
        self._add(AudioFrame(pcm, self.sample_rate, at))

    def _add(self, frame: AudioFrame) -> None:
        self._frames.append(frame)
        self._count += 1
        self.end = frame.at + frame.duration
        if self._lead is not None and len(self._opening) * FRAME < 2 * SEARCHED:
            self._opening.append(frame)
        if self._begun:
            wanted = min((cursor.next for cursor in self._cursors), default=self._count)
            while self._frames and self._count - len(self._frames) < wanted:
                self._frames.popleft()
        self._changed.set()

    def _next(self, cursor: _Cursor) -> AudioFrame | None:
        """The reader's next frame, where it is there."""
        cursor.next = max(cursor.next, self._count - len(self._frames))
        if cursor.next == self._count:
            return None
        frame = self._frames[cursor.next - self._count]
        cursor.next += 1
        if self._lead is not None and self._lead.open and rms(frame.pcm) > VOICE:
            self._lead.open = False
            self._lead.voice_heard()
        return frame

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    # --- what was recorded before -------------------------------------------------------------------------------------

    async def _splice(self, recording: Recording, cursor: _Cursor) -> Spliced:
        """Put a recording where it belongs, and the reader after it."""
        if recording.late:
            live, at = stretch(self._opening, recording.ended)
            spliced = await asyncio.to_thread(splice_late, recording, live, at, frame=self._size)
        else:
            live, at = await self._beginning(recording, cursor)
            spliced = await asyncio.to_thread(splice, recording, live, at, frame=self._size)
            cursor.next += spliced.resume
        if self._lead is not None:
            self._lead.joined(spliced)
        return spliced

    async def _beginning(self, recording: Recording, cursor: _Cursor) -> tuple[Pcm, float]:
        """The live audio's beginning, as soon as there is enough of it to find the recording's end in it."""
        loop = asyncio.get_running_loop()
        latest = max(loop.time(), recording.ended) + PATIENCE
        while True:
            there = [
                frame
                for index, frame in enumerate(self._frames, self._count - len(self._frames))
                if index >= cursor.next
            ]
            live, at = stretch(there, recording.ended)
            heard = (len(live) - first_sound(live)) / self.sample_rate if live.any() else 0.0
            settled = loop.time() >= recording.ended + SETTLED and heard >= COMPARABLE
            if heard >= SEARCHED or settled or loop.time() >= latest or self._over:
                cursor.next = self._count - len(there)
                return live, at
            with suppress(TimeoutError):
                async with asyncio.timeout_at(latest):
                    await self._change()


class _Cursor:
    """Where a reader is: the number of the next frame."""

    def __init__(self, following: int) -> None:
        self.next = following
