"""How what a call costs and waits for grows with the number of calls that go on at once."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

import psutil

from tests.bench.cells import Outcome
from tests.bench.contract import FLOOR
from tests.bench.cost import QUIET, settled_below, talking
from tests.bench.house import House, NoAgent
from tests.bench.user import User, now
from tests.bench.worker import Contender, Worker

__all__ = ["CALLS", "Growth"]

CALLS = (1, 2, 4, 8, 16)


@dataclass(slots=True)
class _Turns:
    """What the users met since the window began."""

    overheads: list[float] = field(default_factory=list)
    missed: int = 0
    early: int = 0


@dataclass(frozen=True, slots=True)
class Growth:
    """With each number of talking calls: the worker's processor time and memory, and what each turn took.

    All calls talk, their turns spread. The pool is filled up again behind them, so that a call's memory is what the
    worker has more than before the first one, shared among them.
    """

    calls: tuple[int, ...] = CALLS
    seconds: float = 40.0
    idle: int = 4

    async def run(self, house: House, contender: Contender) -> Outcome:
        outcome = Outcome()
        async with house.worker(contender, idle=self.idle) as worker:
            await asyncio.sleep(QUIET)
            outcome.samples["idle_pss_mb"].append(worker.memory().pss)
            for calls in self.calls:
                try:
                    while len(house.users) < calls:
                        await house.call()
                except NoAgent as missing:
                    outcome.checks[f"not_{calls}"] = str(missing)
                    break
                await worker.settle(settled_below(calls))
                await self._talk(house, worker, outcome)
        return outcome

    async def _talk(self, house: House, worker: Worker, outcome: Outcome) -> None:
        calls, turns = len(house.users), _Turns()
        async with talking(house, lambda user: _talk(user, turns)):
            turns.overheads.clear()
            turns.missed = turns.early = 0
            for user in house.users:
                user.late_ticks = 0
            window = _Window(worker)
            await asyncio.sleep(self.seconds)
            window.over(calls, outcome)
            outcome.checks[f"late_ticks_of_{calls}"] = sum(user.late_ticks for user in house.users)
        outcome.samples[f"{calls}_calls_overhead_ms"] += turns.overheads
        outcome.checks[f"turns_of_{calls}"] = len(turns.overheads)
        outcome.checks[f"missed_of_{calls}"] = turns.missed + turns.early


class _Window:
    """A stretch of time in which processor time is measured; memory at its end."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._at, self._cpu, self._own = now(), worker.cpu(), time.process_time()
        psutil.cpu_percent()  # from now on

    def over(self, calls: int, outcome: Outcome) -> None:
        took = now() - self._at
        worker, driver = self._worker.cpu() - self._cpu, time.process_time() - self._own
        idle = outcome.samples["idle_pss_mb"][0]
        outcome.samples[f"{calls}_calls_cpu_s_per_min_each"].append(60 * worker / took / calls)
        outcome.samples[f"{calls}_calls_cores"].append(worker / took)
        outcome.samples[f"{calls}_calls_machine_share"].append(psutil.cpu_percent() / 100)
        outcome.samples[f"{calls}_calls_pss_mb_each"].append((self._worker.memory().pss - idle) / calls)
        outcome.checks[f"driver_cores_of_{calls}"] = round(driver / took, 2)


async def _talk(user: User, turns: _Turns) -> None:
    """Ask, listen to the answer, ask again."""
    while True:
        last, heard = await user.ask()
        if heard is None:
            turns.missed += 1
        elif heard < last:
            turns.early += 1
        else:
            turns.overheads.append(1000 * (heard - last - FLOOR))
        if heard is not None:
            await user.edge(loud=False, after=heard, timeout=6)
        await asyncio.sleep(random.uniform(0.4, 0.8))  # no lock-step with the clocks of frames
