"""What runs in a job's process: dial, boot, wait, work, leave.

Until it has a job the process is a blocking read on its socket: no event loop, no thread, so that a warm one costs a
megabyte or two of its own. The job then gets an event loop, and that loop answers the daemon's pings: a loop that is
too busy for a ping is too busy for audio.

The daemon may die and come back. A process with a job goes on, dials again and says once more where it stands, so that
a new daemon can adopt it; one without a job gives up after some seconds.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from greenroom.errors import GreenroomError
from greenroom.jobs.admission import Refusal
from greenroom.jobs.control import JobControl
from greenroom.jobs.exits import Exit
from greenroom.jobs.ipc import (
    BadFrame,
    Boot,
    BootFailure,
    ChildMessage,
    Consider,
    Considered,
    DaemonMessage,
    Ended,
    EndJob,
    Fork,
    Frames,
    Hello,
    JobInfo,
    Joined,
    Leaving,
    MayLeave,
    Ping,
    Pong,
    Ready,
    RoomChanged,
    StartJob,
    WrapUp,
    encode,
)
from greenroom.jobs.line import Line, Message
from greenroom.ops.logs import configure
from greenroom.settings import AgentSettings, ServerSettings, Settings
from greenroom.version import __version__

__all__ = ["JobRunner", "main", "rehearse"]

OOM_SCORE = 300
"""Added to the process's badness, so that a kernel short of memory ends one call and not the daemon."""
STEADY = 5.0
"""A line that held so long is dialled again at once, one that broke sooner after a growing delay."""
WIND_DOWN = 1.0
"""For tasks that the job left behind, to notice that they are cancelled."""

_MAX_TRACE = 16_384
_log = structlog.get_logger(__name__)


class JobRunner(Protocol):
    """The work itself, made without arguments."""

    def boot(self, settings: bytes, agent: str) -> None:
        """Load what the agent needs; ``settings`` is ``Settings.encode()``. May block, may import the user's code, and
        runs outside any event loop. What it raises is the reason why the agent cannot boot."""
        ...

    @property
    def considers(self) -> bool:
        """Whether the agent's code wants to decide about offers; known once it has booted."""
        ...

    def consider(self, job: JobInfo) -> Considered:
        """Decide about an offer. May block and run the user's code, outside any event loop; not after ``run``."""
        ...

    async def run(self, job: JobInfo, control: JobControl) -> None:
        """Serve one job, from joining the room to having left it. What it raises fails the job."""
        ...


def rehearse() -> None:
    """Do once in the fork server what each process does first: what that builds in memory is then shared by all."""
    server = ServerSettings(url="ws://localhost", api_key="key", api_secret="secret")  # noqa: S106  # nobody's
    settings = Settings(server=server, agents=(AgentSettings(),)).encode()
    Settings.decode(settings)
    Frames(DaemonMessage).feed(encode(Boot(settings, "")))
    encode(Hello("", 0, __version__))


def main(fork: Fork) -> Exit:
    """The process's life; returns its exit code."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    _mark()
    try:
        found = _Waiting(fork).run()
        return found if isinstance(found, Exit) else _work(found)
    except BadFrame as error:
        _log.error("line broken", error=str(error))  # the reason is known, a traceback adds nothing
        return Exit.BAD_LINE
    except Exception:  # noqa: BLE001  # the job boundary
        _log.exception("job process failed")
        return Exit.INTERNAL


def _mark() -> None:
    """Tell the kernel what this process is: its name, and that it goes before the daemon when memory is short."""
    # A hardened /proc is no reason not to take calls.
    with suppress(OSError):
        Path("/proc/self/comm").write_text("greenroom-job")
    with suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(1000, int(score.read_text()) + OOM_SCORE)))
    # The legacy generator's state is copied by a fork: every call would draw the same numbers.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _delays() -> Iterator[float]:
    """Between two attempts to dial: short, as a daemon that comes back comes back quickly."""
    delay = 0.02
    while True:
        yield delay * random.uniform(0.75, 1.25)
        delay = min(delay * 2, 1.0)


def _reason(error: BaseException) -> str:
    """One line."""
    text = " ".join(str(error).split())
    if isinstance(error, GreenroomError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass(slots=True)
class _Started:
    """A job has come: all that the waiting process hands on to the working one."""

    fork: Fork
    job: JobInfo
    runner: JobRunner
    settings: Settings
    connection: socket.socket
    frames: Frames
    unread: list[DaemonMessage | ChildMessage]


class _Waiting:
    """The time before the job, in blocking calls."""

    def __init__(self, fork: Fork) -> None:
        self._fork = fork
        self._runner: JobRunner | None = None
        self._settings: Settings | None = None
        self._ready: Ready | None = None

    def run(self) -> Exit | _Started:
        while True:
            connection = self._dial()
            if connection is None:
                _log.warning("no daemon answers, giving up", seconds=self._fork.patience)
                return Exit.ORPHANED
            try:
                found = self._talk(connection)
            except OSError:
                found = None
            if isinstance(found, _Started):
                return found
            connection.close()
            if found is not None:
                return found

    def _dial(self) -> socket.socket | None:
        patience = time.monotonic() + self._fork.patience
        for delay in _delays():
            for path in _paths(self._fork):
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    connection.connect(path)
                except OSError:
                    connection.close()
                else:
                    return connection
            if time.monotonic() + delay > patience:
                return None
            time.sleep(delay)
        return None

    def _talk(self, connection: socket.socket) -> Exit | _Started | None:
        """Until there is a job or an end; ``None`` when the line is lost."""
        frames = Frames(DaemonMessage)
        connection.sendall(encode(Hello(self._fork.slot, os.getpid(), __version__)))
        if self._ready is not None:
            connection.sendall(encode(self._ready))
        while data := connection.recv(65_536):
            messages = frames.feed(data)
            while messages:
                match messages.pop(0):
                    case Boot(settings, agent):
                        answer = self._boot(settings, agent)
                        connection.sendall(encode(answer))
                        if isinstance(answer, BootFailure):
                            return Exit.BOOT_FAILED
                    case Ping(n):
                        connection.sendall(encode(Pong(n)))
                    case Consider(job) if self._runner is not None:
                        connection.sendall(encode(_consider(self._runner, job)))
                    case StartJob(job) if self._runner is not None and self._settings is not None:
                        return _Started(self._fork, job, self._runner, self._settings, connection, frames, messages)
                    case EndJob():
                        return Exit.OK
                    case other:
                        _log.warning("message dropped", message=type(other).__name__)
        return None

    def _boot(self, settings: bytes, agent: str) -> Ready | BootFailure:
        if self._ready is not None:
            return self._ready
        began = time.monotonic()
        try:
            self._settings = Settings.decode(settings)
            configure(self._settings.logs.level, self._settings.logs.format, agent=agent, pid=os.getpid())
            runner = _load(self._fork.runner)
            runner.boot(settings, agent)
        except GreenroomError as error:
            return BootFailure(_reason(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the user's code is loaded here
            # The daemon logs it: it knows whether this is news, or the next turn of a loop of failing boots.
            return BootFailure(_reason(error), traceback.format_exc()[-_MAX_TRACE:])
        self._runner = runner
        self._ready = Ready(time.monotonic() - began, runner.considers)
        return self._ready


def _paths(fork: Fork) -> tuple[str, ...]:
    return (fork.via, fork.line) if fork.via else (fork.line,)


def _consider(runner: JobRunner, job: JobInfo) -> Considered:
    """The boundary to the user's code: what it raises is a refusal."""
    try:
        return runner.consider(job)
    except (Exception, SystemExit):  # noqa: BLE001  # a hook call
        _log.exception("on_request failed", job=job.id, room=job.room)
        return Considered(job.id, accepted=False, reason=Refusal.UNDECIDED.value)


def _load(path: str) -> JobRunner:
    """``"module:Class"`` as an object."""
    module, _, name = path.partition(":")
    runner: JobRunner = getattr(importlib.import_module(module), name)()
    return runner


def _work(started: _Started) -> Exit:
    """Run the job on an event loop of its own.

    ``asyncio.run`` is not used: it waits at its end for every thread that the job left in a blocking call.
    """
    structlog.contextvars.bind_contextvars(job=started.job.id, room=started.job.room)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    working = _Working(started, loop)
    try:
        return loop.run_until_complete(working.run())
    except SystemExit:
        _log.exception("job called exit")
        return Exit.JOB_FAILED
    finally:
        working.winding_down = True
        _wind_down(loop)


def _wind_down(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        _, pending = loop.run_until_complete(asyncio.wait(tasks, timeout=WIND_DOWN))
        if pending:
            _log.warning("tasks do not end", tasks=sorted(task.get_name() for task in pending))


class _Working:
    """The time with the job."""

    def __init__(self, started: _Started, loop: asyncio.AbstractEventLoop) -> None:
        self.winding_down = False
        self._terminating = False
        self._started = started
        self._loop = loop
        self._line: Line | None = None
        self._made_at = 0.0
        self._delays = _delays()
        self._redial: asyncio.Task[None] | None = None
        self._task: asyncio.Task[str] | None = None
        self._standing: dict[type[ChildMessage], ChildMessage] = {}
        self._control = JobControl(self._say)

    async def run(self) -> Exit:
        self._loop.add_signal_handler(signal.SIGTERM, self._terminated)
        await self._take_over()
        self._task = asyncio.create_task(self._guarded(), name="job")
        try:
            error = await self._task
            code = Exit.JOB_FAILED if error else Exit.OK
        except asyncio.CancelledError:
            code = Exit.TERMINATED if self._terminating else Exit.JOB_FAILED
            error = "it did not end when asked to" if self._terminating else "it cancelled itself"
        # Also for a job that told it itself: nothing is told twice, and nothing is waited for that was allowed.
        await self._control.leaving("failed" if error else "ended", error=error)
        self.winding_down = True
        self._say(Ended())
        if self._redial is not None:
            self._redial.cancel()
        if self._line is not None:
            self._line.close()
        return code

    async def _guarded(self) -> str:
        """The job boundary: returns what went wrong, in one line."""
        try:
            await self._started.runner.run(self._started.job, self._control)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the job boundary
            _log.exception("job failed")
            return _reason(error)
        return ""

    # The line.

    async def _take_over(self) -> None:
        """Go on with the connection that the job came over."""
        make = partial(self._new_line, self._started.frames)
        _, line = await self._loop.create_unix_connection(make, sock=self._started.connection)
        for message in self._started.unread:
            self._heard(line, message)

    def _new_line(self, frames: Frames) -> Line:
        return Line(frames, on_message=self._heard, on_lost=self._lost, on_made=self._made)

    def _made(self, line: Line) -> None:
        self._line, self._made_at = line, self._loop.time()
        if self._redial is not None:
            line.send(Hello(self._started.fork.slot, os.getpid(), __version__, self._started.job))
            for message in self._standing.values():
                line.send(message)
        self._control.line_changed(True)

    def _lost(self, line: Line) -> None:
        if line is not self._line:
            return
        self._line = None
        self._control.line_changed(False)
        if not self.winding_down:
            if self._loop.time() - self._made_at >= STEADY:
                self._delays = _delays()
            self._redial = self._loop.create_task(self._dial(), name="redial")

    async def _dial(self) -> None:
        """Until a daemon answers, for as long as the job lasts."""
        for delay in self._delays:
            await asyncio.sleep(delay)
            for path in _paths(self._started.fork):
                make = partial(self._new_line, Frames(DaemonMessage))
                with suppress(OSError):
                    await self._loop.create_unix_connection(make, path)
                    return

    def _say(self, message: ChildMessage) -> None:
        if isinstance(message, (Joined, Leaving, RoomChanged)):
            self._standing[type(message)] = message
        if self._line is not None:
            self._line.send(message)

    def _heard(self, line: Line, message: Message) -> None:
        match message:
            case Ping(n):
                line.send(Pong(n))
            case EndJob(reason, grace):
                self._control.ask_end(reason, grace)
            case WrapUp(seconds, last):
                self._control.ask_wrap_up(seconds, last=last)
            case MayLeave():
                self._control.allow_leave()
            case StartJob(job) if job.id == self._started.job.id:
                pass  # sent again to be sure
            case _:
                _log.warning("message dropped", message=type(message).__name__)

    def _terminated(self) -> None:
        """SIGTERM: the first asks as the daemon would; after an ask it cancels; after the job it ends the process."""
        if self.winding_down:
            os._exit(Exit.TERMINATED)
        if not self._control.end_asked.is_set():
            self._control.ask_end("SIGTERM", self._started.settings.worker.deadlines.terminate)
        elif self._task is not None:
            self._terminating = True
            self._task.cancel()
