"""The agent's voice as an ``AudioOutput``: one published track in front of LiveKit's audio source.

The source's own queue is kept shorter than it may be, so that handing it audio never waits in there: who waits, and
what has left, is decided by ``PacedQueue`` on the loop's clock.
"""

from __future__ import annotations

import asyncio

import numpy as np
import structlog
from livekit import rtc

from greenroom.audio import Pcm
from greenroom.room.pacing import PacedQueue

__all__ = ["DEVICE_LATENCY", "QUEUE", "Speaker"]

QUEUE = 0.2
"""Audio queued ahead of the network, seconds: enough for a busy loop, and all of it is dropped by ``clear``."""
DEVICE_LATENCY = 0.004
"""Seconds by which the source is ahead of the clock, since it plays in pieces of ``TICK``: 4 ± 4 ms, measured at a far
end by matching a noise that was cut off with what was heard of it."""
TICK = 0.01
"""The source plays whole pieces of this many seconds, and keeps what is shorter until more comes."""
RETURN_SETTLING = 0.1
"""Seconds from a participant's return until audio reaches them: LiveKit reports only a track's first subscription."""

log = structlog.get_logger(__name__)


class Speaker:
    """Published by ``AgentRoom.open_speaker``. Mono, 16 bit, ``sample_rate`` Hz."""

    def __init__(self, *, sample_rate: int = 24_000, ready_timeout: float = 5.0) -> None:
        self.sample_rate = sample_rate
        self._ready_timeout = ready_timeout
        self._queue = PacedQueue(sample_rate, limit=QUEUE)
        self._source = rtc.AudioSource(sample_rate, 1, queue_size_ms=round(2 * QUEUE * 1000))
        self._publication: rtc.LocalTrackPublication | None = None
        self._ready = asyncio.Event()
        self._settling: asyncio.TimerHandle | None = None
        self._tick = round(TICK * sample_rate)
        self._rest: Pcm = np.zeros(0, dtype=np.int16)
        self._padding: asyncio.TimerHandle | None = None
        self._handing: asyncio.Task[None] | None = None
        self._stale = False
        self._clears = 0
        self._closed = False

    @property
    def track_sid(self) -> str:
        """Of the published track; it changes when the connection had to be rebuilt. Empty before."""
        return self._publication.sid if self._publication is not None else ""

    async def publish(self, participant: rtc.LocalParticipant) -> None:
        """Show the track to the room."""
        track = rtc.LocalAudioTrack.create_audio_track("agent", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        self._publication = await participant.publish_track(track, options)

    async def push(self, pcm: Pcm) -> None:
        """Queue samples; waits while ``QUEUE`` seconds are queued. Returns early when ``clear`` is called."""
        await self._queue.push(pcm, self._send)

    def clear(self) -> None:
        """Silence at once."""
        self._clears += 1
        self._queue.clear()
        self._forget_rest()
        self._stale = self._handing is not None
        self._source.clear_queue()

    @property
    def queued(self) -> float:
        """Seconds that were pushed and are not on their way to the listener yet."""
        return max(0.0, self._queue.queued - DEVICE_LATENCY)

    async def wait_ready(self) -> None:
        """Returns when a participant has subscribed, or after ``ready_timeout`` for clients that never do."""
        try:
            async with asyncio.timeout(self._ready_timeout):
                await self._ready.wait()
        except TimeoutError:
            log.warning("nobody has subscribed to the agent's voice", track=self.track_sid)
            self._ready.set()

    def subscribed(self) -> None:
        """The room's word that somebody hears the track."""
        self._cancel_settling()
        self._ready.set()

    def listener_left(self) -> None:
        """The room's word that the one who heard it is gone."""
        self._cancel_settling()
        self._ready.clear()

    def listener_returned(self) -> None:
        """The room's word that they are back and connected."""
        self._cancel_settling()
        self._settling = asyncio.get_running_loop().call_later(RETURN_SETTLING, self._ready.set)

    async def aclose(self) -> None:
        """Drop what is queued and release the source."""
        if self._closed:
            return
        self._closed = True
        self.clear()
        self._cancel_settling()
        await self._hand_over_finished()
        await self._source.aclose()

    async def _send(self, piece: Pcm, _at: float) -> None:
        clears = self._clears
        await self._hand_over_finished()
        if self._closed or self._clears != clears:
            return
        self._cancel_padding()
        pcm = np.concatenate((self._rest, piece)) if len(self._rest) else piece
        whole = len(pcm) - len(pcm) % self._tick
        self._rest = pcm[whole:]
        if len(self._rest):
            self._padding = asyncio.get_running_loop().call_at(self._queue.end - TICK, self._pad)
        if whole:
            self._hand_over(pcm[:whole])
        await self._hand_over_finished()

    def _pad(self) -> None:
        """Nothing followed: fill the last piece up with silence, or its sound would wait for the next speech."""
        if self._handing is not None:
            self._padding = asyncio.get_running_loop().call_later(TICK / 10, self._pad)
            return
        self._padding = None
        padded = np.zeros(self._tick, dtype=np.int16)
        padded[: len(self._rest)] = self._rest
        self._rest = self._rest[:0]
        self._hand_over(padded)

    def _hand_over(self, pcm: Pcm) -> None:
        # A task of its own: cancelling a push must not lose track of audio that the source has yet to take.
        self._handing = asyncio.get_running_loop().create_task(self._capture(pcm), name="hand audio to the source")

    async def _capture(self, pcm: Pcm) -> None:
        try:
            await self._source.capture_frame(rtc.AudioFrame(pcm.tobytes(), self.sample_rate, 1, len(pcm)))
            if self._stale:  # in three of a hundred cases the source takes a piece after it was cleared
                self._source.clear_queue()
        finally:
            self._stale = False
            self._handing = None

    async def _hand_over_finished(self) -> None:
        while self._handing is not None:
            await asyncio.shield(self._handing)

    def _forget_rest(self) -> None:
        self._cancel_padding()
        self._rest = self._rest[:0]

    def _cancel_padding(self) -> None:
        if self._padding is not None:
            self._padding.cancel()
            self._padding = None

    def _cancel_settling(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
