"""A job that does what it should not: it is dealt with as documented, and another call of the same worker goes on."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from contextlib import AsyncExitStack

from tests.faults.daemons import NOTICED, unnoticed
from tests.faults.gate import gate
from tests.faults.house import Call, House, agent, alive
from tests.faults.scenario import Scenario, Trial
from tests.faults.waiting import Missed, until

__all__ = ["Blocks", "Clings", "Leaks", "NeverConnects", "Raises"]

PATIENCE = 20.0
HEARS = 1.0
"""Seconds after which an agent that has joined hears the caller, on a busy machine too."""
LIMIT_MB = 220
DEADLINES = {"ping_interval": 0.5, "ping_timeout": 3.0, "connect": 4.0, "end": 1.5, "terminate": 1.0}


class Misbehaves(Scenario):
    """Beside the call in which it happens, another agent of the same worker tells a long story."""

    times = 5

    async def open(self, stack: AsyncExitStack) -> None:
        self.house = await stack.enter_async_context(House(self.folder))
        self.gate = await stack.enter_async_context(gate(self.house.media.url))
        agents = [agent(), agent("Raising", name="raising", warm=1), agent("Clinging", name="clinging", warm=1)]
        self.worker = self.house.worker(
            *agents,
            memory_limit_mb=LIMIT_MB,
            memory_warn_mb=0,
            deadlines=DEADLINES,
            environment={"LIVEKIT_URL": self.gate.url},
        )
        await self.worker.start()

    async def run(self) -> Trial:
        self.gate.shut = False
        async with self.house.call() as bystander:
            asked = time.monotonic()
            await bystander.caller.say("novel")
            began = await self.house.hears(bystander, "badger", after=asked, timeout=PATIENCE)
            trial = await self.misbehave()
            pause, noticed = unnoticed([bystander], since=began, until=time.monotonic() - 0.3)
            if not noticed:
                return trial
            wrong = (*trial.wrong, f"the other call was silent for {pause:.2f} s, more than {NOTICED} s")
            return Trial(trial.seconds, trial.lost, trial.words_lost, wrong)

    @abstractmethod
    async def misbehave(self) -> Trial:
        """The call in which it happens."""

    async def outcome(self, event: str, call: Call, *, since: float) -> str:
        """What the log says of how a process (``process finished``) or a job ended."""
        _, line = await self.worker.log.until(event, room=call.room, since=since, timeout=PATIENCE)
        return str(line.fields["outcome"])


class Recovered(Misbehaves):
    """Its process dies of it, and the call goes on."""

    tool: str
    outcome_expected: str

    async def misbehave(self) -> Trial:
        async with self.house.call() as call:
            track = max(call.caller.tracks)
            await call.caller.say(self.tool)
            await until(lambda: call.tools() or None, what=f"{call.room} begins to {self.tool}", timeout=PATIENCE)
            began = time.monotonic()
            heard = await self.house.hears(call, "unknown", after=began, track=track + 1, timeout=PATIENCE)
            outcome = await self.outcome("process finished", call, since=began)
            wrong = [] if outcome == self.outcome_expected else [f"the process ended as {outcome}"]
            if call.tools() != ["began"]:
                wrong.append(f"the tool did {call.tools()}")
            return Trial(heard - began, wrong=tuple(wrong))


class Blocks(Recovered):
    name = "job-blocks"
    fault = "a job blocks its loop: killed after `ping_timeout` (3 s here), the call goes on"
    worst = 8.0
    tool = "block"
    outcome_expected = "unresponsive"


class Leaks(Recovered):
    name = "job-leaks"
    fault = f"a job leaks to its limit ({LIMIT_MB} MB here): killed, the call goes on"
    worst = 12.0
    tool = "leak"
    outcome_expected = "out_of_memory"


class Raises(Misbehaves):
    name = "job-raises"
    fault = "an agent raises in `on_enter`: logged, and the call goes on"

    async def misbehave(self) -> Trial:
        began = time.monotonic()
        async with self.house.call(name="raising", greeted=False) as call:
            await self.worker.log.until("joined", room=call.room, since=began, timeout=PATIENCE)
            await asyncio.sleep(HEARS)
            # Its own error is no death: the user may still be answered.
            await call.caller.say("story")
            heard = await self.house.hears(call, after=began, timeout=PATIENCE)
            lines = self.worker.log.warnings(since=began)
            told = [line for line in lines if "on_enter" in f"{line.event} {line.fields} {line.exception}"]
            wrong = () if told else ("the log does not say that on_enter failed",)
            return Trial(heard - began, wrong=wrong)


class NeverConnects(Misbehaves):
    name = "job-never-connects"
    fault = "a job never gets into the room: failed after `connect` (4 s here)"

    async def misbehave(self) -> Trial:
        self.gate.shut = True
        began = time.monotonic()
        async with self.house.call(greeted=False) as call:
            outcome = await self.outcome("job finished", call, since=began)
            self.gate.shut = False
            wrong = [] if outcome == "failed" else [f"the job ended as {outcome}"]
            if call.caller.words or await call.agents():
                raise Missed(f"an agent came to {call.room} through a gate that was shut")
            return Trial(wrong=tuple(wrong))


class Clings(Misbehaves):
    name = "job-clings"
    fault = "a job ignores its end, and SIGTERM: killed after `end` and `terminate` (2.5 s here)"

    async def misbehave(self) -> Trial:
        async with self.house.call(name="clinging") as call:
            pid, began = self.worker.pid(call), time.monotonic()
            (dispatch,) = await self.house.api.agent_dispatch.list_dispatch(call.room)
            await self.house.api.agent_dispatch.delete_dispatch(dispatch.id, call.room)
            # The server may first finish looking for workers, which takes it up to five seconds.
            job = self.worker.job(call)
            asked, _ = await self.worker.log.until("job ended", job=job, since=began, timeout=PATIENCE)
            outcome = await self.outcome("job finished", call, since=began)
            took = time.monotonic() - asked
            wrong = [] if outcome == "killed" else [f"the job ended as {outcome}"]
            if took > DEADLINES["end"] + DEADLINES["terminate"] + 1.0:
                wrong.append(f"it took {took:.1f} s")
            if alive(pid):
                wrong.append(f"process {pid} is still there")
            await asyncio.sleep(0.5)
            if again := self.worker.log.find("joined", room=call.room, since=began):
                wrong.append(f"it came back: {again}")
            return Trial(wrong=tuple(wrong))
