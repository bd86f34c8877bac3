"""LiveKit's words for participants, and why they went, in ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from livekit import rtc

from greenroom.room.caller import Departure, EndReason

__all__ = ["DEPARTURES", "ENDINGS", "KINDS", "LinkedParticipant", "best_microphone"]

KINDS: Final[Mapping[int, str]] = MappingProxyType(
    {
        rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD: "standard",
        rtc.ParticipantKind.PARTICIPANT_KIND_SIP: "sip",
        rtc.ParticipantKind.PARTICIPANT_KIND_CONNECTOR: "connector",
    }
)
"""Participants whom an agent may serve."""

DEPARTURES: Final[Mapping[int | None, Departure]] = MappingProxyType(
    {
        rtc.DisconnectReason.CLIENT_INITIATED: Departure.LEFT,
        rtc.DisconnectReason.DUPLICATE_IDENTITY: Departure.REPLACED,
        rtc.DisconnectReason.PARTICIPANT_REMOVED: Departure.REMOVED,
        rtc.DisconnectReason.ROOM_DELETED: Departure.ROOM_DELETED,
        rtc.DisconnectReason.ROOM_CLOSED: Departure.ROOM_CLOSED,
        rtc.DisconnectReason.USER_UNAVAILABLE: Departure.REFUSED,
        rtc.DisconnectReason.USER_REJECTED: Departure.REFUSED,
        rtc.DisconnectReason.SIP_TRUNK_FAILURE: Departure.REFUSED,
    }
)
"""What the server says of a participant who went; anything else counts as lost."""

ENDINGS: Final[Mapping[int, EndReason]] = MappingProxyType(
    {
        rtc.DisconnectReason.DUPLICATE_IDENTITY: EndReason.DUPLICATE_IDENTITY,
        rtc.DisconnectReason.SERVER_SHUTDOWN: EndReason.SERVER_SHUTDOWN,
        rtc.DisconnectReason.PARTICIPANT_REMOVED: EndReason.REMOVED,
        rtc.DisconnectReason.ROOM_DELETED: EndReason.ROOM_DELETED,
        rtc.DisconnectReason.ROOM_CLOSED: EndReason.ROOM_CLOSED,
    }
)
"""What the server says of our own disconnection; anything else counts as a lost connection."""

MICROPHONES = (rtc.TrackSource.SOURCE_MICROPHONE, rtc.TrackSource.SOURCE_UNKNOWN)
"""Sources that a voice comes from, the best first."""


@dataclass(frozen=True, slots=True)
class LinkedParticipant:
    """Whom the agent talks with, as they were when linked. ``kind``: "standard", "sip" or "connector"."""

    identity: str
    sid: str
    name: str
    kind: str
    metadata: str
    attributes: Mapping[str, str]

    @staticmethod
    def of(participant: rtc.RemoteParticipant) -> LinkedParticipant:
        return LinkedParticipant(
            identity=participant.identity,
            sid=participant.sid,
            name=participant.name,
            kind=KINDS.get(participant.kind, "other"),
            metadata=participant.metadata,
            attributes=dict(participant.attributes),
        )


def best_microphone(participant: rtc.RemoteParticipant) -> rtc.RemoteTrackPublication | None:
    """The audio that is the participant's voice, as far as they say so."""
    for source in MICROPHONES:
        for publication in participant.track_publications.values():
            if publication.kind == rtc.TrackKind.KIND_AUDIO and publication.source == source:
                return publication
    return None
