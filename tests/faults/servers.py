"""The media server goes away under a call, and returns: so does the agent, one and no more."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import ClassVar

from tests.faults.house import AGENT, Dispatch, House, agent
from tests.faults.scenario import Scenario, Trial, missing
from tests.faults.voice import TALE

__all__ = ["ServerStopped", "server_scenarios"]

PATIENCE = 40.0
WATCH = 6.0
"""Seconds after the agent's return in which a second one would come: the server takes five to look for workers."""
DISPATCHES: tuple[tuple[Dispatch, str], ...] = (
    ("explicit", "dispatched by the API"),
    ("token", "dispatched by the caller's token"),
    ("automatic", "dispatched to every room"),
)


class ServerStopped(Scenario):
    """``away``: seconds between its end and its start; ``forced``: it is told to go, twice, and tells its clients."""

    times = 5
    away: ClassVar[float]
    forced: ClassVar[bool] = False
    dispatch: ClassVar[Dispatch]

    async def open(self, stack: AsyncExitStack) -> None:
        self.house = await stack.enter_async_context(House(self.folder))
        self.agent = "" if self.dispatch == "automatic" else AGENT
        self.worker = self.house.worker(agent(name=self.agent))
        await self.worker.start()

    async def run(self) -> Trial:
        async with self.house.call(dispatch=self.dispatch, name=self.agent) as call:
            asked = time.monotonic()
            await call.caller.say("story")
            await self.house.hears(call, random.choice(TALE[2:9]), after=asked, timeout=PATIENCE)
            track, stopped = max(call.caller.tracks), time.monotonic()
            await self._stop()
            back = await self.house.hears(call, after=stopped, track=track + 1, timeout=PATIENCE)
            await self.house.hears(call, TALE[-1], after=asked, timeout=PATIENCE)
            await asyncio.sleep(max(0.0, back + WATCH - time.monotonic()))
            agents, most = await call.agents(), call.caller.most_agents(since=stopped, until=time.monotonic())
            wrong = []
            if len(agents) != 1 or most != 1:
                wrong.append(f"{sorted(agents)} are in the room, and there were {most} at once; expected one agent")
            await call.caller.wait_quiet(after=time.monotonic(), timeout=PATIENCE, seconds=0.5)
            lost = missing(["hello", "story", *TALE], await call.history())
            unheard = missing(TALE, [one.word for one in call.caller.heard(after=asked)])
            if len(unheard) > 3:
                wrong.append(f"the caller never heard {' '.join(unheard)}")
        await self._ready()
        return Trial(back - stopped, words_lost=len(lost), wrong=tuple(wrong))

    async def _stop(self) -> None:
        if self.forced:
            await self.house.media.stop(grace=0.3)
        else:
            await self.house.media.kill()
        await asyncio.sleep(self.away)
        await self.house.media.start()

    async def _ready(self) -> None:
        """The worker has to be known to the server before the next call."""
        last = max(when for when, _ in self.worker.log.find("registered"))
        gone = max((when for when, _ in self.worker.log.find("link lost")), default=0.0)
        if gone > last:
            await self.worker.log.until("registered", since=gone, timeout=PATIENCE)


def server_scenarios() -> Iterator[type[ServerStopped]]:
    """Each way of going with each way of being called."""
    ways = (
        ("server-1s", "media server killed, back after 1 s", {"away": 1.0, "worst": 10.0}),
        ("server-10s", "media server killed, back after 10 s", {"away": 10.0, "worst": 25.0}),
        ("server-forced", "media server told to go twice, started again", {"away": 0.0, "forced": True, "worst": 10.0}),
    )
    for name, fault, how in ways:
        for dispatch, called in DISPATCHES:
            said = {"name": f"{name}-{dispatch}", "fault": f"{fault}; agent {called}", "dispatch": dispatch}
            yield type("ServerStopped", (ServerStopped,), {"__module__": __name__, **said, **how})
