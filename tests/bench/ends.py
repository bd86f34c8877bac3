"""How calls and workers end: a job that is killed, a worker that is asked to go."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass

from tests.bench.cells import Outcome
from tests.bench.cost import talk
from tests.bench.house import House, NoAgent
from tests.bench.user import now
from tests.bench.worker import Contender

__all__ = ["Crash", "Drain"]

STAYS = 5.0
"""Seconds after SIGTERM at which the user leaves."""


@dataclass(frozen=True, slots=True)
class Crash:
    """SIGKILL to the process that runs the call: when an agent is back, when it is heard, when the dead one leaves."""

    patience: float = 20.0
    idle: int = 4

    async def run(self, house: House, contender: Contender) -> Outcome:
        outcome = Outcome()
        samples, checks = outcome.samples, outcome.checks
        async with house.worker(contender, idle=self.idle) as worker:
            user = await house.call()
            checks["answered_before"] = bool(await user.answered())
            at, killed = now(), worker.job_processes()
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            talking = asyncio.create_task(talk(user, [0]))
            back = await user.until(lambda: [each for each in user.agents if each > at], timeout=self.patience)
            if back:
                samples["back_s"].append(back[0] - at)
                left = max(0.1, self.patience - (back[0] - at))
                if heard := await user.edge(loud=True, after=back[0], timeout=left):
                    samples["audible_s"].append(heard - at)
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
            gone = await user.until(lambda: [each for each in user.left if each > at], timeout=5)
            samples["gone_s"] += [each - at for each in gone[:1]]
            checks |= {"killed_root": worker.pid in killed, "recovered": bool(samples["audible_s"])}
            checks["next_call_answered"] = False
            with suppress(NoAgent):
                checks["next_call_answered"] = bool(await (await house.call()).answered())
        return outcome


@dataclass(frozen=True, slots=True)
class Drain:
    """SIGTERM at the start of a reply: what becomes of it and of the next turn, and when the worker is gone after the
    user is."""

    patience: float = 60.0
    idle: int = 4

    async def run(self, house: House, contender: Contender) -> Outcome:
        outcome = Outcome()
        async with house.worker(contender, idle=self.idle) as worker:
            user = await house.call()
            heard = await user.answered()
            at = now()
            worker.terminate()
            quiet = await user.edge(loud=False, after=at, timeout=4)
            checks = outcome.checks
            checks["reply_in_progress_s"] = round((quiet or now()) - (heard or at), 2)
            checks["next_turn_answered"] = bool(await user.answered())
            await asyncio.sleep(max(0.0, at + STAYS - now()))
            checks["stayed_with_user"] = worker.exit_code is None and not user.left
            await house.leave(user)
            if (took := await worker.exited(self.patience)) is not None:
                outcome.samples["exit_after_leave_s"].append(took)
            checks["exit_code"] = worker.exit_code
        return outcome
