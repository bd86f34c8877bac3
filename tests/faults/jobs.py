"""``kill -9`` of a job's process: the call goes on in another one."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import AsyncExitStack
from typing import ClassVar

from tests.faults.house import AGENT, Call, House, agent
from tests.faults.scenario import Scenario, Trial, missing
from tests.faults.voice import TALE
from tests.faults.waiting import until

__all__ = ["MidAnswer", "MidSentence", "MidTool", "Silence", "Struck", "TooOften", "kill"]

LINE = "back"
PATIENCE = 12.0
"""Seconds until an agent that is not heard again counts as lost."""


def kill(pid: int) -> float:
    """``kill -9``; when."""
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def settled(call: Call, agents: set[str]) -> tuple[str, ...]:
    """What is wrong with who is in the room at the end."""
    return () if len(agents) == 1 else (f"{sorted(agents)} are in {call.room}; expected one agent",)


class Struck(Scenario):
    """A worker with agents that go on by themselves (``teller``), and that say a line first (``liner``)."""

    times = 20
    median = 3.0
    worst = 8.0

    async def open(self, stack: AsyncExitStack) -> None:
        self.house = await stack.enter_async_context(House(self.folder))
        liner = agent(name="liner", recovery={"line": LINE})
        self.worker = self.house.worker(agent(), liner)
        await self.worker.start()

    async def heard_again(self, call: Call, *, word: str = "") -> float:
        """The process dies now; seconds until a word is heard from the one that comes for it."""
        track = max(call.caller.tracks)
        killed = kill(self.worker.pid(call))
        return await self.house.hears(call, word, after=killed, track=track + 1, timeout=PATIENCE) - killed


class MidSentence(Struck):
    name = "job-mid-sentence"
    fault = "`kill -9` of a job in the middle of a sentence"
    wish: ClassVar[str] = "story"

    async def run(self) -> Trial:
        async with self.house.call() as call:
            asked = time.monotonic()
            await call.caller.say(self.wish)
            cut = random.choice(TALE[2:11])
            await self.house.hears(call, cut, after=asked, timeout=PATIENCE)
            await asyncio.sleep(random.uniform(0.0, 0.24))
            seconds = await self.heard_again(call)
            # The rest of it is heard as well, or is known to have been.
            last = await self.house.hears(call, TALE[-1], after=asked, timeout=PATIENCE + len(TALE) * 0.3)
            await call.caller.wait_quiet(after=last, timeout=PATIENCE)
            known = await call.history()
            lost = missing(["hello", self.wish, *TALE], known)
            unheard = missing(TALE, [one.word for one in call.caller.heard(after=asked)])
            wrong = [*settled(call, await call.agents())]
            if len(unheard) > 2:
                wrong.append(f"the caller never heard {' '.join(unheard)}")
            return Trial(seconds, words_lost=len(lost), wrong=tuple(wrong))


class MidAnswer(MidSentence):
    name = "job-mid-answer"
    fault = "the same, while the model is still writing the answer"
    times = 10
    wish = "drawl"


class MidTool(Struck):
    name = "job-mid-tool"
    fault = "`kill -9` of a job while a tool runs"

    async def run(self) -> Trial:
        async with self.house.call() as call:
            await call.caller.say("book")
            await until(lambda: call.tools() or None, what=f"the tool of {call.room} begins", timeout=PATIENCE)
            await asyncio.sleep(random.uniform(0.1, 0.9))
            # It says so because it was told that nobody knows what became of the tool.
            seconds = await self.heard_again(call, word="unknown")
            await call.caller.wait_quiet(after=time.monotonic(), timeout=PATIENCE)
            lost = missing(["hello", "book", "unknown"], await call.history())
            wrong = [*settled(call, await call.agents())]
            if call.tools() != ["began"]:
                wrong.append(f"the tool did {call.tools()}; expected that it began once and no more")
            return Trial(seconds, words_lost=len(lost), wrong=tuple(wrong))


class Silence(Struck):
    name = "job-silence"
    fault = "`kill -9` of a job while nobody speaks"

    async def run(self) -> Trial:
        async with self.house.call(name="liner") as call:
            asked = time.monotonic()
            await call.caller.say("recall")
            answered = await self.house.hears(call, "fine", after=asked, timeout=PATIENCE)
            await call.caller.wait_quiet(after=answered, timeout=PATIENCE)
            seconds = await self.heard_again(call, word=LINE)
            await call.caller.wait_quiet(after=time.monotonic(), timeout=PATIENCE)
            lost = missing(["hello", "recall", "fine"], await call.history())
            return Trial(seconds, words_lost=len(lost), wrong=settled(call, await call.agents()))


class TooOften(Struck):
    """``recovery.attempts`` is 3: the fifth process only says goodbye."""

    name = "job-too-often"
    fault = "`kill -9` of a job four times in one call: a farewell, and the call ends"
    times = 3
    median = worst = 8.0

    async def run(self) -> Trial:
        began = time.monotonic()
        async with self.house.call(name="liner") as call:
            for _ in range(3):
                await self.heard_again(call, word=LINE)
                await asyncio.sleep(0.5)
            seconds = await self.heard_again(call, word="sorry")
            await self.house.hears(call, "goodbye", after=began, timeout=PATIENCE)
            job = self.worker.job(call)
            _, line = await self.worker.log.until("job finished", job=job, timeout=PATIENCE)
            await call.caller.board.until(
                lambda: True if not call.caller.agents else None, what=f"{AGENT} leaves", timeout=PATIENCE
            )
            outcome = line.fields["outcome"]
            wrong = () if outcome == "failed" else (f"the job counts as {outcome}; expected failed",)
            return Trial(seconds, wrong=wrong)
