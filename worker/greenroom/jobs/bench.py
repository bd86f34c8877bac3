"""One agent's place in the pool: who is ready, who gets ready, and which jobs wait for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from greenroom.jobs.breaker import Breaker
from greenroom.jobs.ipc import Boot, JobInfo
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


@dataclass(slots=True)
class Bench:
    """One agent's processes without a job, and the jobs without a process."""

    agent: AgentSettings
    wanted: int
    boot: Boot
    breaker: Breaker = field(default_factory=Breaker)
    processes: set[JobProcess] = field(default_factory=set)
    waiting: dict[str, tuple[JobInfo, asyncio.TimerHandle]] = field(default_factory=dict)
    shown: Warmth | None = None

    @property
    def warm(self) -> list[JobProcess]:
        return [process for process in self.processes if process.available]

    @property
    def starting(self) -> int:
        return sum(process.state in (State.STARTING, State.BOOTING) for process in self.processes)

    @property
    def lack(self) -> int:
        """How many processes to start."""
        return self.wanted + len(self.waiting) - len(self.warm) - self.starting

    def warmth(self) -> Warmth:
        warm = len(self.warm)
        return Warmth(
            agent=self.agent.name,
            warm=warm,
            wanted=self.wanted,
            starting=self.starting,
            waiting=len(self.waiting),
            boot_error=self.breaker.error,
            bootable=warm > 0 or not self.breaker.open,
        )
