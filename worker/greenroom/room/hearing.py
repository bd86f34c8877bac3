"""Hearing the linked participant: their microphone is asked for, and attached with what was recorded before."""

from __future__ import annotations

import structlog
from livekit import rtc

from greenroom.room.client import Client
from greenroom.room.microphone import Microphone
from greenroom.room.participants import best_microphone
from greenroom.room.preconnect.intake import PROMISE, Intake

__all__ = ["Hearing"]

log = structlog.get_logger(__name__)


class Hearing:
    """Keeps ``microphone`` on the best track of whom it is told to ``follow``. ``intake``: where recordings come in."""

    def __init__(self, client: Client, microphone: Microphone, *, intake: Intake | None) -> None:
        self._client = client
        self._microphone = microphone
        self._intake = intake
        self._identity = ""
        client.on("track_published", self._on_published)
        client.on("track_unpublished", self._on_unpublished)
        client.on("track_subscribed", self._on_subscribed)
        client.on("track_unsubscribed", self._on_unsubscribed)
        client.on("track_subscription_failed", self._on_subscription_failed)

    def follow(self, identity: str) -> None:
        """This participant is the one."""
        self._identity = identity
        if self._intake is not None:
            self._intake.caller_linked(identity)
        self.ask()

    def unfollow(self) -> None:
        """They are gone."""
        self._identity = ""
        if self._intake is not None:
            self._intake.caller_gone()
        self._microphone.detach()

    def ask(self) -> None:
        """Ask for their microphone, unless it is being heard; again, when what was asked for may have been lost."""
        participant = self._client.room.remote_participants.get(self._identity)
        publication = best_microphone(participant) if participant is not None else None
        if publication is None:
            return
        if self._intake is not None:
            promised = PROMISE in publication.audio_features
            self._intake.expect(publication.sid, promised=promised)
        if isinstance(publication.track, rtc.RemoteAudioTrack):
            self._attach(publication.track)
        else:
            publication.set_subscribed(True)

    def _attach(self, track: rtc.RemoteAudioTrack) -> None:
        lead = self._intake.lead(track.sid) if self._intake is not None else None
        self._microphone.attach(track, lead=lead)

    def _on_published(self, _publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == self._identity:
            self.ask()

    def _on_unpublished(self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
        self._microphone.detach(publication.sid)
        if self._intake is not None:
            self._intake.track_gone(publication.sid)
        if participant.identity == self._identity:
            self.ask()

    def _on_subscribed(
        self, track: rtc.Track, _publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if participant.identity == self._identity and isinstance(track, rtc.RemoteAudioTrack):
            self._attach(track)

    def _on_unsubscribed(
        self, _track: rtc.Track | None, publication: rtc.RemoteTrackPublication, _participant: rtc.RemoteParticipant
    ) -> None:
        self._microphone.detach(publication.sid)

    def _on_subscription_failed(self, participant: rtc.RemoteParticipant, track_sid: str, error: str) -> None:
        log.warning("cannot hear a track", participant=participant.identity, track=track_sid, error=error)
