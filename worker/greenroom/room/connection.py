"""Whether we are in the room, and how we get back into it. Pure.

- LiveKit's client mends a broken connection by itself, and says within 23 seconds what became of it. One that has said
  nothing for ``PATIENCE`` seconds is given up.
- Where it gave up, or the server was shut down, the room is entered anew: after growing delays, one attempt at a time,
  for ``rejoin`` seconds in all. A connection that breaks while it is still being set up counts as an attempt that
  failed.
- Who was put out or replaced, or lost the whole room, does not come back.

``ENDED`` takes nothing more. The states and what they take are in ``TABLE``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from greenroom.room.caller import EndReason

__all__ = [
    "PATIENCE",
    "RETURNING",
    "TABLE",
    "Abandon",
    "AttemptFailed",
    "ConnectionCommand",
    "ConnectionEvent",
    "ConnectionWatch",
    "Disconnected",
    "Drop",
    "End",
    "Entered",
    "Interrupted",
    "Lose",
    "Rejoin",
    "Restored",
    "RoomState",
    "Show",
    "State",
    "Tick",
]

PATIENCE: Final = 30.0
"""Seconds for LiveKit's client to mend a connection or to give up; 20.5 to 22.3 were measured."""

RETURNING: Final = frozenset({EndReason.SERVER_SHUTDOWN, EndReason.CONNECTION_LOST})
"""Disconnections after which the room is entered anew."""

RoomState: TypeAlias = Literal["connected", "reconnecting", "rejoining"]


@dataclass(frozen=True, slots=True)
class Entered:
    """We are in the room, and what belongs to it is there."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """LiveKit's client begins to mend the connection."""


@dataclass(frozen=True, slots=True)
class Restored:
    """It has."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """We are out of the room, against our will."""

    reason: EndReason


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """The room could not be entered this time."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline has come."""


ConnectionEvent: TypeAlias = Entered | Interrupted | Restored | Disconnected | AttemptFailed | Tick


@dataclass(frozen=True, slots=True)
class Show:
    """Tell the owner."""

    state: RoomState


@dataclass(frozen=True, slots=True)
class Lose:
    """The connection is gone for good; everybody in the room is missing until we are back."""

    reason: EndReason


@dataclass(frozen=True, slots=True)
class Rejoin:
    """Try to enter the room anew; the answer is ``Entered``, ``AttemptFailed`` or ``Disconnected``."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Let go of the connection that is there, whatever becomes of it."""


@dataclass(frozen=True, slots=True)
class End:
    reason: EndReason


@dataclass(frozen=True, slots=True)
class Drop:
    """The event changes nothing."""

    reason: str


ConnectionCommand: TypeAlias = Show | Lose | Rejoin | Abandon | End | Drop


class State(Enum):
    OUTSIDE = "outside"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    LOST = "lost"
    REJOINING = "rejoining"
    ENDED = "ended"


TABLE: Final[Mapping[State, Mapping[type[ConnectionEvent], tuple[State, ...]]]] = MappingProxyType(
    {
        State.OUTSIDE: {
            Entered: (State.CONNECTED,),
            Disconnected: (State.ENDED,),
        },
        State.CONNECTED: {
            Interrupted: (State.RECONNECTING,),
            Disconnected: (State.LOST, State.ENDED),
        },
        State.RECONNECTING: {
            Restored: (State.CONNECTED,),
            Disconnected: (State.LOST, State.ENDED),
            Tick: (State.LOST, State.ENDED, State.RECONNECTING),
        },
        State.LOST: {
            Tick: (State.REJOINING, State.ENDED, State.LOST),
        },
        State.REJOINING: {
            Entered: (State.CONNECTED,),
            AttemptFailed: (State.LOST,),
            Disconnected: (State.LOST, State.ENDED),
            Tick: (State.ENDED, State.REJOINING),
        },
        State.ENDED: {},
    }
)
"""What each state takes, and where that may lead. Anything else is dropped."""


class ConnectionWatch:
    """The machine. ``rejoin``: seconds to get back, 0.0 for never. ``delays``: makes the seconds to wait before each
    attempt, growing and with their jitter, anew for each loss."""

    def __init__(self, *, rejoin: float, delays: Callable[[], Iterator[float]]) -> None:
        self.state = State.OUTSIDE
        self._rejoin = rejoin
        self._make_delays = delays
        self._delays: Iterator[float] = iter(())
        self._reason = EndReason.CONNECTION_LOST
        self._attempt = 0
        self._due: float | None = None
        self._last: float | None = None

    def deadline(self) -> float | None:
        """The end of a state's patience, or the next attempt."""
        return min((when for when in (self._due, self._last) if when is not None), default=None)

    def handle(self, event: ConnectionEvent, now: float) -> list[ConnectionCommand]:
        if type(event) not in TABLE[self.state]:
            return [Drop(f"{type(event).__name__} while {self.state.value}")]
        match event:
            case Entered() | Restored():
                self._move(State.CONNECTED)
                return [Show("connected")]
            case Interrupted():
                self._move(State.RECONNECTING, last=now + PATIENCE)
                return [Show("reconnecting")]
            case Disconnected(reason):
                return self._disconnected(reason, now)
            case AttemptFailed():
                self._wait(now)
                return []
            case Tick():
                return self._ticked(now)

    def _disconnected(self, reason: EndReason, now: float) -> list[ConnectionCommand]:
        if reason not in RETURNING or self.state is State.OUTSIDE:
            return self._ended(reason)
        if self.state is State.REJOINING:
            self._wait(now)
            return [Abandon()]
        if self._rejoin <= 0:
            return self._ended(reason)
        self._reason, self._delays, self._attempt = reason, self._make_delays(), 0
        self._last = now + self._rejoin
        self._wait(now)
        return [Lose(reason), Show("rejoining")]

    def _ticked(self, now: float) -> list[ConnectionCommand]:
        if self._last is not None and now >= self._last:
            if self.state is State.RECONNECTING:
                return [Abandon(), *self._disconnected(EndReason.CONNECTION_LOST, now)]
            return self._ended(self._reason)
        if self._due is None or now < self._due:
            return [Drop("a tick before its time")]
        self._attempt += 1
        self._move(State.REJOINING, last=self._last)
        return [Rejoin(self._attempt)]

    def _wait(self, now: float) -> None:
        self._move(State.LOST, due=now + next(self._delays), last=self._last)

    def _ended(self, reason: EndReason) -> list[ConnectionCommand]:
        self._move(State.ENDED)
        return [End(reason)]

    def _move(self, state: State, *, due: float | None = None, last: float | None = None) -> None:
        self.state, self._due, self._last = state, due, last
