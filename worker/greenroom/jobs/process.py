"""One job's process as the daemon sees it: ``JobLifecycle`` with a line, a pidfd and a log around it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from typing import Protocol

import structlog

from greenroom.jobs import events, ipc
from greenroom.jobs.lifecycle import JobLifecycle, State
from greenroom.jobs.line import Line, Message
from greenroom.machine import Driver
from greenroom.settings import WorkerSettings

__all__ = ["JobProcess", "ProcessOwner"]

_log = structlog.get_logger(__name__)


class ProcessOwner(Protocol):
    """Who is told what a process goes through."""

    def warmed(self, process: JobProcess) -> None:
        """It became available."""
        ...

    def cooled(self, process: JobProcess) -> None:
        """It is not available any more: taken, lost or told to go. Not said of one that has finished."""
        ...

    def considered(self, process: JobProcess, decision: ipc.Considered) -> None:
        """It has decided about a job that was put to it."""
        ...

    def joined(self, process: JobProcess, journal: str) -> None:
        """It is in the room, and writes there, if it does."""
        ...

    def wrote(self, process: JobProcess, journal: str) -> None:
        """It has begun its journal after it had joined."""
        ...

    def room_changed(self, process: JobProcess, change: ipc.RoomChanged) -> None: ...

    def measured(self, process: JobProcess, measured: ipc.Measured) -> None: ...

    def leaving(self, process: JobProcess, error: str) -> None:
        """Its job is over: the server is to be told, then ``may_leave`` called."""
        ...

    def finished(self, process: JobProcess, end: events.Finished) -> None:
        """It is gone; nothing follows."""
        ...


class JobProcess:
    """A ``forks.ForkListener``. It holds its pidfd from the first sign of life to the exit, so that a signal can never
    reach another process that was given the same pid."""

    def __init__(self, slot: str, *, boot: ipc.Boot, worker: WorkerSettings, owner: ProcessOwner) -> None:
        loop = asyncio.get_running_loop()
        self.slot = slot
        self.agent = boot.agent
        self.job: ipc.JobInfo | None = None
        self.dropped = 0
        self.trace = ""
        """Where its boot failed."""
        self.stale = False
        """It is to be replaced: the settings have changed, or it is too old."""
        self.seasoned = False
        """That it is warm was told."""
        self.considers = False
        """Offers are to be put to it; known once it is warm."""
        self.memory_mb: float | None = None
        """When it was last measured."""
        self._boot = boot
        self._owner = owner
        self._loop = loop
        self._line: Line | None = None
        self._pidfd: int | None = None
        self._watched = False
        self._warm = False
        self._wrap_up: tuple[float, bool] | None = None
        self._asked: ipc.JobInfo | None = None
        self._born = loop.time()
        self.lifecycle = JobLifecycle(
            worker.deadlines,
            now=self._born,
            memory_warn_mb=worker.memory_warn_mb,
            memory_limit_mb=worker.memory_limit_mb,
        )
        self._driver = Driver[events.Event, events.Command](
            self.lifecycle, self._perform, clock=loop, tick=events.Tick()
        )
        # Nothing has happened yet, but the boot deadline runs from now.
        self._driver.feed(events.Tick())

    @property
    def pid(self) -> int | None:
        return self.lifecycle.pid

    @property
    def state(self) -> State:
        return self.lifecycle.state

    @property
    def available(self) -> bool:
        return self.lifecycle.available

    @property
    def booting(self) -> bool:
        """It is not warm yet, and was not told to go."""
        return self.state in (State.STARTING, State.BOOTING)

    @property
    def age(self) -> float:
        return self._loop.time() - self._born

    # What the owner asks for.

    def assign(self, job: ipc.JobInfo) -> None:
        """Give it a job; it has to be available."""
        self.job = job
        self._feed(events.Assigned(job.id))

    def consider(self, job: ipc.JobInfo) -> None:
        """Put an offer to it; it has to be available. Unless it hangs or dies the owner hears ``considered``, after
        however long."""
        self._asked = job
        self._feed(events.ConsiderAsked())

    def end(self, reason: str, *, grace: float) -> None:
        self._feed(events.EndAsked(reason, grace))

    def wrap_up(self, until: float, last: bool) -> None:
        """Say that its call will be ended at ``until``, on the monotonic clock; again on each new line."""
        self._wrap_up = (until, last)
        self._say_wrap_up()

    def may_leave(self) -> None:
        self._feed(events.StatusReported())

    def measured(self, memory_mb: float) -> None:
        self.memory_mb = memory_mb
        self._feed(events.MemoryMeasured(memory_mb))

    def adopt(self, line: Line, job: ipc.JobInfo, *, pid: int) -> None:
        """Take over a process that an earlier daemon forked. Raises ``OSError`` if it is gone."""
        self._pidfd = os.pidfd_open(pid)
        self.job = job
        self._hold(line)
        self._feed(events.Adopted(pid, job.id))
        self.disowned()

    def let_go(self) -> None:
        """Leave it to itself, with its line closed and its call going on. Nothing follows."""
        self._driver.close()
        if self._line is not None:
            self._line.on_lost = _ignore
            self._line.close()
            self._line = None
        self._drop_pidfd()

    # What the line says.

    def attach(self, line: Line, hello: ipc.Hello, *, pid: int) -> None:
        """It dialled. Raises ``OSError`` if it is gone already."""
        if self.pid is None and self._pidfd is None:
            # The fork server's own word may still be on its way: the two come over different sockets.
            self._pidfd = os.pidfd_open(pid)
            self._feed(events.Spawned(pid))
        self._hold(line)
        self._feed(events.Dialled(None if hello.job is None else hello.job.id))
        self._say_wrap_up()

    def _hold(self, line: Line) -> None:
        if self._line is not None:
            self._line.on_lost = _ignore
            self._line.abort()
        line.on_message = self._heard
        line.on_lost = self._lost
        self._line = line

    def _heard(self, _: Line, message: Message) -> None:
        match message:
            case ipc.Ready(seconds, considers):
                if self.state is State.BOOTING:
                    _log.debug("process warm", **self._names(), seconds=round(seconds, 3))
                self.considers = considers
                self._feed(events.Ready())
            case ipc.BootFailure(error, trace):
                self.trace = trace
                self._feed(events.BootFailed(error))
            case ipc.Pong(n):
                self._feed(events.Ponged(n))
            case ipc.Considered():
                self._feed(events.Considered())
                self._owner.considered(self, message)
            case ipc.Joined(seconds, journal):
                self._joined(seconds, journal)
            case ipc.RoomChanged():
                self._owner.room_changed(self, message)
            case ipc.Measured():
                self._owner.measured(self, message)
            case ipc.Leaving(reason, error):
                if self.state is not State.LEAVING:
                    _log.info("job leaving", **self._names(), reason=reason, error=error)
                self._feed(events.Leaving(error))
            case ipc.Ended():
                self._feed(events.Ended())
            case _:
                self._drop(f"{type(message).__name__} on a known line")

    def _joined(self, seconds: float, journal: str) -> None:
        news = self.state is State.JOINING
        self._feed(events.Joined())
        if news:
            _log.info("job joined", **self._names(), seconds=round(seconds, 3))
            self._owner.joined(self, journal)
        elif journal:
            self._owner.wrote(self, journal)

    def _say_wrap_up(self) -> None:
        if self._wrap_up is not None:
            until, last = self._wrap_up
            self._send(ipc.WrapUp(max(0.0, until - time.monotonic()), last))

    def _lost(self, _: Line) -> None:
        self._line = None
        self._feed(events.LineLost())

    # What the fork server says.

    def forked(self, pid: int, pidfd: int) -> None:
        if self._pidfd is not None or self.state is State.DEAD:
            os.close(pidfd)
            return
        self._pidfd = pidfd
        self._feed(events.Spawned(pid))

    def fork_failed(self, error: str) -> None:
        if self.pid is None:
            self._feed(events.SpawnFailed(error))
        else:
            # It dialled before the fork server died without a word of it.
            self.disowned()

    def exited(self, code: int) -> None:
        self._feed(events.Exited(code))

    def disowned(self) -> None:
        if self._pidfd is not None and not self._watched:
            self._watched = True
            self._loop.add_reader(self._pidfd, self._gone)

    def _gone(self) -> None:
        self._feed(events.Exited(None))

    # What the machine commands.

    def _feed(self, event: events.Event) -> None:
        self._driver.feed(event)
        if self.available != self._warm:
            self._warm = self.available
            (self._owner.warmed if self._warm else self._owner.cooled)(self)

    def _perform(self, command: events.Command) -> None:
        match command:
            case events.SendBoot():
                self._send(self._boot)
            case events.SendStart():
                if self.job is not None:
                    self._send(ipc.StartJob(self.job))
            case events.SendConsider():
                if self._asked is not None:
                    self._send(ipc.Consider(self._asked))
            case events.SendPing(n):
                self._send(ipc.Ping(n))
            case events.SendEnd(reason, grace):
                self._send(ipc.EndJob(reason, grace))
            case events.SendMayLeave():
                self._send(ipc.MayLeave())
            case events.ReportLeaving(error):
                self._owner.leaving(self, error)
            case events.Signal(number):
                self._signal(number)
            case events.Warn(what, name, value):
                _log.warning(what, **self._names(), **{name: value})
            case events.Drop(reason):
                self._drop(reason)
            case events.Finished():
                self._finish(command)

    def _send(self, message: ipc.DaemonMessage) -> None:
        if self._line is not None:
            self._line.send(message)

    def _signal(self, number: signal.Signals) -> None:
        _log.warning("process signalled", **self._names(), signal=number.name, state=self.state.value)
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _drop(self, reason: str) -> None:
        self.dropped += 1
        _log.warning("message dropped", **self._names(), reason=reason)

    def _finish(self, end: events.Finished) -> None:
        self._driver.close()
        self._warm = False
        self._drop_pidfd()
        if self._line is not None:
            self._line.on_lost = _ignore
            self._line.abort()
            self._line = None
        good = end.outcome in (events.Outcome.SUCCESS, events.Outcome.RETIRED)
        level = "debug" if end.outcome is events.Outcome.RETIRED else "info" if good else "error"
        seconds = round(self._loop.time() - self._born, 3)
        getattr(_log, level)(
            "process finished", **self._names(), outcome=end.outcome.value, error=end.error, exit=end.exit, age=seconds
        )
        self._owner.finished(self, end)

    def _drop_pidfd(self) -> None:
        if self._pidfd is not None:
            if self._watched:
                self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _names(self) -> dict[str, object]:
        """Fields of each log line."""
        names: dict[str, object] = {"slot": self.slot, "agent": self.agent, "pid": self.pid}
        if self.job is not None:
            names |= {"job": self.job.id, "room": self.job.room}
        return names


def _ignore(_: Line) -> None:
    """A line that was replaced, or whose process is gone, is lost without a word."""
