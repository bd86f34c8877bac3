"""What a room tells its owner."""

from __future__ import annotations

from typing import Protocol

from greenroom.errors import JobError
from greenroom.room.caller import Departure, EndReason
from greenroom.room.connection import RoomState
from greenroom.room.participants import LinkedParticipant

__all__ = ["RoomEnded", "RoomListener"]


class RoomEnded(JobError):
    """The call ended while something waited for the participant."""

    def __init__(self, reason: EndReason) -> None:
        self.reason = reason
        super().__init__(f"the call ended: {reason}")


class RoomListener(Protocol):
    """The room's owner. Called on the event loop; must return at once."""

    def participant_linked(self, participant: LinkedParticipant, *, returned: bool) -> None:
        """Somebody to talk with is here; ``returned``: after they had been gone."""

    def participant_left(self, identity: str, how: Departure, *, grace: float) -> None:
        """The linked participant is gone; the call waits ``grace`` seconds for them. 0.0: it ends now.

        While we are out of the room ourselves, they begin when we are back.
        """

    def room_lost(self, reason: EndReason) -> None:
        """We are out of the room, and try to come back: ``room_changed`` or ``room_ended`` says what became of it."""

    def room_changed(self, state: RoomState, *, sid: str) -> None:
        """Our connection to the room; "connected" also once the room's ``sid``, empty before, is known or changes."""

    def room_ended(self, reason: EndReason) -> None:
        """The call is over; comes once, and not for ``leave``."""

    def text_received(self, identity: str, text: str) -> None:
        """The linked participant has written on ``lk.chat``."""
