"""How a worker comes to its end without ending anybody's call that could end by itself. Pure.

Rules:

- Whoever asks it to stop has it refuse new calls at once. It leaves as soon as the last call is over, whatever the
  phase.
- First the calls may end by themselves, for ``drain`` seconds; their agents are told how long that is. Then they are
  told that the end has come and have ``wrap_up`` seconds to say so; with 0 that phase is left out. Then they are ended,
  each within its own deadlines.
- To ask again is to end them now. So is to ask for that at once.
- The server is told of each call's outcome in every phase; that is the calls' own matter.
- It does not wait for ever: ``LAST`` seconds after the calls' own deadlines it leaves without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from greenroom.errors import LocalProtocolError
from greenroom.settings import Deadlines

__all__ = [
    "LAST",
    "TRANSITIONS",
    "Command",
    "Drain",
    "EndAll",
    "Event",
    "JobsChanged",
    "Leave",
    "Phase",
    "Refuse",
    "StopAsked",
    "TellWrapUp",
    "Tick",
    "Transition",
]

LAST: Final = 1.0


class Phase(Enum):
    SERVING = "serving"
    """Nobody asked it to stop."""
    WAITING = "waiting"
    """No new calls; those that go on end by themselves."""
    WRAPPING_UP = "wrapping_up"
    """Their agents have been told that the end has come."""
    ENDING = "ending"
    """They are being ended."""
    OVER = "over"


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A signal, or an operator. ``now``: end the calls at once."""

    now: bool = False


@dataclass(frozen=True, slots=True)
class JobsChanged:
    """So many calls go on."""

    jobs: int


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that ``deadline()`` named has come."""


Event: TypeAlias = StopAsked | JobsChanged | Tick


@dataclass(frozen=True, slots=True)
class Refuse:
    """Take no more calls, and let the server know."""


@dataclass(frozen=True, slots=True)
class TellWrapUp:
    """Tell the agents that calls are ended in so many seconds; ``last``: for the last time."""

    seconds: float
    last: bool


@dataclass(frozen=True, slots=True)
class EndAll:
    """End the calls that are left."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The worker can go."""


Command: TypeAlias = Refuse | TellWrapUp | EndAll | Leave


class Transition(NamedTuple):
    """One row: in ``state``, ``event`` may lead to ``to``; ``rule`` says when and what is done."""

    state: Phase
    event: type[Event]
    to: Phase
    rule: str


_P = Phase
TRANSITIONS: Final[tuple[Transition, ...]] = (
    Transition(_P.SERVING, JobsChanged, _P.SERVING, "count"),
    Transition(_P.SERVING, StopAsked, _P.WAITING, "refuse; tell the agents how long they have in all"),
    Transition(_P.SERVING, StopAsked, _P.ENDING, "asked for now: refuse; end all"),
    Transition(_P.SERVING, StopAsked, _P.OVER, "no call goes on: refuse; leave"),
    Transition(_P.WAITING, JobsChanged, _P.WAITING, "count"),
    Transition(_P.WAITING, JobsChanged, _P.OVER, "that was the last: leave"),
    Transition(_P.WAITING, StopAsked, _P.ENDING, "end all"),
    Transition(_P.WAITING, Tick, _P.WRAPPING_UP, "tell the agents for the last time"),
    Transition(_P.WAITING, Tick, _P.ENDING, "wrap_up is 0: end all"),
    Transition(_P.WRAPPING_UP, JobsChanged, _P.WRAPPING_UP, "count"),
    Transition(_P.WRAPPING_UP, JobsChanged, _P.OVER, "that was the last: leave"),
    Transition(_P.WRAPPING_UP, StopAsked, _P.ENDING, "end all"),
    Transition(_P.WRAPPING_UP, Tick, _P.ENDING, "end all"),
    Transition(_P.ENDING, JobsChanged, _P.ENDING, "count"),
    Transition(_P.ENDING, JobsChanged, _P.OVER, "that was the last: leave"),
    Transition(_P.ENDING, StopAsked, _P.ENDING, "it cannot be sooner"),
    Transition(_P.ENDING, Tick, _P.OVER, "leave without them"),
)


def _targets() -> Mapping[tuple[Phase, type[Event]], frozenset[Phase]]:
    targets: dict[tuple[Phase, type[Event]], frozenset[Phase]] = {}
    for row in TRANSITIONS:
        targets[row.state, row.event] = targets.get((row.state, row.event), frozenset()) | {row.to}
    return targets


_TARGETS: Final = _targets()


class Drain:
    """One worker's."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        """May be replaced: the next phase goes by the new ones."""
        self.phase = Phase.SERVING
        self.jobs = 0
        self._until: float | None = None

    def deadline(self) -> float | None:
        return self._until

    def handle(self, event: Event, now: float) -> list[Command]:
        """Raises ``LocalProtocolError`` for a bug of ours. After the end nothing follows."""
        if self.phase is Phase.OVER or (isinstance(event, Tick) and (self._until is None or now < self._until)):
            return []
        before = self.phase
        match event:
            case JobsChanged(jobs):
                self.jobs = jobs
                commands = self._leave() if not jobs and before is not Phase.SERVING else []
            case StopAsked(at_once):
                commands = self._asked(at_once, now)
            case Tick():
                commands = self._overdue(now)
        if self.phase not in _TARGETS.get((before, type(event)), frozenset()):
            raise LocalProtocolError(f"drain: {before.value} -> {self.phase.value} on {type(event).__name__}")
        return commands

    def left(self, now: float) -> float:
        """Seconds until the next phase."""
        return 0.0 if self._until is None else max(0.0, self._until - now)

    def _asked(self, at_once: bool, now: float) -> list[Command]:
        if self.phase is Phase.ENDING:
            return []
        if self.phase is not Phase.SERVING:
            return self._end(now)
        if not self.jobs:
            return [Refuse(), *self._leave()]
        if at_once:
            return [Refuse(), *self._end(now)]
        limits = self.deadlines
        self.phase, self._until = Phase.WAITING, now + limits.drain
        return [Refuse(), TellWrapUp(limits.drain + limits.wrap_up, last=False)]

    def _overdue(self, now: float) -> list[Command]:
        wrap_up = self.deadlines.wrap_up
        if self.phase is Phase.WAITING and wrap_up:
            self.phase, self._until = Phase.WRAPPING_UP, now + wrap_up
            return [TellWrapUp(wrap_up, last=True)]
        return self._leave() if self.phase is Phase.ENDING else self._end(now)

    def _end(self, now: float) -> list[Command]:
        self.phase = Phase.ENDING
        # Asked, told to, killed: the ladder of each call, and a moment for the kernel.
        self._until = now + self.deadlines.end + 2 * self.deadlines.terminate + LAST
        return [EndAll()]

    def _leave(self) -> list[Command]:
        self.phase, self._until = Phase.OVER, None
        return [Leave()]
