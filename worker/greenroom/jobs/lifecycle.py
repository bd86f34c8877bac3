"""What becomes of one job's process, from the fork to its exit. Pure: told the events and the time.

Rules:

- Every process ends in exactly one ``Finished``, after which there is no command. Every job that a process was given
  either has exactly one ``ReportLeaving`` before it, so that the server is told of the outcome, or is ``lost`` with it.
- Lost is a job whose process dies while its call goes on: it crashed, hung or outgrew its memory, neither was it asked
  to end nor did it say that it leaves. Whether the call goes on elsewhere is for ``recovery`` to say. The agent's own
  error (it said so, or exits with it) is no such death.
- No state waits for ever. Starting and booting share the boot deadline; a job has to be joined within ``connect``; who
  was asked to end has the grace it was given; who said that it leaves has ``end``. Only a waiting process (``WARM``)
  and a call that goes well (``RUNNING``) have no deadline of their own.
- The ladder down: ``EndJob`` over the line, SIGTERM when the grace is over, SIGKILL ``terminate`` later. A process that
  hangs cannot be asked: it gets SIGUSR1, which prints its stacks, and SIGKILL ``DUMP_TIME`` later. One that outgrew its
  memory during its call gets SIGKILL at once: what it would do at a call's end must not be done, as the call goes on.
- A process that considers an offer runs the agent's code and answers nothing else meanwhile. How long the offer may
  wait is not decided here; a process that is at it for ``ping_timeout`` is unresponsive.
- A process with a job is pinged every ``ping_interval``, one ping at a time; one that is silent for ``ping_timeout`` is
  unresponsive. A waiting process is not pinged: an idle worker does not wake up.
- A lost line is no death. The process has ``ping_timeout`` to dial again and then says once more where it stands, so
  all that it says may come twice and all that it might have missed is sent again.
- The first cause is the outcome: what follows from it (a kill, a strange exit) does not replace it.
- A tick that comes more than ``LATE`` after its deadline says that the daemon itself was stopped. Everything that was
  due is put off by that time, as what the process said meanwhile may still wait to be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from signal import SIGKILL, SIGTERM, SIGUSR1, Signals
from typing import Final, NamedTuple

from greenroom.errors import LocalProtocolError
from greenroom.jobs.events import (
    Adopted,
    Assigned,
    BootFailed,
    Command,
    ConsiderAsked,
    Considered,
    Dialled,
    Drop,
    EndAsked,
    Ended,
    Event,
    Exited,
    Finished,
    Joined,
    Leaving,
    LineLost,
    MemoryMeasured,
    Outcome,
    Ponged,
    Ready,
    ReportLeaving,
    SendBoot,
    SendConsider,
    SendEnd,
    SendMayLeave,
    SendStart,
    Signal,
    Spawned,
    SpawnFailed,
    StatusReported,
    Tick,
    Warn,
)
from greenroom.jobs.exits import Exit, describe
from greenroom.jobs.pings import Pings
from greenroom.settings import Deadlines

__all__ = ["DUMP_TIME", "LATE", "MEMORY_WARN_STEP_MB", "TRANSITIONS", "JobLifecycle", "State", "Transition"]

DUMP_TIME: Final = 0.5
LATE: Final = 1.0
MEMORY_WARN_STEP_MB: Final = 50.0


class State(Enum):
    STARTING = "starting"
    """The fork was asked for; nobody has dialled."""
    BOOTING = "booting"
    """It loads the agent."""
    WARM = "warm"
    """It waits for a job."""
    CONSIDERING = "considering"
    """An offer was put to it: the agent's code says whether to take it."""
    JOINING = "joining"
    """It has a job and enters the room."""
    RUNNING = "running"
    """It is in the room."""
    ENDING = "ending"
    """It was asked to end."""
    LEAVING = "leaving"
    """It said that the call is over; the server is told, then it leaves the room and exits."""
    STOPPING = "stopping"
    """It is past asking: only its exit is awaited."""
    DEAD = "dead"


_REMOTE: Final = (Dialled, Ready, BootFailed, Considered, Joined, Leaving, Ended, Ponged)


class Transition(NamedTuple):
    """One row of the table: in ``state``, ``event`` may lead to ``to``; ``rule`` says when and what is done."""

    state: State
    event: type[Event]
    to: State
    rule: str


_S = State
TRANSITIONS: Final[tuple[Transition, ...]] = (
    Transition(_S.STARTING, Spawned, _S.STARTING, "its pid is known"),
    Transition(_S.STARTING, SpawnFailed, _S.DEAD, "finished: boot failed"),
    Transition(_S.STARTING, Adopted, _S.JOINING, "a call from before this daemon's start; pinged at once"),
    Transition(_S.STARTING, Dialled, _S.BOOTING, "send Boot"),
    Transition(_S.STARTING, EndAsked, _S.STOPPING, "SIGTERM, or SIGKILL once its pid is known"),
    Transition(_S.STARTING, Tick, _S.STOPPING, "boot deadline: SIGKILL"),
    Transition(_S.STARTING, Exited, _S.DEAD, "finished: boot failed"),
    Transition(_S.BOOTING, Ready, _S.WARM, "it can be given a job"),
    Transition(_S.BOOTING, BootFailed, _S.STOPPING, "it exits by itself, or is killed"),
    Transition(_S.BOOTING, Dialled, _S.BOOTING, "send Boot again"),
    Transition(_S.BOOTING, LineLost, _S.BOOTING, "the boot deadline covers the dialling"),
    Transition(_S.BOOTING, EndAsked, _S.STOPPING, "SIGTERM: nobody listens while the agent's code loads"),
    Transition(_S.BOOTING, Tick, _S.STOPPING, "boot deadline: SIGUSR1 for the stacks, then SIGKILL"),
    Transition(_S.BOOTING, Exited, _S.DEAD, "finished: boot failed"),
    Transition(_S.WARM, Assigned, _S.JOINING, "send StartJob, begin to ping"),
    Transition(_S.WARM, ConsiderAsked, _S.CONSIDERING, "send Consider"),
    Transition(_S.WARM, Ready, _S.WARM, "said again after a redial"),
    Transition(_S.WARM, Dialled, _S.WARM, "the line is back"),
    Transition(_S.WARM, LineLost, _S.WARM, "it has ping_timeout to dial again"),
    Transition(_S.WARM, EndAsked, _S.ENDING, "send EndJob"),
    Transition(_S.WARM, Tick, _S.STOPPING, "it did not dial again: unresponsive"),
    Transition(_S.WARM, Exited, _S.DEAD, "finished: crashed"),
    Transition(_S.CONSIDERING, Considered, _S.WARM, "it has decided"),
    Transition(_S.CONSIDERING, Dialled, _S.WARM, "the line is back; what it decided is lost"),
    Transition(_S.CONSIDERING, LineLost, _S.CONSIDERING, "it has ping_timeout to dial again"),
    Transition(_S.CONSIDERING, EndAsked, _S.ENDING, "send EndJob"),
    Transition(_S.CONSIDERING, Tick, _S.STOPPING, "unresponsive: SIGUSR1, SIGKILL"),
    Transition(_S.CONSIDERING, Exited, _S.DEAD, "finished: crashed"),
    Transition(_S.JOINING, Joined, _S.RUNNING, "it is in the room"),
    Transition(_S.JOINING, Leaving, _S.LEAVING, "it could not join, or the call was over at once; tell the server"),
    Transition(_S.JOINING, Ready, _S.JOINING, "said again after a redial"),
    Transition(_S.JOINING, Dialled, _S.JOINING, "StartJob again if it has no job; ping"),
    Transition(_S.JOINING, LineLost, _S.JOINING, "it has ping_timeout to dial again"),
    Transition(_S.JOINING, EndAsked, _S.ENDING, "send EndJob"),
    Transition(_S.JOINING, Tick, _S.JOINING, "ping"),
    Transition(_S.JOINING, Tick, _S.ENDING, "connect deadline: tell the server, send EndJob"),
    Transition(_S.JOINING, Tick, _S.STOPPING, "unresponsive: lost; SIGUSR1, SIGKILL"),
    Transition(_S.JOINING, MemoryMeasured, _S.JOINING, "below the limit"),
    Transition(_S.JOINING, MemoryMeasured, _S.STOPPING, "above the limit: lost; SIGKILL"),
    Transition(_S.JOINING, Ponged, _S.JOINING, "it lives"),
    Transition(_S.JOINING, Exited, _S.DEAD, "finished: crashed, lost; or failed by its own error: tell the server"),
    Transition(_S.RUNNING, Joined, _S.RUNNING, "said again after a redial"),
    Transition(_S.RUNNING, Leaving, _S.LEAVING, "tell the server"),
    Transition(_S.RUNNING, Dialled, _S.RUNNING, "ping"),
    Transition(_S.RUNNING, LineLost, _S.RUNNING, "it has ping_timeout to dial again"),
    Transition(_S.RUNNING, EndAsked, _S.ENDING, "send EndJob"),
    Transition(_S.RUNNING, Tick, _S.RUNNING, "ping, or warn that it is slow"),
    Transition(_S.RUNNING, Tick, _S.STOPPING, "unresponsive: lost; SIGUSR1, SIGKILL"),
    Transition(_S.RUNNING, MemoryMeasured, _S.RUNNING, "below the limit"),
    Transition(_S.RUNNING, MemoryMeasured, _S.STOPPING, "above the limit: lost; SIGKILL"),
    Transition(_S.RUNNING, Ponged, _S.RUNNING, "it lives"),
    Transition(_S.RUNNING, Exited, _S.DEAD, "finished: crashed, lost; or failed by its own error: tell the server"),
    Transition(_S.ENDING, Leaving, _S.LEAVING, "tell the server"),
    Transition(_S.ENDING, Leaving, _S.ENDING, "it has no job to leave: dropped"),
    Transition(_S.ENDING, StatusReported, _S.ENDING, "it did not join in time and the server knows"),
    Transition(_S.ENDING, Joined, _S.ENDING, "it was on its way in"),
    Transition(_S.ENDING, Ready, _S.ENDING, "said again after a redial"),
    Transition(_S.ENDING, Dialled, _S.ENDING, "EndJob again with the grace that is left"),
    Transition(_S.ENDING, LineLost, _S.ENDING, "it has ping_timeout to dial again"),
    Transition(_S.ENDING, EndAsked, _S.ENDING, "the sooner deadline counts"),
    Transition(_S.ENDING, Tick, _S.ENDING, "ping"),
    Transition(_S.ENDING, Tick, _S.STOPPING, "grace over: tell the server, SIGTERM; unresponsive: SIGUSR1, SIGKILL"),
    Transition(_S.ENDING, MemoryMeasured, _S.ENDING, "below the limit"),
    Transition(_S.ENDING, MemoryMeasured, _S.STOPPING, "above the limit: tell the server, SIGTERM"),
    Transition(_S.ENDING, Ponged, _S.ENDING, "it lives"),
    Transition(_S.ENDING, Exited, _S.DEAD, "finished"),
    Transition(_S.LEAVING, StatusReported, _S.LEAVING, "send MayLeave"),
    Transition(_S.LEAVING, Leaving, _S.LEAVING, "said again after a redial: MayLeave again if it was given"),
    Transition(_S.LEAVING, Ended, _S.LEAVING, "the exit is due within terminate"),
    Transition(_S.LEAVING, Joined, _S.LEAVING, "said again after a redial"),
    Transition(_S.LEAVING, Dialled, _S.LEAVING, "ping"),
    Transition(_S.LEAVING, LineLost, _S.LEAVING, "it exits, or has ping_timeout to dial again"),
    Transition(_S.LEAVING, EndAsked, _S.LEAVING, "the sooner deadline counts"),
    Transition(_S.LEAVING, Tick, _S.LEAVING, "ping"),
    Transition(_S.LEAVING, Tick, _S.STOPPING, "end deadline: SIGTERM; unresponsive: SIGUSR1, SIGKILL"),
    Transition(_S.LEAVING, MemoryMeasured, _S.LEAVING, "below the limit"),
    Transition(_S.LEAVING, MemoryMeasured, _S.STOPPING, "above the limit: SIGTERM"),
    Transition(_S.LEAVING, Ponged, _S.LEAVING, "it lives"),
    Transition(_S.LEAVING, Exited, _S.DEAD, "finished: success, or failed with what it said"),
    Transition(_S.STOPPING, Spawned, _S.STOPPING, "SIGKILL: it was condemned before its pid was known"),
    Transition(_S.STOPPING, SpawnFailed, _S.DEAD, "finished"),
    Transition(_S.STOPPING, Leaving, _S.STOPPING, "not lost after all: tell the server unless it knows; send MayLeave"),
    Transition(_S.STOPPING, StatusReported, _S.STOPPING, "send MayLeave if it said that it leaves"),
    Transition(_S.STOPPING, Tick, _S.STOPPING, "SIGKILL"),
    Transition(_S.STOPPING, Exited, _S.DEAD, "finished with the first cause"),
)


def _targets() -> Mapping[tuple[State, type[Event]], frozenset[State]]:
    targets: dict[tuple[State, type[Event]], frozenset[State]] = {}
    for row in TRANSITIONS:
        targets[row.state, row.event] = targets.get((row.state, row.event), frozenset()) | {row.to}
    return targets


_TARGETS: Final = _targets()
_IN_CALL: Final = (State.JOINING, State.RUNNING)
# What may always come too late to matter, in any state that has no row for it.
_LATE_ANYWHERE: Final = (StatusReported, MemoryMeasured, LineLost, Tick)


class JobLifecycle:
    """One process. ``now`` is when its fork was asked for; a memory limit of 0 is none."""

    def __init__(self, deadlines: Deadlines, *, now: float, memory_warn_mb: int = 0, memory_limit_mb: int = 0) -> None:
        self.state = State.STARTING
        self.pid: int | None = None
        self.job_id: str | None = None
        self.line = False
        self._deadlines = deadlines
        self._memory_limit_mb = memory_limit_mb
        self._memory_warn_mb = float(memory_warn_mb)
        self._until: float | None = now + deadlines.boot
        self._redial_by: float | None = None
        self._ping = Pings(deadlines)
        self._end_reason = ""
        self._said: str | None = None
        self._verdict: tuple[Outcome, str] | None = None
        self._reported = False
        self._answered = False
        self._lost = False
        self._out: list[Command] = []

    @property
    def available(self) -> bool:
        """It can be given a job now."""
        return self.state is State.WARM and self.line

    def deadline(self) -> float | None:
        times = (self._until, self._redial_by, self._ping.deadline())
        return min((when for when in times if when is not None), default=None)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Raises ``LocalProtocolError`` for what greenroom itself may not say in this state."""
        self._out = []
        if self.state is State.DEAD:
            return []
        self._forgive(now)
        if not isinstance(event, Tick) and self._legal(event):
            self._checked(event, now)
        while (when := self.deadline()) is not None and when <= now:
            self._checked(Tick(), now)
        return self._out

    def _legal(self, event: Event) -> bool:
        """Whether the table knows it; what it does not know is absorbed, dropped or our own mistake."""
        if (self.state, type(event)) in _TARGETS:
            return True
        what = f"{type(event).__name__} while {self.state.value}"
        condemned = self.state is State.STOPPING and not isinstance(event, (Adopted, Assigned, ConsiderAsked))
        if condemned or isinstance(event, _LATE_ANYWHERE):
            return False
        if not isinstance(event, _REMOTE):
            raise LocalProtocolError(what)
        self._out.append(Drop(what))
        return False

    def _checked(self, event: Event, now: float) -> None:
        """Handle what is legal and hold the table true."""
        before = self.state
        self._take(event, now)
        if self.state not in _TARGETS[before, type(event)]:
            raise LocalProtocolError(
                f"{before.value} -> {self.state.value} on {type(event).__name__}: not in the table"
            )

    def _take(self, event: Event, now: float) -> None:
        match event:
            case Spawned() | Adopted():
                self._spawned(event, now)
            case SpawnFailed(error):
                self._finish(Outcome.BOOT_FAILED, error, "none")
            case Dialled(job_id):
                self._dialled(job_id, now)
            case LineLost():
                self._line_lost(now)
            case Ready():
                self._ready()
            case BootFailed(error):
                self._verdict = (Outcome.BOOT_FAILED, error)
                self._stop(now, signal=None, wait=self._deadlines.terminate)
            case ConsiderAsked():
                self.state, self._until = State.CONSIDERING, now + self._deadlines.ping_timeout
                if self.line:
                    self._out.append(SendConsider())
            case Considered():
                self.state, self._until = State.WARM, None
            case Assigned(job_id):
                self._assigned(job_id, now)
            case Joined():
                self._joined()
            case Leaving(error):
                self._leaving(error, now)
            case StatusReported():
                self._may_leave()
            case Ended():
                self._sooner(now + self._deadlines.terminate)
            case EndAsked():
                self._end_asked(event, now)
            case Ponged(n):
                if not self._ping.answered(n, now):
                    self._out.append(Drop("an answer to no ping"))
            case MemoryMeasured(memory_mb):
                self._memory(memory_mb, now)
            case Exited(code):
                self._exited(code)
            case Tick():
                self._due(now)

    # Starting and booting.

    def _spawned(self, event: Spawned | Adopted, now: float) -> None:
        if self.pid is not None:
            raise LocalProtocolError("one process spawned twice")
        self.pid = event.pid
        if self.state is State.STOPPING:
            self._out.append(Signal(SIGKILL))
            self._until = None
        elif isinstance(event, Adopted):
            self.state, self.job_id, self.line = State.JOINING, event.job_id, True
            self._until = now + self._deadlines.connect
            self._ping.begin(now)

    def _ready(self) -> None:
        if self.state is State.BOOTING:
            self.state, self._until = State.WARM, None

    # The line.

    def _dialled(self, job_id: str | None, now: float) -> None:
        self.line, self._redial_by = True, None
        if self.state in (State.STARTING, State.BOOTING):
            self.state = State.BOOTING
            self._out.append(SendBoot())
        elif self.state is State.JOINING and job_id is None:
            self._out.append(SendStart())
        elif self.state is State.CONSIDERING:
            self.state, self._until = State.WARM, None
        elif self.state is State.ENDING:
            self._out.append(SendEnd(self._end_reason, max(0.0, (self._until or now) - now)))
        elif job_id != self.job_id:
            self._out.append(Drop("dialled with another job than its own"))
        if self.job_id is not None:
            self._ping.begin(now)

    def _line_lost(self, now: float) -> None:
        self.line = False
        self._ping.stop()
        if self.state is not State.BOOTING:
            self._redial_by = now + self._deadlines.ping_timeout

    # The job.

    def _assigned(self, job_id: str, now: float) -> None:
        self.state, self.job_id = State.JOINING, job_id
        self._until = now + self._deadlines.connect
        if self.line:
            self._out.append(SendStart())
            self._ping.begin(now + self._deadlines.ping_interval)

    def _joined(self) -> None:
        if self.state is State.JOINING:
            self.state, self._until = State.RUNNING, None

    def _leaving(self, error: str, now: float) -> None:
        if self.job_id is None:
            self._out.append(Drop("leaving without a job"))
        elif self.state is State.STOPPING:
            self._said, self._lost, self._answered = error, False, self._answered or self._reported
            self._report(error)
        elif self.state is not State.LEAVING:
            if self.state is State.ENDING:
                self._until = max(self._until or now, now + self._deadlines.terminate)
            else:
                self._until = now + self._deadlines.end
            self.state, self._said = State.LEAVING, error
            self._report(error)
        if self._answered and self.line:
            self._out.append(SendMayLeave())

    def _may_leave(self) -> None:
        self._answered = True
        if self._said is not None and self.line:
            self._out.append(SendMayLeave())

    def _end_asked(self, event: EndAsked, now: float) -> None:
        if self.state in (State.STARTING, State.BOOTING):
            self._verdict = (Outcome.RETIRED, "")
            self._stop(now, signal=SIGTERM, wait=self._deadlines.terminate)
            return
        before = self._until
        if self.state in (State.JOINING, State.RUNNING):
            self._ask_to_end(event.reason, now + event.grace, now)
        elif self.state in (State.WARM, State.CONSIDERING):
            self._ask_to_end(event.reason, now + min(event.grace, self._deadlines.terminate), now)
        else:
            self._sooner(now + event.grace)
            if self.state is State.ENDING and self._until != before and self.line:
                self._out.append(SendEnd(event.reason, event.grace))

    def _ask_to_end(self, reason: str, until: float, now: float) -> None:
        self.state, self._end_reason, self._until = State.ENDING, reason, until
        if self.line:
            self._out.append(SendEnd(reason, until - now))

    def _sooner(self, when: float) -> None:
        self._until = when if self._until is None else min(self._until, when)

    def _report(self, error: str) -> None:
        if self.job_id is not None and not self._reported:
            self._reported = True
            self._out.append(ReportLeaving(error))

    # Watching it.

    def _memory(self, memory_mb: float, now: float) -> None:
        if self._memory_limit_mb and memory_mb > self._memory_limit_mb:
            error = f"used {memory_mb:.0f} MB of memory; the limit is {self._memory_limit_mb} MB"
            if self.state in _IN_CALL:
                self._condemn(Outcome.OUT_OF_MEMORY, error, now, signal=SIGKILL, wait=None)
            else:
                self._condemn(Outcome.OUT_OF_MEMORY, error, now, signal=SIGTERM, wait=self._deadlines.terminate)
        elif self._memory_warn_mb and memory_mb > self._memory_warn_mb:
            self._memory_warn_mb = memory_mb + MEMORY_WARN_STEP_MB
            self._out.append(Warn("job uses much memory", "memory_mb", round(memory_mb, 1)))

    def _due(self, now: float) -> None:
        """Do the one thing that is due."""
        if self._until is not None and self._until <= now:
            self._overdue(now)
        elif self._redial_by is not None and self._redial_by <= now:
            error = f"its line was lost and not dialled again within {self._deadlines.ping_timeout:g} s"
            self._condemn(Outcome.UNRESPONSIVE, error, now, signal=SIGUSR1, wait=DUMP_TIME)
        else:
            self._ping_due(now)

    def _overdue(self, now: float) -> None:
        limits = self._deadlines
        match self.state:
            case State.STARTING:
                error = f"did not dial within {limits.boot:g} s"
                self._condemn(Outcome.BOOT_FAILED, error, now, signal=SIGKILL, wait=None)
            case State.BOOTING:
                error = f"did not boot within {limits.boot:g} s"
                self._condemn(Outcome.BOOT_FAILED, error, now, signal=SIGUSR1, wait=DUMP_TIME)
            case State.CONSIDERING:
                error = f"did not decide about an offer within {limits.ping_timeout:g} s"
                self._condemn(Outcome.UNRESPONSIVE, error, now, signal=SIGUSR1, wait=DUMP_TIME)
            case State.JOINING:
                error = f"did not join the room within {limits.connect:g} s"
                self._verdict = (Outcome.FAILED, error)
                self._report(error)
                self._ask_to_end(error, now + limits.end, now)
            case State.STOPPING:
                self._until = None
                if self.pid is not None:
                    self._out.append(Signal(SIGKILL))
            case _:
                error = "did not end in time" if self._said is None else "did not exit in time"
                self._condemn(Outcome.KILLED, error, now, signal=SIGTERM, wait=limits.terminate)

    def _ping_due(self, now: float) -> None:
        command = self._ping.due(now)
        if command is not None:
            self._out.append(command)
            return
        error = f"did not answer for {self._deadlines.ping_timeout:g} s"
        self._condemn(Outcome.UNRESPONSIVE, error, now, signal=SIGUSR1, wait=DUMP_TIME)

    def _forgive(self, now: float) -> None:
        due = self.deadline()
        if due is None or now - due <= LATE:
            return
        late = now - due + LATE
        self._until = None if self._until is None else self._until + late
        self._redial_by = None if self._redial_by is None else self._redial_by + late
        self._ping.shift(late)

    # Its end.

    def _condemn(self, outcome: Outcome, error: str, now: float, *, signal: Signals, wait: float | None) -> None:
        if self._verdict is None:
            self._verdict = (outcome, error)
        if self.state in _IN_CALL:
            self._lost = True
        else:
            self._report(error)
        self._stop(now, signal=signal, wait=wait)

    def _stop(self, now: float, *, signal: Signals | None, wait: float | None) -> None:
        self.state, self._redial_by = State.STOPPING, None
        self._ping.stop()
        self._until = None if wait is None else now + wait
        if signal is not None and self.pid is not None:
            self._out.append(Signal(signal))

    def _exited(self, code: int | None) -> None:
        outcome, error = self._verdict or self._judge(code)
        if self.state in _IN_CALL and outcome is Outcome.CRASHED:
            self._lost = True
        self._finish(outcome, error, describe(code))

    def _judge(self, code: int | None) -> tuple[Outcome, str]:
        """The outcome of an exit that nothing had announced, or that ``Leaving`` had."""
        name = describe(code)
        if self.state in (State.STARTING, State.BOOTING):
            return Outcome.BOOT_FAILED, f"exited while {self.state.value}: {name}"
        if self.job_id is None:
            asked = self.state is State.ENDING
            return (Outcome.RETIRED, "") if asked else (Outcome.CRASHED, f"exited while it waited: {name}")
        if self._said:
            return Outcome.FAILED, self._said
        if code == Exit.JOB_FAILED:
            return Outcome.FAILED, "the job failed"
        if self._said is not None:
            clean = code is None or code == Exit.OK
            return (Outcome.SUCCESS, "") if clean else (Outcome.CRASHED, f"exited after the call: {name}")
        if code == Exit.OK and self.state is State.ENDING:
            return Outcome.SUCCESS, ""
        return Outcome.CRASHED, f"exited during the call: {name}"

    def _finish(self, outcome: Outcome, error: str, name: str) -> None:
        if self._verdict is not None:
            outcome, error = self._verdict
        if not self._lost:
            self._report(error)
        self.state, self._until, self._redial_by, self.line = State.DEAD, None, None, False
        self._ping.stop()
        self._out.append(Finished(outcome, error, name, self._lost))
