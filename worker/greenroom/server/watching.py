"""Which jobs have ended without a word: their dispatch was deleted, and no termination could tell. Pure.

The server tells a job's end to the link that it was assigned on, as long as that link and the job's first participant
live. After that somebody has to look. The rules, in words; ``TRANSITIONS`` holds them as data.

- A job that terminations reach is looked at once, soon after it began, so that it is known what was there.
- A job that none reaches is looked at every ``Pace.interval``; in all no more than ``Pace.most`` looks are made in a
  second. What cannot be told because the server does not answer is asked again later and later.
- A dispatch that is not there was deleted only if it was seen before by the very same participant: a server that was
  restarted, or a node that took the room over, has forgotten it, and its clients have come back as new participants.
  A call lives on then, until its room ends it. A deletion has to be seen twice, and nothing is concluded about a job
  that is away from its room.
- A room that is gone for ``Pace.grace`` ends its job: in that time the job would have come back into it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

__all__ = [
    "TRANSITIONS",
    "Added",
    "Away",
    "Back",
    "Command",
    "Dispatches",
    "End",
    "Event",
    "Finding",
    "Look",
    "LookFailed",
    "Looked",
    "Pace",
    "Removed",
    "Standing",
    "Tick",
    "Transition",
    "Unreachable",
    "Watched",
]


class Standing(Enum):
    """What is known of a job's dispatch."""

    REACHABLE = "reachable"
    """A termination would reach the job; nothing was seen yet."""
    SEEN = "seen"
    """A termination would reach the job; its dispatch was seen."""
    WATCHED = "watched"
    """No termination reaches the job."""
    DOUBTED = "doubted"
    """... and its dispatch seems to have been deleted."""
    FORGOTTEN = "forgotten"
    """... and the server knows nothing of its dispatch."""


class Finding(Enum):
    """What one look at a room says of a job in it."""

    PRESENT = "present"
    """Its dispatch is there, and so is the job, or has been."""
    DELETED = "deleted"
    """It is not, though the participant who was there with it is."""
    UNKNOWN = "unknown"
    """It is not, and the job is in the room as another participant than was seen with it."""
    OPEN = "open"
    """The job is not there, or not yet."""


# ── values, events, commands ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A job as the watch knows it. ``identity``: the agent's, in ``room``."""

    job_id: str
    room: str
    dispatch_id: str
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often is looked, and how long a room may be gone. All in seconds, but ``most``: looks in a second."""

    first: float = 8.0
    interval: float = 3.0
    slow: float = 30.0
    grace: float = 60.0
    most: float = 10.0


@dataclass(frozen=True, slots=True)
class Added:
    """A job began, or has another dispatch from now on."""

    job: Watched
    reachable: bool


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No termination reaches the job any more."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Away:
    """The job is away from its room and tries to come back."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Back:
    """The job is in its room."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Removed:
    """The job is over."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Looked:
    """``dispatches`` are the room's, ``people`` who is in it, sid by identity. Both ``None``: there is no such room."""

    room: str
    dispatches: Collection[str] | None
    people: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class LookFailed:
    """The server did not say."""

    room: str


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that ``deadline()`` named has come."""


Event: TypeAlias = Added | Unreachable | Away | Back | Removed | Looked | LookFailed | Tick


@dataclass(frozen=True, slots=True)
class Look:
    """Ask the server for the room, and feed ``Looked`` or ``LookFailed``."""

    room: str


@dataclass(frozen=True, slots=True)
class End:
    """The job is to end as if it had been terminated. It is not watched any more."""

    job_id: str
    reason: str


Command: TypeAlias = Look | End

# ── the machine ──────────────────────────────────────────────────────────────────────────────────────────────────────

_REACHABLE, _SEEN, _WATCHED, _DOUBTED, _FORGOTTEN = Standing
_ROUTED = (_REACHABLE, _SEEN)
_LOST = (_WATCHED, _DOUBTED, _FORGOTTEN)


@dataclass(frozen=True, slots=True)
class Transition:
    """One row: in ``state``, ``event`` leads to ``next``, ``None`` for the end; ``rule`` says why."""

    state: Standing
    event: type[Unreachable | Away] | Finding
    next: Standing | None
    rule: str


_ROWS: Final[tuple[tuple[tuple[Standing, ...], type[Unreachable | Away] | Finding, Standing | None, str], ...]] = (
    ((_REACHABLE,), Finding.PRESENT, _SEEN, "that was what had to be known"),
    ((_REACHABLE,), Finding.UNKNOWN, _REACHABLE, "a termination will tell"),
    ((_REACHABLE,), Finding.OPEN, _REACHABLE, "not there yet"),
    (_ROUTED, Unreachable, _WATCHED, "look from now on"),
    (_LOST, Finding.PRESENT, _WATCHED, "nothing has ended"),
    ((_WATCHED,), Finding.DELETED, _DOUBTED, "look again before anything ends"),
    ((_DOUBTED,), Finding.DELETED, None, "end the job: its dispatch was deleted"),
    (_LOST, Finding.UNKNOWN, _FORGOTTEN, "the server has lost it: the call goes on"),
    ((_DOUBTED,), Away, _WATCHED, "the server may have gone: nothing is certain"),
)
TRANSITIONS: Final = tuple(
    Transition(state, event, next_, rule) for states, event, next_, rule in _ROWS for state in states
)
_TABLE: Final = {(row.state, row.event): row.next for row in TRANSITIONS}


@dataclass(slots=True)
class _Case:
    """One job. ``sid``: its participant's when its dispatch was last seen; ``gone``: since when its room is."""

    job: Watched
    standing: Standing
    sid: str = ""
    due: float | None = None
    gone: float | None = None
    away: bool = False


@dataclass(slots=True)
class _Room:
    """One room that is looked at."""

    looking: bool = False
    failures: int = 0
    cases: dict[str, _Case] = field(default_factory=dict)


class Dispatches:
    """The dispatches of the jobs that run here. See the module for the rules."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._rooms: dict[str, _Room] = {}
        self._cases: dict[str, _Case] = {}

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event. What is said of a job that is not watched means nothing."""
        commands: list[Command] = []
        match event:
            case Added(job=job, reachable=reachable):
                self._add(job, reachable, now)
            case Unreachable(job_id=job_id) if (case := self._cases.get(job_id)) is not None:
                self._unreachable(case, now)
            case Away(job_id=job_id) if (case := self._cases.get(job_id)) is not None:
                case.away = True
                case.standing = _TABLE.get((case.standing, Away)) or case.standing
            case Back(job_id=job_id) if (case := self._cases.get(job_id)) is not None:
                case.away = False
            case Removed(job_id=job_id):
                self._remove(job_id)
            case Looked(room=name) if (room := self._rooms.get(name)) is not None:
                commands = self._looked(room, event, now)
            case LookFailed(room=name) if (room := self._rooms.get(name)) is not None:
                self._failed(room, now)
        return [*commands, *self._looks(now)]

    def deadline(self) -> float | None:
        """When the next look is due; ``None`` while none is, or while what is due is being looked at."""
        times = (
            case.due
            for room in self._rooms.values()
            if not room.looking
            for case in room.cases.values()
            if case.due is not None
        )
        return min(times, default=None)

    def standing(self, job_id: str) -> Standing | None:
        """What is known of the job's dispatch; ``None`` if it is not watched."""
        case = self._cases.get(job_id)
        return case.standing if case is not None else None

    def _add(self, job: Watched, reachable: bool, now: float) -> None:
        known = self._cases.get(job.job_id)
        self._remove(job.job_id)
        case = _Case(job, _REACHABLE if reachable else _WATCHED, due=now + (self._pace.first if reachable else 0.0))
        case.away = known is not None and known.away
        self._cases[job.job_id] = case
        self._rooms.setdefault(job.room, _Room()).cases[job.job_id] = case

    def _remove(self, job_id: str) -> None:
        case = self._cases.pop(job_id, None)
        if case is not None:
            room = self._rooms[case.job.room]
            del room.cases[job_id]
            if not room.cases:
                del self._rooms[case.job.room]

    def _unreachable(self, case: _Case, now: float) -> None:
        standing = _TABLE.get((case.standing, Unreachable))
        if standing is not None:
            case.standing, case.due = standing, now

    def _looks(self, now: float) -> list[Command]:
        due = [
            name
            for name, room in self._rooms.items()
            if not room.looking and any(case.due is not None and case.due <= now for case in room.cases.values())
        ]
        for name in due:
            self._rooms[name].looking = True
        return [Look(name) for name in due]

    def _looked(self, room: _Room, event: Looked, now: float) -> list[Command]:
        room.looking, room.failures = False, 0
        commands: list[Command] = []
        for case in list(room.cases.values()):
            reason = self._judge(case, event, now)
            if reason:
                self._remove(case.job.job_id)
                commands.append(End(case.job.job_id, reason))
            else:
                case.due = self._next(case, now)
        return commands

    def _judge(self, case: _Case, event: Looked, now: float) -> str:
        """Why the job has ended, if it has."""
        if event.dispatches is None or event.people is None:
            return self._room_gone(case, now)
        case.gone = None
        sid = event.people.get(case.job.identity, "")
        finding = _finding(case, event.dispatches, sid)
        if finding is Finding.PRESENT:
            case.sid = sid or case.sid
        elif case.away:
            return ""
        row = (case.standing, finding)
        if row in _TABLE:
            standing = _TABLE[row]
            if standing is None:
                return "its dispatch was deleted"
            case.standing = standing
        return ""

    def _room_gone(self, case: _Case, now: float) -> str:
        if case.standing in _ROUTED:
            return ""
        case.gone = now if case.gone is None else case.gone
        return "its room is gone" if now - case.gone >= self._pace.grace else ""

    def _failed(self, room: _Room, now: float) -> None:
        room.looking = False
        room.failures += 1
        for case in room.cases.values():
            if case.due is not None and case.due <= now:
                case.due = now + min(self._pace.interval * 2**room.failures, self._pace.slow)

    def _next(self, case: _Case, now: float) -> float | None:
        match case.standing:
            case Standing.SEEN:
                return None
            case Standing.REACHABLE:
                return now + self._pace.first
            case Standing.FORGOTTEN:
                return now + self._pace.slow
        keen = sum(case.standing in (_WATCHED, _DOUBTED) for case in self._cases.values())
        return now + max(self._pace.interval, keen / self._pace.most)


def _finding(case: _Case, dispatches: Collection[str], sid: str) -> Finding:
    if case.job.dispatch_id in dispatches and (sid or case.standing in _LOST):
        return Finding.PRESENT
    if not sid:
        return Finding.OPEN
    return Finding.DELETED if sid == case.sid else Finding.UNKNOWN
