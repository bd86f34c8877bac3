"""The jobs of one worker: each from its assignment to the end of its last process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import structlog

from greenroom.jobs import recovery
from greenroom.jobs.events import Finished, Outcome
from greenroom.jobs.ipc import JobInfo, Measured, Resume, RoomChanged
from greenroom.jobs.process import JobProcess
from greenroom.jobs.recovery import Recovery, Standing
from greenroom.machine import Driver

__all__ = ["Call", "CallOwner", "Calls"]

_log = structlog.get_logger(__name__)


class CallOwner(Protocol):
    """Who is told what becomes of jobs. Called from the event loop; nothing may be raised."""

    def adopted(self, job: JobInfo) -> None:
        """A process of an earlier daemon came with its job, which is from now on like one that was started."""
        ...

    def joined(self, job: JobInfo) -> None:
        """The agent is in the room; again after each recovery, which ``job.resume`` tells of."""
        ...

    def recovering(self, job: JobInfo, outcome: Outcome) -> None:
        """The job's process died, how ``outcome`` says; the call goes on as ``job``, whose ``resume`` is set."""
        ...

    def room_changed(self, job_id: str, change: RoomChanged) -> None:
        """What the agent's connection to its room has become."""
        ...

    def measured(self, job: JobInfo, measured: Measured) -> None: ...

    def leaving(self, job_id: str, error: str) -> None:
        """The job is over, ``error`` empty for success: tell the server, then call ``Pool.may_leave``. It comes once
        for each job."""
        ...

    def finished(self, job_id: str, outcome: Outcome) -> None:
        """Nothing of the job is left: its slot is free. It comes once for each job, after ``leaving``."""
        ...


@dataclass(slots=True, eq=False)
class Call:
    """One job as it is now. ``job.resume`` is set once it was recovered; ``journal`` is the newest that there is."""

    job: JobInfo
    driver: Driver[recovery.Event, recovery.Command] = field(repr=False)
    recovery: Recovery
    process: JobProcess | None = None
    journal: str = ""
    room: RoomChanged | None = None
    died: Outcome | None = None

    @property
    def standing(self) -> Standing:
        return self.recovery.state


class Calls:
    """The table of them. ``place`` gives a call that comes back a process, or says ``unserved``."""

    def __init__(self, owner: CallOwner, *, place: Callable[[Call], None]) -> None:
        self._owner = owner
        self._place = place
        self._calls: dict[str, Call] = {}
        self._wrap_up: tuple[float, bool] | None = None

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._calls

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._calls.values()))

    def __len__(self) -> int:
        return len(self._calls)

    def get(self, job_id: str) -> Call | None:
        return self._calls.get(job_id)

    # What happens to a job.

    def open(self, job: JobInfo, *, attempts: int) -> Call:
        """A job came, or came back with its process. ``attempts``: how often it may be recovered."""
        resume = job.resume
        machine = Recovery(
            attempts,
            attempt=1 if resume is None else resume.attempt,
            farewell=resume is not None and resume.farewell,
        )

        def perform(command: recovery.Command) -> None:
            self._perform(call, command)

        clock = asyncio.get_running_loop()
        call = Call(job, Driver(machine, perform, clock=clock, tick=recovery.Tick()), machine)
        self._calls[job.id] = call
        return call

    def adopt(self, job: JobInfo, process: JobProcess, *, attempts: int) -> None:
        """A process came with its job."""
        self.open(job, attempts=attempts).process = process
        self._remind(process)
        self._owner.adopted(job)

    def serve(self, call: Call, process: JobProcess) -> None:
        """Give it to a process, which has to be available."""
        call.process = process
        process.assign(call.job)
        self._remind(process)

    def ended(self, call: Call) -> None:
        """It was asked to end: its process's death is no loss any more."""
        call.driver.feed(recovery.EndAsked())

    def unserved(self, call: Call, error: str, outcome: Outcome) -> None:
        """No process is to be had for it."""
        _log.error("no process for job", job=call.job.id, room=call.job.room, error=error)
        call.driver.feed(recovery.Unserved(outcome, error))

    def wrap_up(self, seconds: float, *, last: bool) -> None:
        """Say to all agents, and to those that come yet, that calls are ended in so many seconds."""
        self._wrap_up = (time.monotonic() + seconds, last)
        for call in self:
            if call.process is not None:
                self._remind(call.process)

    def _remind(self, process: JobProcess) -> None:
        if self._wrap_up is not None:
            process.wrap_up(*self._wrap_up)

    # What processes say: the pool passes it on.

    def joined(self, process: JobProcess, journal: str) -> None:
        call = self._of(process)
        if call is not None:
            call.driver.feed(recovery.Joined())
            call.journal = journal or call.journal
            self._owner.joined(call.job)

    def wrote(self, process: JobProcess, journal: str) -> None:
        """Its journal is there."""
        call = self._of(process)
        if call is not None:
            call.journal = journal or call.journal

    def room_changed(self, process: JobProcess, change: RoomChanged) -> None:
        call = self._of(process)
        if call is not None:
            call.room = change
            if change.sid and call.job.room_sid:  # a server that was restarted has made the room anew
                call.job = msgspec.structs.replace(call.job, room_sid=change.sid)
            self._owner.room_changed(call.job.id, change)

    def measured(self, process: JobProcess, measured: Measured) -> None:
        if process.job is not None:
            self._owner.measured(process.job, measured)

    def left(self, process: JobProcess, error: str) -> None:
        call = self._of(process)
        if call is not None:
            call.driver.feed(recovery.Left(error))

    def gone(self, process: JobProcess, end: Finished) -> None:
        call = self._of(process)
        if call is not None:
            call.process, call.died = None, end.outcome
            call.driver.feed(recovery.Lost(end.outcome, end.error) if end.lost else recovery.Gone(end.outcome))

    def _of(self, process: JobProcess) -> Call | None:
        """The call that this process serves."""
        call = None if process.job is None else self._calls.get(process.job.id)
        return call if call is not None and call.process is process else None

    # What the machine commands.

    def _perform(self, call: Call, command: recovery.Command) -> None:
        job = call.job
        match command:
            case recovery.Resume(attempt, died, farewell):
                resume = Resume(
                    attempt=attempt, journal=call.journal, died=died, at=time.monotonic(), farewell=farewell
                )
                call.job = msgspec.structs.replace(job, resume=resume)
                _log.warning("call goes on", job=job.id, room=job.room, attempt=attempt, farewell=farewell, died=died)
                self._owner.recovering(call.job, call.died or Outcome.CRASHED)
                self._place(call)
            case recovery.Tell(error):
                self._owner.leaving(job.id, error)
            case recovery.Free(outcome):
                call.driver.close()
                del self._calls[job.id]
                self._owner.finished(job.id, outcome)
