"""One ``JobLifecycle`` with the times written out, as in ``life.at(1.2, Ready())``."""

from __future__ import annotations

from greenroom.jobs.events import (
    Assigned,
    Command,
    Dialled,
    Event,
    Exited,
    Finished,
    Joined,
    Outcome,
    Ponged,
    Ready,
    SendPing,
    Spawned,
    Tick,
)
from greenroom.jobs.lifecycle import JobLifecycle, State
from greenroom.settings import Deadlines

DEADLINES = Deadlines(boot=30, connect=10, ping_interval=2, ping_timeout=15, end=10, terminate=3)


class Life:
    def __init__(self, *, memory_warn_mb: int = 0, memory_limit_mb: int = 0) -> None:
        self.machine = JobLifecycle(DEADLINES, now=0.0, memory_warn_mb=memory_warn_mb, memory_limit_mb=memory_limit_mb)

    def at(self, now: float, event: Event) -> list[Command]:
        return self.machine.handle(event, now)

    def tick(self) -> tuple[float, list[Command]]:
        """Go to the deadline: when it was, and what it led to."""
        when = self.machine.deadline()
        assert when is not None
        return when, self.machine.handle(Tick(), when)

    def tick_until(self, command: Command, *, answering: bool = True) -> float:
        """Go from deadline to deadline, answering pings, until the command comes; when that was."""
        for _ in range(100):
            when, commands = self.tick()
            if command in commands:
                return when
            for ping in commands:
                if answering and isinstance(ping, SendPing):
                    self.machine.handle(Ponged(ping.n), when)
        raise AssertionError(f"{command} never came")

    def end(self, now: float, code: int | None) -> tuple[Outcome, str, str]:
        """It exits: its outcome, error and exit name."""
        *_, finished = self.machine.handle(Exited(code), now)
        assert isinstance(finished, Finished)
        assert self.machine.state is State.DEAD
        return finished.outcome, finished.error, finished.exit


def booting(**options: int) -> Life:
    """At 1 it is booting."""
    life = Life(**options)
    life.at(0.5, Spawned(100))
    life.at(1.0, Dialled())
    return life


def warm(**options: int) -> Life:
    """At 2 it is warm."""
    life = booting(**options)
    life.at(2.0, Ready())
    return life


def joining(**options: int) -> Life:
    """At 10 it has the job."""
    life = warm(**options)
    life.at(10.0, Assigned("AJ_1"))
    return life


def running(**options: int) -> Life:
    """At 11 it is in the room; the next ping is due at 12."""
    life = joining(**options)
    life.at(11.0, Joined())
    return life
