"""What a job's process can go through, as events for ``JobLifecycle``, and what it commands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from signal import Signals
from typing import TypeAlias

__all__ = [
    "Adopted",
    "Assigned",
    "BootFailed",
    "Command",
    "ConsiderAsked",
    "Considered",
    "Dialled",
    "Drop",
    "EndAsked",
    "Ended",
    "Event",
    "Exited",
    "Finished",
    "Joined",
    "Leaving",
    "LineLost",
    "MemoryMeasured",
    "Outcome",
    "Ponged",
    "Ready",
    "ReportLeaving",
    "SendBoot",
    "SendConsider",
    "SendEnd",
    "SendMayLeave",
    "SendPing",
    "SendStart",
    "Signal",
    "SpawnFailed",
    "Spawned",
    "StatusReported",
    "Tick",
    "Warn",
]


class Outcome(Enum):
    SUCCESS = "success"
    FAILED = "failed"
    """The agent's code raised, or the room was not joined in time."""
    CRASHED = "crashed"
    BOOT_FAILED = "boot_failed"
    UNRESPONSIVE = "unresponsive"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"
    """It was asked to end and did not."""
    RETIRED = "retired"
    """It was told to go before it had a job."""


# Events: what happened.


@dataclass(frozen=True, slots=True)
class Spawned:
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    error: str


@dataclass(frozen=True, slots=True)
class Adopted:
    """A process of an earlier daemon dialled with its job, in place of ``Spawned``. Where it stands it says next."""

    pid: int
    job_id: str


@dataclass(frozen=True, slots=True)
class Dialled:
    """Its line is up, for the first time or again. ``job_id``: the job that it says it has."""

    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class LineLost:
    pass


@dataclass(frozen=True, slots=True)
class Ready:
    pass


@dataclass(frozen=True, slots=True)
class BootFailed:
    error: str


@dataclass(frozen=True, slots=True)
class ConsiderAsked:
    """An offer is put to it."""


@dataclass(frozen=True, slots=True)
class Considered:
    """It has decided about the offer."""


@dataclass(frozen=True, slots=True)
class Assigned:
    job_id: str


@dataclass(frozen=True, slots=True)
class Joined:
    pass


@dataclass(frozen=True, slots=True)
class Leaving:
    """It said that the call is over; ``error`` is empty for success."""

    error: str = ""


@dataclass(frozen=True, slots=True)
class StatusReported:
    """The server was told the outcome, or cannot be reached."""


@dataclass(frozen=True, slots=True)
class Ended:
    """It said that it is out of the room and about to exit."""


@dataclass(frozen=True, slots=True)
class EndAsked:
    reason: str
    grace: float


@dataclass(frozen=True, slots=True)
class Ponged:
    n: int


@dataclass(frozen=True, slots=True)
class MemoryMeasured:
    """Its proportional share of memory (PSS), or what it has resident where the kernel tells no more."""

    memory_mb: float


@dataclass(frozen=True, slots=True)
class Exited:
    """``code`` as ``os.waitstatus_to_exitcode`` returns it; ``None`` where nobody could collect it."""

    code: int | None


@dataclass(frozen=True, slots=True)
class Tick:
    pass


# Commands: what is to be done.


@dataclass(frozen=True, slots=True)
class SendBoot:
    pass


@dataclass(frozen=True, slots=True)
class SendConsider:
    pass


@dataclass(frozen=True, slots=True)
class SendStart:
    pass


@dataclass(frozen=True, slots=True)
class SendPing:
    n: int


@dataclass(frozen=True, slots=True)
class SendEnd:
    reason: str
    grace: float


@dataclass(frozen=True, slots=True)
class SendMayLeave:
    pass


@dataclass(frozen=True, slots=True)
class ReportLeaving:
    """Tell the server how the job ended, then say ``StatusReported``; ``error`` is empty for success."""

    error: str


@dataclass(frozen=True, slots=True)
class Signal:
    signal: Signals


@dataclass(frozen=True, slots=True)
class Warn:
    """For the log: ``what`` is worth a look, ``value`` how much of it, in the unit of its name."""

    what: str
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Drop:
    """The process said what it cannot say now; counted and ignored."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """``exit`` is the exit's name (``exits.describe``), ``error`` empty for success.

    ``lost``: it died while its call went on, and no ``ReportLeaving`` came before: the call may go on in another one.
    """

    outcome: Outcome
    error: str
    exit: str
    lost: bool = False


Event: TypeAlias = (
    Spawned
    | SpawnFailed
    | Adopted
    | Dialled
    | LineLost
    | Ready
    | BootFailed
    | ConsiderAsked
    | Considered
    | Assigned
    | Joined
    | Leaving
    | StatusReported
    | Ended
    | EndAsked
    | Ponged
    | MemoryMeasured
    | Exited
    | Tick
)
Command: TypeAlias = (
    SendBoot
    | SendConsider
    | SendStart
    | SendPing
    | SendEnd
    | SendMayLeave
    | ReportLeaving
    | Signal
    | Warn
    | Drop
    | Finished
)
