"""The agent's voice as an ``AudioOutput``: one published track in front of LiveKit's audio source.

The source's own queue is kept shorter than it may be, so that handing it audio never waits in there: who waits is
decided by ``PacedQueue`` on the loop's clock. What has left is counted, by the ``Tally``.

Beneath the voice something else may be played (``room.underlay``), of which the voice's accounts know nothing.

Who has heard the agent and is gone misses nothing: from when the room says so the speaker holds. What has not left is
taken back from the source and kept, and pushes wait; once somebody hears again it goes on with the next sample.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

import numpy as np
import structlog
from livekit import rtc

from greenroom.audio import Pcm
from greenroom.room.pacing import PacedQueue
from greenroom.room.tally import TICK, Count, Tally, audible
from greenroom.room.underlay import Underlay

__all__ = ["QUEUE", "Speaker"]

QUEUE = 0.2
"""Audio queued ahead of the network, seconds: enough for a busy loop, and all of it is dropped by ``clear``."""
TAKEN_BACK = 4 * QUEUE
"""The source never holds more. Seconds."""
SETTLING_ATTEMPTS = 3
RETURN_SETTLING = 0.1
"""Seconds from a participant's return until audio reaches them: LiveKit reports only a track's first subscription."""

log = structlog.get_logger(__name__)


class Speaker:
    """Made and published by ``AgentRoom``. Mono, 16 bit, ``sample_rate`` Hz.

    Until it is published nobody can hear it, and nothing beneath the voice is played.
    """

    def __init__(self, *, sample_rate: int = 24_000, ready_timeout: float = 5.0) -> None:
        self.sample_rate = sample_rate
        self._ready_timeout = ready_timeout
        self._queue = PacedQueue(sample_rate, limit=QUEUE)
        self._source = rtc.AudioSource(sample_rate, 1, queue_size_ms=round(2 * QUEUE * 1000))
        self._count = Count(round(TICK * sample_rate))
        self.underlay = Underlay(self._source, sample_rate=sample_rate, ahead=QUEUE, voice=self._count)
        self.underlay.hold()
        self._track: rtc.LocalAudioTrack | None = None
        self._publication: rtc.LocalTrackPublication | None = None
        self._published = asyncio.Event()
        self._ready = asyncio.Event()
        self._settling: asyncio.TimerHandle | None = None
        self._reported = False
        """Whether the room has told of a subscription to the present publication: it does so once."""
        self._tick = round(TICK * sample_rate)
        self._rest: Pcm = np.zeros(0, dtype=np.int16)
        self._padding: asyncio.TimerHandle | None = None
        self._handing: asyncio.Task[None] | None = None
        self._clears = 0
        self._silences = 0
        """How often the source was emptied."""
        self._recent: Pcm = np.zeros(0, dtype=np.int16)
        """The last ``TAKEN_BACK`` seconds that it was given."""
        self._holding = False
        self._kept: Pcm = np.zeros(0, dtype=np.int16)
        """What goes out first, once it goes on."""
        self._going = asyncio.Event()
        self._tally: Tally | None = None
        self._held = 0  # samples that wait for the source to take others
        self._given = 0  # samples that it is about to be given
        self._closed = False

    @property
    def track_sid(self) -> str:
        """Of the published track; it changes when the connection had to be rebuilt. Empty before."""
        return self._publication.sid if self._publication is not None else ""

    async def publish(self, participant: rtc.LocalParticipant) -> None:
        """Show the track to the room; again, the same track, to a room that was entered anew.

        Raises LiveKit's ``PublishTrackError``.
        """
        if self._track is None:
            self._track = rtc.LocalAudioTrack.create_audio_track("agent", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        self._reported = False
        self._publication = await participant.publish_track(self._track, options)
        if self._tally is None:
            self._tally = Tally(self._track, self.underlay, sample_rate=self.sample_rate)
        if not self._published.is_set():
            self._published.set()
            if not self._holding:
                self.underlay.go_on()

    async def push(self, pcm: Pcm) -> None:
        """Queue samples; waits while ``QUEUE`` seconds are queued, and while whoever heard them is gone. Returns early
        when ``clear`` is called."""
        await self._queue.push(pcm, self._send)

    def clear(self) -> float:
        """Silence at once; returns the seconds that were queued.

        It waits up to 5 ms for a place between two ticks of the source, so that these are exact.
        """
        now = self._between_ticks()
        self.underlay.clear_queue()
        dropped = self._queued(now)
        self._clears += 1
        self._queue.clear()
        self._held = 0
        self._silenced(now)
        self._kept = self._kept[:0]
        self._going.set()
        return dropped

    @property
    def queued(self) -> float:
        """Seconds that were pushed and are not on their way to the listener yet."""
        return self._queued(asyncio.get_running_loop().time())

    @property
    def last_sound(self) -> float:
        """When the last sample left, or will have left, on the loop's clock. Now, while it is not known when."""
        return asyncio.get_running_loop().time() if self._holding else self._queue.end

    @property
    def ready(self) -> bool:
        """Whether a participant hears the track, as far as is known."""
        return self._ready.is_set() and self._published.is_set()

    async def wait_ready(self) -> None:
        """Returns when a participant has subscribed, or ``ready_timeout`` after the track is there, for clients that
        never do.

        When whoever had is gone, it returns when somebody hears again, however long that takes.
        """
        await self._published.wait()
        try:
            async with asyncio.timeout(self._ready_timeout):
                await self._ready.wait()
        except TimeoutError:
            if self._holding:
                await self._ready.wait()
            else:
                self._give_up()

    def subscribed(self) -> None:
        """The room's word that somebody hears the track."""
        self._reported = True
        self._audible()

    def listener_left(self) -> None:
        """The room's word that the one who heard it is gone, or that we are."""
        self._cancel_settling()
        self._ready.clear()
        self._hold()

    def listener_expected(self) -> None:
        """The room's word that they are back. A client that neither connects nor subscribes is waited for no longer
        than ``ready_timeout``."""
        if self._holding and self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(self._ready_timeout, self._give_up)

    def listener_returned(self) -> None:
        """The room's word that they are there and connected. To hear they have to subscribe: the first subscription is
        told, and waited for; a later one only takes a moment."""
        self._cancel_settling()
        loop = asyncio.get_running_loop()
        if self._reported:
            self._settling = loop.call_later(RETURN_SETTLING, self._audible)
        elif not self._ready.is_set():
            self._settling = loop.call_later(self._ready_timeout, self._give_up)

    async def aclose(self) -> None:
        """Drop what is queued and release the source."""
        if self._closed:
            return
        self._closed = True
        self.clear()
        self._cancel_settling()
        await self._hand_over_finished()
        if self._tally is not None:
            await self._tally.aclose()
        await self.underlay.aclose()

    def _between_ticks(self) -> float:
        """Now, or a moment later when the source might send a piece just now."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for _ in range(SETTLING_ATTEMPTS):  # a busy machine sleeps longer than it was asked to
            if not (wait := max(self._count.until_safe(now), self.underlay.until_certain(now))):
                break
            time.sleep(wait)
            now = loop.time()
        return now

    def _queued(self, now: float) -> float:
        waiting = self._queue.waiting + self._held + len(self._kept) + len(self._rest) + self._given
        return (waiting + self._count.queued(now)) / self.sample_rate

    def _hold(self) -> None:
        """Take back what has not left."""
        if self._holding or self._closed:
            return
        now = self._between_ticks()
        self.underlay.clear_queue()
        self.underlay.hold()
        unheard = self._count.queued(now) + self._given
        self._kept = np.concatenate((self._recent[max(0, len(self._recent) - unheard) :], self._rest))
        self._silenced(now)
        self._holding = True
        self._going.clear()
        self._queue.stop()

    def _go_on(self) -> None:
        if not self._holding:
            return
        self._holding = False
        kept, self._kept = self._kept, self._kept[:0]
        self.underlay.go_on()
        self._queue.go_on()
        self._pass_on(kept)
        self._going.set()

    def _silenced(self, now: float) -> None:
        """The source was emptied."""
        self._silences += 1
        self._given = 0
        self._forget_rest()
        self._count.drop(now)

    async def _send(self, piece: Pcm, _at: float) -> None:
        clears = self._clears
        self._held = len(piece)
        try:
            await self._hand_over_finished()
            while self._holding and self._clears == clears:
                self._going.clear()
                await self._going.wait()
                await self._hand_over_finished()
        finally:
            self._held = 0
        if self._closed or self._clears != clears:
            return
        self._pass_on(piece)
        await self._hand_over_finished()

    def _pass_on(self, piece: Pcm) -> None:
        """Hand over the whole ticks of what there is; what is left over waits for more, or is padded."""
        self._cancel_padding()
        pcm = np.concatenate((self._rest, piece)) if len(self._rest) else piece
        whole = len(pcm) - len(pcm) % self._tick
        self._rest = pcm[whole:]
        if len(self._rest):
            self._padding = asyncio.get_running_loop().call_at(self._queue.end - TICK, self._pad)
        if whole:
            self._hand_over(pcm[:whole])

    def _pad(self) -> None:
        """Nothing followed: fill the last piece up with silence, or its sound would wait for the next speech."""
        if self._handing is not None:
            self._padding = asyncio.get_running_loop().call_later(TICK / 10, self._pad)
            return
        self._padding = None
        padded = np.zeros(self._tick, dtype=np.int16)
        padded[: len(self._rest)] = self._rest
        padding = self._tick - len(self._rest)
        self._rest = self._rest[:0]
        self._hand_over(padded, padding=padding)

    def _hand_over(self, pcm: Pcm, *, padding: int = 0) -> None:
        self._given = len(pcm) - padding
        self._recent = np.concatenate((self._recent, pcm[: self._given]))[-round(TAKEN_BACK * self.sample_rate) :]
        # A task of its own: cancelling a push must not lose track of audio that the source has yet to take.
        capture = self._capture(audible(pcm, self._tick), padding=padding, silences=self._silences, after=self._handing)
        self._handing = asyncio.get_running_loop().create_task(capture, name="hand audio to the source")

    async def _capture(self, pcm: Pcm, *, padding: int, silences: int, after: asyncio.Task[None] | None) -> None:
        try:
            if after is not None:  # of before a hold that was short
                await asyncio.wait({after})
            if self._silences != silences:
                return
            await self.underlay.capture(pcm, counted=partial(self._handed, len(pcm), padding))
        finally:
            if self._handing is asyncio.current_task():
                self._handing = None

    def _handed(self, samples: int, padding: int) -> None:
        self._given = 0
        self._count.hand(samples // self._tick, asyncio.get_running_loop().time(), padding=padding)

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

    def _give_up(self) -> None:
        log.warning("nobody has subscribed to the agent's voice", track=self.track_sid)
        self._audible()

    def _audible(self) -> None:
        self._cancel_settling()
        self._ready.set()
        self._go_on()

    def _cancel_settling(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
