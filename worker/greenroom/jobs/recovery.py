"""Whether a call whose process died goes on in another one. Pure: told what became of its processes.

Rules:

- A process is lost when it died while its call went on (``JobLifecycle`` says so). The call then gets another one,
  which enters the room under the same identity, and the server hears nothing of the death.
- So it is ``attempts`` times for one call, however long it lasts and whichever daemon it had. After that one more
  process is sent in, to say farewell; when that dies too, or says that it leaves, the call has failed.
- With no attempts at all a call fails with its process.
- Nothing is begun again for a call that somebody asked to end, or that said that it leaves.
- A call for which no process can be had has failed. It may be one that is to be recovered, or a new one.
- Each call has exactly one ``Tell``, and after that exactly one ``Free``, which is the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from greenroom.errors import LocalProtocolError
from greenroom.jobs.events import Outcome

__all__ = [
    "TRANSITIONS",
    "Command",
    "EndAsked",
    "Event",
    "Free",
    "Gone",
    "Joined",
    "Left",
    "Lost",
    "Recovery",
    "Resume",
    "Standing",
    "Tell",
    "Tick",
    "Transition",
    "Unserved",
]


class Standing(Enum):
    SERVED = "served"
    """A process has it, or is to have it."""
    RECOVERING = "recovering"
    """Its process died and another one is on its way into the room."""
    PARTING = "parting"
    """The last process says farewell."""
    ENDING = "ending"
    """Somebody asked to end it, or it said that it leaves: what dies now stays dead."""
    OVER = "over"


# Events: what happened.


@dataclass(frozen=True, slots=True)
class Joined:
    """Its process is in the room."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Its process died while the call went on."""

    outcome: Outcome
    error: str


@dataclass(frozen=True, slots=True)
class EndAsked:
    """The server, the operator or the worker wants it over."""


@dataclass(frozen=True, slots=True)
class Left:
    """Its process said how the call ended, or it was said for it; ``error`` is empty for success."""

    error: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """Its process is gone, after ``Left``."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Unserved:
    """No process is to be had."""

    outcome: Outcome
    error: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Never wanted: nothing here has a deadline."""


Event: TypeAlias = Joined | Lost | EndAsked | Left | Gone | Unserved | Tick


# Commands: what is to be done.


@dataclass(frozen=True, slots=True)
class Resume:
    """Give the call another process. ``attempt``: 2 for the first that comes back; ``died``: why it has to."""

    attempt: int
    died: str
    farewell: bool


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the server how the call ended; ``error`` is empty for success."""

    error: str


@dataclass(frozen=True, slots=True)
class Free:
    """The call is over, and nothing of it is left."""

    outcome: Outcome


Command: TypeAlias = Resume | Tell | Free


class Transition(NamedTuple):
    """One row: in ``state``, ``event`` may lead to ``to``; ``rule`` says when and what is done."""

    state: Standing
    event: type[Event]
    to: Standing
    rule: str


_S = Standing
TRANSITIONS: Final[tuple[Transition, ...]] = (
    Transition(_S.SERVED, Joined, _S.SERVED, "in the room"),
    Transition(_S.SERVED, Lost, _S.RECOVERING, "resume, for the next attempt"),
    Transition(_S.SERVED, Lost, _S.PARTING, "no attempt is left: resume, to say farewell"),
    Transition(_S.SERVED, Lost, _S.OVER, "recovery is off: tell the error; free"),
    Transition(_S.SERVED, EndAsked, _S.ENDING, "nothing is begun again"),
    Transition(_S.SERVED, Left, _S.ENDING, "tell"),
    Transition(_S.SERVED, Unserved, _S.OVER, "tell the error; free"),
    Transition(_S.RECOVERING, Joined, _S.SERVED, "the call goes on"),
    Transition(_S.RECOVERING, Lost, _S.RECOVERING, "resume, for the next attempt"),
    Transition(_S.RECOVERING, Lost, _S.PARTING, "no attempt is left: resume, to say farewell"),
    Transition(_S.RECOVERING, EndAsked, _S.ENDING, "nothing is begun again"),
    Transition(_S.RECOVERING, Left, _S.ENDING, "tell"),
    Transition(_S.RECOVERING, Unserved, _S.OVER, "tell the error; free"),
    Transition(_S.PARTING, Joined, _S.PARTING, "in the room"),
    Transition(_S.PARTING, Lost, _S.OVER, "tell the error; free"),
    Transition(_S.PARTING, EndAsked, _S.ENDING, "nothing is begun again"),
    Transition(_S.PARTING, Left, _S.ENDING, "tell"),
    Transition(_S.PARTING, Unserved, _S.OVER, "tell the error; free"),
    Transition(_S.ENDING, Joined, _S.ENDING, "it was on its way in"),
    Transition(_S.ENDING, EndAsked, _S.ENDING, "asked again"),
    Transition(_S.ENDING, Left, _S.ENDING, "tell, once"),
    Transition(_S.ENDING, Lost, _S.OVER, "tell the error unless something was told; free"),
    Transition(_S.ENDING, Unserved, _S.OVER, "tell the error; free"),
    Transition(_S.ENDING, Gone, _S.OVER, "free"),
)


def _targets() -> Mapping[tuple[Standing, type[Event]], frozenset[Standing]]:
    targets: dict[tuple[Standing, type[Event]], frozenset[Standing]] = {}
    for row in TRANSITIONS:
        targets[row.state, row.event] = targets.get((row.state, row.event), frozenset()) | {row.to}
    return targets


_TARGETS: Final = _targets()


class Recovery:
    """One call. ``attempts``: how often it may come back; ``attempt``: the process's number that serves it now, which
    is above 1 for a call that an earlier daemon recovered; ``farewell``: that is the last one already."""

    def __init__(self, attempts: int, *, attempt: int = 1, farewell: bool = False) -> None:
        self.state = Standing.PARTING if farewell else Standing.SERVED
        self.attempt = attempt
        self._attempts = attempts
        self._told = False
        self._out: list[Command] = []

    def deadline(self) -> float | None:
        return None

    def handle(self, event: Event, now: float) -> list[Command]:
        """Raises ``LocalProtocolError`` for what only a bug of ours can feed. What comes after the end is ignored."""
        self._out = []
        if self.state is Standing.OVER or isinstance(event, Tick):
            return []
        before = self.state
        self._take(event)
        if self.state not in _TARGETS.get((before, type(event)), frozenset()):
            raise LocalProtocolError(f"recovery: {type(event).__name__} while {before.value}")
        return self._out

    def _take(self, event: Event) -> None:
        match event:
            case Joined():
                if self.state is Standing.RECOVERING:
                    self.state = Standing.SERVED
            case Lost(outcome, error):
                self._lost(outcome, error)
            case EndAsked():
                self.state = Standing.ENDING
            case Left(error):
                self.state = Standing.ENDING
                self._tell(error)
            case Unserved(outcome, error):
                self._tell(error)
                self._free(outcome)
            case Gone(outcome):
                self._free(outcome)

    def _lost(self, outcome: Outcome, error: str) -> None:
        if self._attempts and self.state in (Standing.SERVED, Standing.RECOVERING):
            farewell = self.attempt > self._attempts
            self.attempt += 1
            self.state = Standing.PARTING if farewell else Standing.RECOVERING
            self._out.append(Resume(self.attempt, error, farewell))
        else:
            self._tell(error)
            self._free(outcome)

    def _tell(self, error: str) -> None:
        if not self._told:
            self._told = True
            self._out.append(Tell(error))

    def _free(self, outcome: Outcome) -> None:
        self.state = Standing.OVER
        self._out.append(Free(outcome))
