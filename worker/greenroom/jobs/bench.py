"""One agent's place in the pool: who is ready, who gets ready, and which jobs wait for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from greenroom.jobs.breaker import Breaker
from greenroom.jobs.calls import Call
from greenroom.jobs.ipc import Boot
from greenroom.jobs.lifecycle import State
from greenroom.jobs.process import JobProcess
from greenroom.settings import AgentSettings

__all__ = ["Bench", "Warmth"]


@dataclass(frozen=True, slots=True)
class Warmth:
    """How ready an agent is. ``boot_error`` is empty unless the last boot failed."""

    agent: str
    warm: int
    wanted: int
    starting: int
    waiting: int
    boot_error: str
    bootable: bool
    """False while its boots fail in a row and no process is warm: a job would find none."""
    considers: bool = False
    """Offers are to be put to it (``Pool.consider``)."""


@dataclass(slots=True)
class Bench:
    """One agent's processes without a job, and the jobs without a process.

    A stale process still takes jobs, but is as good as not there when it is counted who is lacking: it goes as soon as
    another one is warm in its place.
    """

    agent: AgentSettings
    wanted: int
    boot: Boot
    breaker: Breaker = field(default_factory=Breaker)
    processes: set[JobProcess] = field(default_factory=set)
    waiting: dict[str, tuple[Call, asyncio.TimerHandle]] = field(default_factory=dict)
    shown: Warmth | None = None
    considers: bool = False
    removed: bool = False
    """It is not in the settings any more; only calls that go on may need it."""

    @property
    def warm(self) -> list[JobProcess]:
        """Available, the fresh ones first."""
        return sorted((process for process in self.processes if process.available), key=lambda one: one.stale)

    @property
    def starting(self) -> int:
        return sum(process.state in (State.STARTING, State.BOOTING) for process in self.processes)

    @property
    def considering(self) -> int:
        return sum(process.state is State.CONSIDERING for process in self.processes)

    @property
    def lack(self) -> int:
        """How many processes to start."""
        fresh = sum((one.available or one.state is State.CONSIDERING) and not one.stale for one in self.processes)
        return self.wanted + len(self.waiting) - fresh - self.starting

    @property
    def surplus(self) -> list[JobProcess]:
        """Stale processes that are not needed any more."""
        warm = self.warm
        extra = max(0, len(warm) + self.considering - self.wanted)
        return [one for one in reversed(warm) if one.stale][:extra]

    def warmth(self) -> Warmth:
        warm = len(self.warm) + self.considering
        return Warmth(
            agent=self.agent.name,
            warm=warm,
            wanted=self.wanted,
            starting=self.starting,
            waiting=len(self.waiting),
            boot_error=self.breaker.error,
            bootable=warm > 0 or not self.breaker.open,
            considers=self.considers,
        )
