"""What an operator pays for: memory and processor time, of a worker that waits and of calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.bench.cells import Outcome
from tests.bench.house import House
from tests.bench.user import User, now
from tests.bench.worker import Contender, Memory, Worker

__all__ = ["Memories", "Processor", "talk", "talking"]

QUIET = 2.0
"""Seconds that a tree is left alone before it is weighed."""
TURN = 5.0
"""Seconds from one turn to the next, about: calls are begun spread over it."""
LAST_WORDS = 6.0


def settled_below(calls: int) -> float:
    """Cores that a worker with so many silent calls may use and still count as settled."""
    return 0.1 + 0.15 * calls


@dataclass(frozen=True, slots=True)
class Memories:
    """PSS and RSS of the tree with silent calls; per job the slope over their number, while the pool refills."""

    idle: int = 4
    calls: tuple[int, ...] = (0, 1, 4, 8)

    async def run(self, house: House, contender: Contender) -> Outcome:
        outcome = Outcome()
        async with house.worker(contender, idle=1):
            pass  # files are in the page cache from here on, for every contender
        async with house.worker(contender, idle=1) as worker:
            one = await self._weigh(worker, 0)
        points: list[tuple[int, Memory]] = []
        async with house.worker(contender, idle=self.idle) as worker:
            for calls in self.calls:
                while len(house.users) < calls:
                    await house.call()
                points.append((calls, await self._weigh(worker, calls)))
        samples = outcome.samples
        samples["idle1_pss_mb"].append(one.pss)
        for name in ("pss", "rss"):
            weights = [(calls, getattr(memory, name)) for calls, memory in points]
            for calls, weight in weights:
                samples[f"{calls}_jobs_{name}_mb"].append(weight)
            samples[f"per_idle_{name}_mb"].append((weights[0][1] - getattr(one, name)) / (self.idle - 1))
            if len(points) > 1:
                slope = np.polyfit([calls for calls, _ in weights], [weight for _, weight in weights], 1)[0]
                samples[f"per_job_{name}_mb"].append(float(slope))
        outcome.checks["processes"] = {str(calls): memory.processes for calls, memory in points}
        return outcome

    async def _weigh(self, worker: Worker, calls: int) -> Memory:
        await worker.settle(settled_below(calls))
        await asyncio.sleep(QUIET)
        return worker.memory()


@dataclass(frozen=True, slots=True)
class Processor:
    """Processor time of the tree: a minute of the idle worker, a minute of a talking call, a turn."""

    calls: tuple[int, ...] = (1, 6)
    seconds: float = 40.0
    idle_seconds: float = 10.0

    async def run(self, house: House, contender: Contender) -> Outcome:
        outcome = Outcome()
        async with house.worker(contender, idle=max(self.calls)) as worker:
            before, at = worker.cpu(), now()
            await asyncio.sleep(self.idle_seconds)
            outcome.samples["idle_worker_cpu_s_per_min"].append(60 * (worker.cpu() - before) / (now() - at))
            for calls in self.calls:
                while len(house.users) < calls:
                    await house.call()
                await worker.settle(settled_below(calls))
                await self._talk(house, worker, outcome)
        return outcome

    async def _talk(self, house: House, worker: Worker, outcome: Outcome) -> None:
        calls, turns = len(house.users), [0]
        async with talking(house, lambda user: talk(user, turns)):
            turns[0], before, at, own = 0, worker.cpu(), now(), time.process_time()
            await asyncio.sleep(self.seconds)
            spent, took, own = worker.cpu() - before, now() - at, time.process_time() - own
        outcome.samples[f"{calls}_calls_cpu_s_per_min_each"].append(60 * spent / took / calls)
        outcome.samples[f"{calls}_calls_cpu_s_per_turn"].append(spent / max(1, turns[0]))
        outcome.checks[f"turns_of_{calls}"] = turns[0]
        outcome.checks[f"driver_cores_of_{calls}"] = round(own / took, 2)


@asynccontextmanager
async def talking(house: House, talk: Callable[[User], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """All users talk, begun one after the other within a turn; at the end the last answers are waited for."""
    tasks = []
    try:
        for user in house.users:
            tasks.append(asyncio.create_task(talk(user)))
            await asyncio.sleep(TURN / len(house.users))
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(LAST_WORDS)


async def talk(user: User, turns: list[int]) -> None:
    """Ask, listen to the answer, ask again; ``turns[0]`` counts the answers."""
    while True:
        if heard := await user.answered():
            turns[0] += 1
            await user.edge(loud=False, after=heard, timeout=6)
        await asyncio.sleep(0.5)
