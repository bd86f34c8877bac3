"""Whom the agent talks with, and when the call is over. Pure.

- The first participant who can be a caller (a person, a phone call, a connector; not an agent, a recorder or an
  ingress) is linked; where the job names a participant, only that one is.
- The linked participant keeps the agent for themselves: others who come and go change nothing.
- A participant who goes may come back under the same identity. LiveKit's clients *leave and join again* to rebuild a
  broken connection, so even an orderly leave waits ``left_grace``; one who was lost without a word has ``lost_grace``.
  Whoever was put out, refused the call, or lost the whole room does not come back.
- Somebody may be in a hurry: then an orderly leave waits no longer than they say, also one that waits already.
- While we are away from the room ourselves, nobody can be seen to return, and whoever is seen to go may have stayed: it
  is our view that broke. No grace runs out meanwhile: who is missing when we are back has ``lost_grace`` from then on.
- When we are out of the room for good, the call ends at once.

``ENDED`` takes nothing more. The states and what they take are in ``TABLE``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

__all__ = [
    "TABLE",
    "Arrived",
    "Away",
    "Back",
    "CallerEvent",
    "CallerWatch",
    "Departed",
    "Departure",
    "Disconnected",
    "Drop",
    "End",
    "EndReason",
    "Hurry",
    "Link",
    "State",
    "Tick",
    "Unlink",
]


class EndReason(StrEnum):
    """Why a call in a room ended."""

    CALLER_LEFT = "caller_left"
    CALLER_LOST = "caller_lost"
    CALLER_REMOVED = "caller_removed"
    CALLER_REFUSED = "caller_refused"
    ROOM_DELETED = "room_deleted"
    ROOM_CLOSED = "room_closed"
    REMOVED = "removed"
    DUPLICATE_IDENTITY = "duplicate_identity"
    SERVER_SHUTDOWN = "server_shutdown"
    CONNECTION_LOST = "connection_lost"


class Departure(StrEnum):
    """How a participant went."""

    LEFT = "left"
    LOST = "lost"
    REPLACED = "replaced"
    REMOVED = "removed"
    REFUSED = "refused"
    ROOM_DELETED = "room_deleted"
    ROOM_CLOSED = "room_closed"


FINAL: Final[Mapping[Departure, EndReason]] = MappingProxyType(
    {
        Departure.REMOVED: EndReason.CALLER_REMOVED,
        Departure.REFUSED: EndReason.CALLER_REFUSED,
        Departure.ROOM_DELETED: EndReason.ROOM_DELETED,
        Departure.ROOM_CLOSED: EndReason.ROOM_CLOSED,
    }
)
"""Departures that nobody returns from."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """``can_call``: a kind of participant that an agent may serve."""

    identity: str
    can_call: bool


@dataclass(frozen=True, slots=True)
class Departed:
    identity: str
    how: Departure


@dataclass(frozen=True, slots=True)
class Away:
    """Our own connection to the room is broken, for a while."""


@dataclass(frozen=True, slots=True)
class Back:
    """It is whole again, and whoever is in the room has been announced."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """We are out of the room, against our will, and do not come back."""

    reason: EndReason


@dataclass(frozen=True, slots=True)
class Hurry:
    """From now on who has left in order is waited for no longer than ``left_grace`` seconds."""

    left_grace: float


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline has come."""


CallerEvent: TypeAlias = Arrived | Departed | Away | Back | Disconnected | Hurry | Tick


@dataclass(frozen=True, slots=True)
class Link:
    """Talk with this one. ``returned``: they were linked before."""

    identity: str
    returned: bool


@dataclass(frozen=True, slots=True)
class Unlink:
    """The linked one is gone; the call waits ``grace`` seconds for them, 0.0 when it does not. Where we are away
    ourselves, these begin when we are back."""

    identity: str
    how: Departure
    grace: float


@dataclass(frozen=True, slots=True)
class End:
    reason: EndReason


@dataclass(frozen=True, slots=True)
class Drop:
    """The event changes nothing."""

    reason: str


CallerCommand: TypeAlias = Link | Unlink | End | Drop


class State(Enum):
    WAITING = "waiting"
    LINKED = "linked"
    MISSING = "missing"
    ENDED = "ended"


TABLE: Final[Mapping[State, Mapping[type[CallerEvent], tuple[State, ...]]]] = MappingProxyType(
    {
        State.WAITING: {
            Arrived: (State.LINKED, State.WAITING),
            Departed: (State.WAITING,),
            Away: (State.WAITING,),
            Back: (State.WAITING,),
            Hurry: (State.WAITING,),
            Disconnected: (State.ENDED,),
        },
        State.LINKED: {
            Arrived: (State.LINKED,),
            Departed: (State.MISSING, State.ENDED, State.LINKED),
            Away: (State.LINKED,),
            Back: (State.LINKED,),
            Hurry: (State.LINKED,),
            Disconnected: (State.ENDED,),
        },
        State.MISSING: {
            Arrived: (State.LINKED, State.MISSING),
            Departed: (State.MISSING,),
            Away: (State.MISSING,),
            Back: (State.MISSING, State.ENDED),
            Hurry: (State.MISSING,),
            Disconnected: (State.ENDED,),
            Tick: (State.ENDED, State.MISSING),
        },
        State.ENDED: {},
    }
)
"""What each state takes, and where that may lead. Anything else is dropped."""


class CallerWatch:
    """The machine. ``participant``: the identity that the job names, empty for whoever comes first."""

    def __init__(self, *, participant: str = "", lost_grace: float = 20.0, left_grace: float = 2.0) -> None:
        self.state = State.WAITING
        self.identity = participant
        self._lost_grace = lost_grace
        self._left_grace = left_grace
        self._away = False
        self._until: float | None = None
        self._end = EndReason.CALLER_LOST

    def deadline(self) -> float | None:
        return self._until

    def handle(self, event: CallerEvent, now: float) -> list[CallerCommand]:
        if type(event) not in TABLE[self.state]:
            return [Drop(f"{type(event).__name__} while {self.state.value}")]
        match event:
            case Arrived():
                return self._arrived(event)
            case Departed():
                return self._departed(event, now)
            case Away():
                self._away, self._until = True, None
                return []
            case Back():
                return self._back(now)
            case Disconnected(reason):
                return self._ended(reason)
            case Hurry(left_grace):
                self._left_grace = min(self._left_grace, left_grace)
                if self._until is not None and self._end is EndReason.CALLER_LEFT:
                    self._until = min(self._until, now + self._left_grace)
                return []
            case Tick():
                if self._until is None or now < self._until:
                    return [Drop("a tick before its time")]
                return self._ended(self._end)

    def _arrived(self, event: Arrived) -> list[CallerCommand]:
        if self.identity and event.identity != self.identity:
            return [Drop("not the caller")]
        if not self.identity and not event.can_call:
            return [Drop("cannot be a caller")]
        if self.state is State.LINKED:
            return [Drop("already linked")]
        returned = self.state is State.MISSING
        self.state, self.identity, self._until = State.LINKED, event.identity, None
        return [Link(event.identity, returned)]

    def _departed(self, event: Departed, now: float) -> list[CallerCommand]:
        if event.identity != self.identity or self.state is not State.LINKED:
            return [Drop("not the linked participant")]
        if event.how in FINAL:
            return [Unlink(event.identity, event.how, 0.0), *self._ended(FINAL[event.how])]
        if self._away:
            self.state, self._end = State.MISSING, EndReason.CALLER_LOST
            return [Unlink(event.identity, event.how, self._lost_grace)]
        left = event.how is Departure.LEFT
        grace = self._left_grace if left else self._lost_grace
        self._end = EndReason.CALLER_LEFT if left else EndReason.CALLER_LOST
        if grace <= 0:
            return [Unlink(event.identity, event.how, 0.0), *self._ended(self._end)]
        self.state, self._until = State.MISSING, now + grace
        return [Unlink(event.identity, event.how, grace)]

    def _back(self, now: float) -> list[CallerCommand]:
        if not self._away:
            return [Drop("not away")]
        self._away = False
        if self.state is State.MISSING:
            if self._lost_grace <= 0:
                return self._ended(self._end)
            self._until = now + self._lost_grace
        return []

    def _ended(self, reason: EndReason) -> list[CallerCommand]:
        self.state, self._until = State.ENDED, None
        return [End(reason)]
