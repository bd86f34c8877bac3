"""What a user waits for: the agent, its greeting, its answers, its silence."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from tests.bench.cells import Outcome
from tests.bench.contract import FLOOR, PREEMPTIVE_FLOOR, Knobs
from tests.bench.house import House
from tests.bench.speech import tone
from tests.bench.user import User, now
from tests.bench.worker import Contender

__all__ = ["Burst", "Interruption", "Join", "Transport", "Turn"]

WARM_UP = 1.0
LOOSE = 0.3
"""Cores that a worker with one silent call may use and still count as settled."""
LONG_REPLY = 10.0


@dataclass(frozen=True, slots=True)
class Transport:
    """No agent: from one user's first voiced frame to another one's ear. Every turn holds it twice."""

    times: int = 8

    async def run(self, house: House, _contender: Contender) -> Outcome:
        outcome = Outcome()
        user = await house.user()
        listener = await house.user(user.room_name)
        await listener.until(lambda: listener.subscribed, timeout=10)
        await asyncio.sleep(WARM_UP)
        for _ in range(self.times):
            first, _ = await user.speak()
            if heard := await listener.edge(loud=True, after=first, timeout=3):
                outcome.samples["one_way_ms"].append(1000 * (heard - first))
            await asyncio.sleep(random.uniform(0.5, 0.6))
        outcome.checks["missed"] = self.times - len(outcome.samples["one_way_ms"])
        await house.hang_up(listener, user)
        return outcome


@dataclass(frozen=True, slots=True)
class Join:
    """From the dispatch to the agent's coming, its being active, its track, its greeting: one call after another."""

    times: int = 10
    idle: int = 4

    async def run(self, house: House, contender: Contender) -> Outcome:
        outcome = Outcome(checks={"joined": 0, "asked": self.times})
        async with house.worker(contender, idle=self.idle) as worker:
            for _ in range(self.times):
                user = await house.user()
                await asyncio.sleep(0.5)
                await _join(house, user, outcome)
                await house.hang_up(user)
                await worker.settle()
        return outcome


@dataclass(frozen=True, slots=True)
class Burst:
    """As ``Join``, ``calls`` of them at once. ``idle``: warm slots."""

    idle: int
    calls: int = 8

    async def run(self, house: House, contender: Contender) -> Outcome:
        outcome = Outcome(checks={"joined": 0, "asked": self.calls})
        async with house.worker(contender, idle=self.idle):
            users = [await house.user() for _ in range(self.calls)]
            await asyncio.sleep(WARM_UP)
            await asyncio.gather(*(_join(house, user, outcome) for user in users))
        return outcome


async def _join(house: House, user: User, outcome: Outcome) -> None:
    asked = await house.dispatch(user, Knobs(greet=True))
    await user.until(lambda: user.agents and user.active and user.subscribed, timeout=30)
    heard = await user.edge(loud=True, after=asked, timeout=10)
    if not (user.agents and user.active and user.subscribed and heard):
        return
    outcome.checks["joined"] += 1
    for metric, at in (
        ("connected_ms", user.agents[0]),
        ("active_ms", user.active[0]),
        ("track_ms", user.subscribed[0]),
        ("greeting_ms", heard),
    ):
        outcome.samples[metric].append(1000 * (at - asked))


@dataclass(frozen=True, slots=True)
class Turn:
    """From the last voiced frame to the first loud one of the reply; ``overhead``: less what the models take."""

    preemptive: bool = False
    times: int = 15
    idle: int = 4

    async def run(self, house: House, contender: Contender) -> Outcome:
        outcome = Outcome(checks={"missed": 0, "early": 0, "tones": []})
        async with house.worker(contender, idle=self.idle) as worker:
            user = await house.call(preemptive=self.preemptive)
            await worker.settle(LOOSE)
            user.late_ticks = 0
            for number in range(self.times + 1):
                await self._take(user, outcome, counted=number > 0)  # the first one warms up
                await asyncio.sleep(random.uniform(0.4, 0.8))  # no lock-step with the clocks of frames
            outcome.checks["late_ticks"] = user.late_ticks
        return outcome

    async def _take(self, user: User, outcome: Outcome, *, counted: bool) -> None:
        user.ear.kept = []
        last, heard = await user.ask()
        if heard is None:
            outcome.checks["missed"] += 1
            return
        quiet = await user.edge(loud=False, after=heard, timeout=6)
        outcome.checks["early"] += heard < last
        if not counted:
            return
        floor = PREEMPTIVE_FLOOR if self.preemptive else FLOOR
        outcome.samples["latency_ms"].append(1000 * (heard - last))
        outcome.samples["overhead_ms"].append(1000 * (heard - last - floor))
        outcome.samples["reply_s"].append((quiet or now()) - heard)
        outcome.checks["tones"].append(tone(user.ear.kept))


@dataclass(frozen=True, slots=True)
class Interruption:
    """From the first voiced frame over a long reply to the reply's end; ``overhead``: less ``interrupt_min``."""

    times: int = 8
    idle: int = 4

    async def run(self, house: House, contender: Contender) -> Outcome:
        outcome = Outcome(checks={"missed": 0})
        async with house.worker(contender, idle=self.idle) as worker:
            user = await house.call(reply_s=LONG_REPLY)
            await worker.settle(LOOSE)
            heard = await user.answered()
            for _ in range(self.times):
                await asyncio.sleep(random.uniform(1.5, 2.5))
                first, last = await user.speak()
                quiet = await user.edge(loud=False, after=first, timeout=4)
                if heard is None or quiet is None:
                    outcome.checks["missed"] += 1
                    await asyncio.sleep(LONG_REPLY)
                    heard = await user.answered()
                    continue
                outcome.samples["stop_ms"].append(1000 * (quiet - first))
                outcome.samples["overhead_ms"].append(1000 * (quiet - first - Knobs().interrupt_min))
                heard = await user.edge(loud=True, after=max(last, quiet), timeout=6)  # what interrupted is a turn too
        return outcome
