"""The daemon dies, or is replaced, under its calls: they never notice."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from livekit import api

from tests.faults.house import Call, Daemon, House, alive
from tests.faults.scenario import Scenario, Trial
from tests.faults.waiting import Missed, until

__all__ = ["DaemonKilled", "Reloaded", "TakenOver"]

NOTICED = 0.6
"""Seconds of silence in the middle of a story that a caller notices; some are the network's, on a busy machine."""
PATIENCE = 90.0
AFTER = 1.0


class Attended(Scenario):
    """Three calls whose agents speak all the time."""

    calls = 3
    times = 10
    worst = NOTICED

    async def open(self, stack: AsyncExitStack) -> None:
        self.house = await stack.enter_async_context(House(self.folder))
        self.worker = self.house.worker(max_jobs=6)
        self.daemon = await self.worker.start()

    async def speaking(self, stack: AsyncExitStack) -> list[Call]:
        """The calls, once their stories have begun."""
        calls = await asyncio.gather(*(stack.enter_async_context(self.house.call()) for _ in range(self.calls)))
        await asyncio.gather(*(self._begin(call) for call in calls))
        return list(calls)

    async def _begin(self, call: Call) -> None:
        asked = time.monotonic()
        await call.caller.say("novel")
        await self.house.hears(call, "candle", after=asked, timeout=PATIENCE)

    async def gone(self, call: Call) -> None:
        """The agent has left the room, and its process is no more."""
        pid = self.worker.pid(call)
        await call.caller.board.until(
            lambda: True if not call.caller.agents else None, what=f"the agent leaves {call.room}", timeout=PATIENCE
        )
        await until(lambda: True if not alive(pid) else None, what=f"job {pid} ends", timeout=PATIENCE)


def unnoticed(calls: Sequence[Call], *, since: float, until: float) -> tuple[float, int]:
    """The longest silence that any caller heard, and how many calls were noticed to break."""
    pauses = [call.caller.longest_pause(since=since, until=until) for call in calls]
    return max(pauses), sum(pause > NOTICED for pause in pauses)


class DaemonKilled(Attended):
    name = "daemon-killed"
    fault = "`kill -9` of the daemon under three calls; a new one adopts them and ends them on request"

    async def run(self) -> Trial:
        if not self.daemon.running:
            self.daemon = await self.worker.start()
        async with AsyncExitStack() as stack:
            calls = await self.speaking(stack)
            killed = time.monotonic()
            self.daemon.send(signal.SIGKILL)
            await self.daemon.ended(timeout=PATIENCE)
            self.daemon = await self.worker.start()
            for call in calls:
                job = self.worker.job(call)
                await self.worker.log.until("call adopted", job=job, since=killed, timeout=PATIENCE)
            await asyncio.sleep(AFTER)
            seconds, lost = unnoticed(calls, since=killed, until=time.monotonic() - 0.3)
            await self._end(calls)
            return Trial(seconds, lost=lost)

    async def _end(self, calls: Sequence[Call]) -> None:
        """One by its dispatch, the others with the worker that has adopted them."""
        first, *others = calls
        dispatches = await self.house.api.agent_dispatch.list_dispatch(first.room)
        await self.house.api.agent_dispatch.delete_dispatch(dispatches[0].id, first.room)
        await self.gone(first)
        for call in others:
            if len(await call.agents()) != 1:
                raise Missed(f"{call.room} was ended too")
        for _ in range(2):
            self.daemon.send(signal.SIGTERM)
            await asyncio.sleep(0.2)
        code = await self.daemon.ended(timeout=PATIENCE)
        if code:
            raise Missed(f"the daemon exited with {code}\n{self.worker.log.tail()}")
        for call in others:
            await self.gone(call)


class TakenOver(Attended):
    name = "takeover"
    fault = "`greenroom start --takeover` under three calls, while a fourth is dispatched"
    calls = 3

    async def run(self) -> Trial:
        async with AsyncExitStack() as stack:
            calls = await self.speaking(stack)
            began, old = time.monotonic(), self.daemon
            new = await self.replace()
            await asyncio.sleep(random.uniform(0.0, 3.0))
            # What is dispatched now is taken by one of the two.
            calls.append(await stack.enter_async_context(self.house.call()))
            code = await old.ended(timeout=PATIENCE)
            await self.worker.registered(new)
            await asyncio.sleep(AFTER)
            seconds, lost = unnoticed(calls[:3], since=began, until=time.monotonic() - 0.3)
            self.daemon = new
            wrong = (f"the old daemon exited with {code}",) if code else ()
            await asyncio.gather(*(self._hang_up(call) for call in calls))
            return Trial(seconds, lost=lost, wrong=wrong)

    async def replace(self) -> Daemon:
        return await self.worker.start("--takeover", ready=False)

    async def _hang_up(self, call: Call) -> None:
        """The new daemon has the call: it hears of its end."""
        job = self.worker.job(call)
        await self.house.api.room.delete_room(api.DeleteRoomRequest(room=call.room))
        await self.worker.log.until("job finished", job=job, timeout=PATIENCE)
        await self.gone(call)


class Reloaded(TakenOver):
    name = "reload"
    fault = "the same by SIGUSR2, which is what `systemctl reload` sends"
    times = 3

    async def replace(self) -> Daemon:
        began, old = time.monotonic(), self.daemon
        old.send(signal.SIGUSR2)
        _, line = await self.worker.log.until("starting", since=began, timeout=PATIENCE)
        return self.worker.follow(int(line.fields["pid"]), began=began)
