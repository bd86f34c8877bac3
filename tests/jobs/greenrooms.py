"""A pool with real processes, and a record of all that it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from greenroom.jobs.bench import Warmth
from greenroom.jobs.events import Outcome
from greenroom.jobs.ipc import JobInfo, Measured, RoomChanged
from greenroom.jobs.lifecycle import State
from greenroom.jobs.listener import Listener
from greenroom.jobs.pool import Pool
from greenroom.jobs.process import JobProcess
from greenroom.settings import AgentSettings, Deadlines, RecoverySettings, ServerSettings, Settings, WorkerSettings

RUNNER = "tests.jobs.runners:Runner"
PATIENCE = 30.0
"""Far beyond what anything takes on a busy machine; a test that waits so long has failed."""

_numbers = count(1)


def deadlines(**changes: float) -> Deadlines:
    """Generous, but for what a test wants to see pass."""
    usual: dict[str, float] = {"boot": 20, "connect": 15, "ping_interval": 0.1, "ping_timeout": 15, "end": 15}
    return Deadlines(**(usual | {"terminate": 10} | changes))


def settings(*agents: str, limits: Deadlines | None = None, attempts: int = 0, **worker: Any) -> Settings:
    recovery = RecoverySettings(attempts=attempts)
    return Settings(
        server=ServerSettings(url="ws://localhost", api_key="key", api_secret="secret"),
        agents=tuple(AgentSettings(name=name, recovery=recovery) for name in agents or ("host",)),
        worker=WorkerSettings(deadlines=limits or deadlines(), **{"warm": 1, **worker}),
    )


def job(metadata: str = "", *, agent: str = "host", **attributes: str) -> JobInfo:
    n = next(_numbers)
    return JobInfo(
        id=f"AJ_{n}",
        room=f"room-{n}",
        room_sid=f"RM_{n}",
        agent_name=agent,
        url="ws://localhost",
        token="a token",
        identity=f"agent-{n}",
        metadata=metadata,
        attributes=attributes,
    )


class GreenRoom:
    """A pool's owner that remembers all it is told. Answers each ``leaving`` with ``may_leave`` unless ``mute``."""

    def __init__(self, run_dir: Path, what: Settings | None = None, *, apart: bool = False, **options: Any) -> None:
        self.mute = False
        self.errors: dict[str, str] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.adoptions: list[JobInfo] = []
        self.resumed: list[tuple[JobInfo, Outcome]] = []
        self.in_room: list[JobInfo] = []
        self.changes: list[tuple[str, RoomChanged]] = []
        self.measures: list[Measured] = []
        self.boots: list[tuple[str, str]] = []
        self.recycles = 0
        self.shown: dict[str, Warmth] = {}
        self._news = asyncio.Event()
        self.listener = Listener(run_dir, apart=apart)
        self.pool = Pool(
            what or settings(),
            listener=self.listener,
            owner=self,
            **({"runner": RUNNER, "preload": ()} | options),
        )

    async def until(self, met: Callable[[], object]) -> None:
        """Wait for a condition. States change with messages, so it is looked at after each, and each callback."""
        async with asyncio.timeout(PATIENCE):
            while not met():
                self._news.clear()
                try:
                    # Not every change of a process's state is said aloud.
                    await asyncio.wait_for(self._news.wait(), 0.02)
                except TimeoutError:
                    continue

    async def warm(self, agent: str = "host", *, processes: int = 1) -> None:
        await self.until(lambda: agent in self.shown and self.shown[agent].warm >= processes)

    async def started(self, info: JobInfo) -> JobProcess:
        """Start a job and wait until it says that it joined."""
        self.pool.start_job(info.agent_name, info)
        await self.until(lambda: self.state(info) is State.RUNNING)
        return self.process(info)

    async def over(self, info: JobInfo) -> Outcome:
        await self.until(lambda: info.id in self.outcomes)
        assert info.id in self.errors
        return self.outcomes[info.id]

    def process(self, info: JobInfo) -> JobProcess:
        call = self.pool.calls.get(info.id)
        assert call is not None
        assert call.process is not None
        return call.process

    def state(self, info: JobInfo) -> State | None:
        call = self.pool.calls.get(info.id)
        return None if call is None or call.process is None else call.process.state

    @property
    def processes(self) -> list[JobProcess]:
        return list(self.pool._processes.values())

    # The pool's owner.

    def adopted(self, job: JobInfo) -> None:
        self.adoptions.append(job)
        self._news.set()

    def joined(self, job: JobInfo) -> None:
        self.in_room.append(job)
        self._news.set()

    def recovering(self, job: JobInfo, outcome: Outcome) -> None:
        assert job.id not in self.errors, "the server was told of a call that goes on"
        self.resumed.append((job, outcome))
        self._news.set()

    def room_changed(self, job_id: str, change: RoomChanged) -> None:
        self.changes.append((job_id, change))
        self._news.set()

    def measured(self, job: JobInfo, measured: Measured) -> None:
        self.measures.append(measured)
        self._news.set()

    def leaving(self, job_id: str, error: str) -> None:
        assert job_id not in self.errors, "told twice"
        self.errors[job_id] = error
        if not self.mute:
            self.pool.may_leave(job_id)
        self._news.set()

    def finished(self, job_id: str, outcome: Outcome) -> None:
        assert job_id in self.errors, "finished before the server was told"
        assert job_id not in self.outcomes, "finished twice"
        self.outcomes[job_id] = outcome
        self._news.set()

    def warm_changed(self, warmth: Warmth) -> None:
        self.shown[warmth.agent] = warmth
        self._news.set()

    def recycled(self, agent: str) -> None:
        self.recycles += 1
        self._news.set()

    def booted(self, agent: str, seconds: float, error: str) -> None:
        self.boots.append((agent, error))
        self._news.set()
