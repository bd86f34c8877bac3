"""Many short calls, one after another, and what is left of them."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

import psutil

from tests.faults.holdings import Holdings
from tests.faults.house import House
from tests.faults.scenario import Scenario, Trial
from tests.faults.waiting import until

__all__ = ["ShortCalls"]

PATIENCE = 15.0
SETTLED = 10
"""Calls until all is loaded and every buffer has been used once."""


class ShortCalls(Scenario):
    """The journals are counted apart: there is one for each call, until they are old enough to be deleted."""

    name = "short-calls"
    fault = "300 short calls one after another: nothing grows, the pool stays warm"
    times = 300

    async def open(self, stack: AsyncExitStack) -> None:
        self.house = await stack.enter_async_context(House(self.folder))
        self.worker = self.house.worker()
        self.daemon = await self.worker.start()
        self._calls = 0
        self._before: Holdings | None = None

    async def run(self) -> Trial:
        began = time.monotonic()
        async with self.house.call() as call:
            job = self.worker.job(call)
        await self.worker.log.until("job finished", job=job, since=began, timeout=PATIENCE)
        self._calls += 1
        if self._calls == SETTLED:
            self._before = await self._holdings()
        return Trial()

    async def close(self) -> list[str]:
        if self._before is None:
            return []
        after = await self._holdings()
        self.noted += [f"after {SETTLED} calls: {self._before}", f"after {self._calls} calls: {after}"]
        wrong = after.grown(self._before)
        journals = len(list((self.worker.folder / "state" / "journals").iterdir()))
        if journals != self._calls:
            wrong.append(f"{journals} journals of {self._calls} calls")
        return wrong

    async def _holdings(self) -> Holdings:
        """Once the pool is as warm as it is to be."""
        await until(self._warm, what="the pool is warm", timeout=PATIENCE)
        return self._measured()

    def _warm(self) -> bool | None:
        """As many processes as there are before the first call: the daemon, what it forks from, the warm ones."""
        return True if len(self._family()) == 4 else None

    def _family(self) -> list[psutil.Process]:
        daemon = psutil.Process(self.daemon.pid)
        return [daemon, *(each for each in daemon.children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE)]

    def _measured(self) -> Holdings:
        family = self._family()
        folder = self.worker.folder
        return Holdings.of(family, lasting=family[:2], folder=folder, apart=folder / "state" / "journals")
