"""A second track of the agent's: what is heard behind its voice, where it is not mixed into that."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from livekit import rtc
from livekit.rtc.participant import PublishTrackError, UnpublishTrackError

from greenroom.room.speaker import QUEUE
from greenroom.room.tally import Tally
from greenroom.room.underlay import Bed, Underlay

__all__ = ["SAMPLE_RATE", "Beneath", "Soundtrack", "republish"]

NAME = "background_audio"
"""The track's name, LiveKit's. Its source is none, so that clients which look for the agent's voice take the voice."""
SAMPLE_RATE = 24_000
"""Hz, of a track of its own."""
UNPUBLISH_TIMEOUT = 2.0
"""Seconds; a room whose connection is down gives no answer."""

log = structlog.get_logger(__name__)


class Soundtrack:
    """Plays a bed on a track of its own, mono. ``publish``, then it is heard until ``aclose``.

    ``options``: LiveKit's, for the publication.
    """

    def __init__(
        self, bed: Bed, *, sample_rate: int = SAMPLE_RATE, options: rtc.TrackPublishOptions | None = None
    ) -> None:
        self.sample_rate = sample_rate
        self._bed = bed
        self._options = options or rtc.TrackPublishOptions()
        source = rtc.AudioSource(sample_rate, 1, queue_size_ms=round(2 * QUEUE * 1000))
        self._underlay = Underlay(source, sample_rate=sample_rate, ahead=QUEUE)
        self._track = rtc.LocalAudioTrack.create_audio_track(NAME, source)
        self._tally: Tally | None = None
        self._participant: rtc.LocalParticipant | None = None
        self._publication: rtc.LocalTrackPublication | None = None
        self._closed = False

    async def publish(self, participant: rtc.LocalParticipant) -> None:
        """Show it to the room; again, to a room that was entered anew. Raises LiveKit's ``PublishTrackError``."""
        self._participant = participant
        self._publication = await participant.publish_track(self._track, self._options)
        if self._tally is None and not self._closed:
            self._tally = Tally(self._track, self._underlay, sample_rate=self.sample_rate)
            self._underlay.add(self._bed)

    def plays(self, track: rtc.LocalTrack | None) -> bool:
        """Whether that is its track."""
        return track is self._track

    @property
    def queued(self) -> float:
        """Seconds that were read from the bed and have not left."""
        return self._underlay.queued

    def changed(self) -> None:
        """The bed is to sound otherwise from now on."""
        self._underlay.changed()

    async def aclose(self, *, unpublish: bool = True) -> None:
        """Silence it, and take it out of the room, unless that is left anyway. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._tally is not None:
            await self._tally.aclose()
        await self._underlay.aclose()
        if unpublish and self._participant is not None and self._publication is not None:
            with suppress(UnpublishTrackError, TimeoutError):  # the room is gone, or another one
                async with asyncio.timeout(UNPUBLISH_TIMEOUT):
                    await self._participant.unpublish_track(self._publication.sid)


class Beneath:
    """Plays a bed beneath the agent's voice, on the voice's track, until ``aclose``."""

    def __init__(self, bed: Bed, underlay: Underlay, *, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._bed = bed
        self._underlay = underlay
        underlay.add(bed)

    @property
    def queued(self) -> float:
        """Seconds that were read from the bed and have not left."""
        return self._underlay.queued

    def changed(self) -> None:
        """The bed is to sound otherwise from now on; while the voice is queued, behind that."""
        self._underlay.changed()

    async def aclose(self) -> None:
        """Silence the bed; the voice goes on."""
        self._underlay.remove(self._bed)


async def republish(soundtracks: list[Soundtrack], participant: rtc.LocalParticipant) -> None:
    """The room was entered anew. One that the server does not take is silent; the call goes on."""
    for soundtrack in soundtracks:
        try:
            await soundtrack.publish(participant)
        except PublishTrackError as error:
            log.warning("background track not published", error=error.message)
