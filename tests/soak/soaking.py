"""Calls for a long time: some one after the other, some at once, and one that goes on through all of it.

They are the benchmark's: a real media server, users that speak and listen, Silero, and models of known delays. Between
two rounds of calls, when only the one that goes on is left and the pool is warm again, what the worker holds is looked
at: then every sample is of the same state.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from greenroom.ops.admin import SOCKET
from greenroom.ops.asking import Door, ask_status
from tests.bench.contract import FLOOR
from tests.bench.house import House, NoAgent
from tests.bench.table import OURS
from tests.bench.user import User, now
from tests.bench.worker import Contender, Worker
from tests.faults.holdings import Holdings, descriptors, threads
from tests.faults.waiting import Missed, until

__all__ = ["Pattern", "Sample", "Soak"]

WORKER = Contender(OURS, "{python} {here}/greenroom_worker.py")
WARM = 2
LASTING = 2
"""The daemon and what it forks from."""
PATIENCE = 30.0
"""Seconds until the pool is warm again, and the calls that are over are gone."""
PAUSE = 0.5
SETTLING = 1.0


@dataclass(frozen=True, slots=True)
class Pattern:
    """One round: ``single`` calls one after the other, then ``together`` at once, of so many ``turns`` each."""

    single: int = 3
    together: int = 3
    turns: int = 2


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Between two rounds.

    ``minutes``: since the first. ``calls``: that have begun so far. ``connections``: by TCP, of the daemon and the fork
    server; ``descriptors``: their others. One connection to the server's API is kept for a while after it was asked
    something, and comes and goes. ``worker_mb``: of the daemon and the fork server; ``call_mb``: of the process of the
    call that goes on; ``all_mb``: of all processes. Memory is what is of no file, shared pages counted by share: files
    are shared with whatever else the machine runs. ``lag_ms``: the worst lateness of the daemon's loop in the last
    seconds. ``turn_ms``: the median of that call's turns since the sample before, beyond its models; ``None`` where
    there was none.
    """

    minutes: float
    calls: int
    journals: int
    processes: int
    descriptors: int
    connections: int
    threads: int
    files: int
    call_descriptors: int
    call_threads: int
    worker_mb: float
    call_mb: float
    all_mb: float
    lag_ms: float
    turn_ms: float | None


@dataclass
class Soak:
    """``samples``, and in ``wrong`` what calls met that should not have been."""

    pattern: Pattern = field(default_factory=Pattern)
    samples: list[Sample] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    turns: int = 0
    missed: int = 0

    async def run(self, *, seconds: float, rounds: int = 0, say: Callable[[Sample], None] = lambda _: None) -> None:
        """For so long, and for so many rounds at least. Raises ``NoAgent`` when the call that goes on does not begin,
        and ``Missed`` when it ends."""
        async with House() as house, house.worker(WORKER, idle=WARM) as worker:
            self._calls = 1
            standing = await house.call()
            (pid,) = worker.job_processes()
            self._standing = psutil.Process(pid)
            self._overheads: list[float] = []
            talking = asyncio.create_task(self._talk(standing), name="the call that goes on")
            try:
                began = now()
                while now() - began < seconds or len(self.samples) < rounds:
                    await self._round(house)
                    self.samples.append(await self._sample(worker, minutes=(now() - began) / 60))
                    say(self.samples[-1])
            finally:
                talking.cancel()
                with suppress(asyncio.CancelledError):
                    await talking

    # --- calls --------------------------------------------------------------------------------------------------------

    async def _round(self, house: House) -> None:
        for _ in range(self.pattern.single):
            await self._call(house)
        await asyncio.gather(*(self._call(house) for _ in range(self.pattern.together)))

    async def _call(self, house: House) -> None:
        """A user comes, asks, listens, and leaves."""
        self._calls += 1
        try:
            user = await house.call(reply_s=1.0)
        except NoAgent as error:
            self.wrong.append(f"call {self._calls}: {error}")
            return
        for _ in range(self.pattern.turns):
            await self._ask(user)
        await house.hang_up(user)

    async def _talk(self, user: User) -> None:
        while True:
            if (overhead := await self._ask(user)) is not None:
                self._overheads.append(overhead)

    async def _ask(self, user: User) -> float | None:
        """One turn; milliseconds beyond its models."""
        last, heard = await user.ask()
        self.turns += 1
        if heard is None or heard < last:
            self.missed += 1
            return None
        await user.edge(loud=False, after=heard, timeout=6)
        await asyncio.sleep(PAUSE)
        return 1000 * (heard - last - FLOOR)

    # --- what is held -------------------------------------------------------------------------------------------------

    async def _sample(self, worker: Worker, *, minutes: float) -> Sample:
        await self._rest(worker)
        folder, family = worker.log.parent, _family(worker)
        lasting, journals = family[:LASTING], folder / "journals"
        held = Holdings.of(family, lasting=lasting, folder=folder, apart=journals)
        lines = sum(_connections(process) for process in lasting)
        overheads, self._overheads = self._overheads, []
        status = await ask_status(Door(folder / SOCKET))
        return Sample(
            minutes=round(minutes, 2),
            calls=self._calls,
            journals=_count(journals),
            processes=held.processes,
            descriptors=held.descriptors - lines,
            connections=lines,
            threads=held.threads,
            files=held.files,
            call_descriptors=descriptors([self._standing]),
            call_threads=threads([self._standing]),
            worker_mb=round(_memory(lasting), 2),
            call_mb=round(_memory([self._standing]), 2),
            all_mb=round(_memory(family), 2),
            lag_ms=round(1000 * status.lag, 2),
            turn_ms=round(statistics.median(overheads), 1) if overheads else None,
        )

    async def _rest(self, worker: Worker) -> None:
        """Until only the call that goes on is left, and the pool is warm. What does not end is counted as it is."""
        wanted = LASTING + WARM + 1

        def calm() -> bool | None:
            return True if len(_family(worker)) == wanted and worker.job_processes() == [self._standing.pid] else None

        if not self._standing.is_running():
            raise Missed(f"the call that goes on has ended; the log:\n{worker.tail()}")
        with suppress(Missed):
            await until(calm, what="only one call is left", timeout=PATIENCE)
        await asyncio.sleep(SETTLING)


def _family(worker: Worker) -> list[psutil.Process]:
    found = []
    for process in worker.tree():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _connections(process: psutil.Process) -> int:
    """By TCP; what only listens is none."""
    return sum(bool(connection.raddr) for connection in process.net_connections("tcp"))


def _memory(processes: Iterable[psutil.Process]) -> float:
    """Megabytes; of a process that is gone none."""
    kb = 0
    for process in processes:
        with suppress(OSError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss_Anon:"):
                    kb += int(line.split()[1])
    return kb / 1024


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
