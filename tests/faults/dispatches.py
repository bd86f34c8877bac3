"""A dispatch that the server gave to a worker which was silent: nobody else is asked, unless somebody looks."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack

from tests.faults.house import House
from tests.faults.scenario import Scenario, Trial
from tests.faults.waiting import Missed

__all__ = ["DispatchLost"]

LOST_AFTER = 3.5
"""The server gives a worker 2.8 seconds to answer; an agent that is to come has been heard by then."""
WATCH = 6.0
ATTEMPTS = 20
RECONCILE = {"enabled": True, "interval": 2.0, "after": 9.0}


class DispatchLost(Scenario):
    """Two workers look for lost dispatches; a third, of the same name, is stopped by SIGSTOP and still registered.

    Which of the three the server asks is up to the server: calls that reach a good worker are put down, until one is
    lost. Then the stopped worker is killed, as its watchdog does, or it would be given the new dispatch as well.
    """

    name = "dispatch-lost"
    fault = "a dispatch given to a worker that is stopped by SIGSTOP; two others look for lost ones"
    times = 5
    worst = 15.0

    async def open(self, stack: AsyncExitStack) -> None:
        self.house = await stack.enter_async_context(House(self.folder))
        self.good = [self.house.worker(name=name, warm=1, reconcile=RECONCILE) for name in ("first", "second")]
        for worker in self.good:
            await worker.start()
        self.silent = self.house.worker(name="silent", warm=1)

    async def run(self) -> Trial:
        silent = await self.silent.start()
        silent.send(signal.SIGSTOP)
        for _ in range(ATTEMPTS):
            dispatched = time.monotonic()
            async with self.house.call(dispatch="explicit", greeted=False) as call:
                try:
                    await call.caller.wait_word("hello", timeout=LOST_AFTER)
                    continue
                except Missed:
                    silent.send(signal.SIGKILL)
                    await silent.ended(timeout=5.0)
                heard = await self.house.hears(call, "hello", timeout=25.0)
                await asyncio.sleep(WATCH)
                agents = await call.agents()
                wrong = () if len(agents) == 1 else (f"{sorted(agents)} came; expected one agent",)
                return Trial(heard - dispatched, wrong=wrong)
        raise Missed(f"the server never asked the silent worker in {ATTEMPTS} dispatches")
