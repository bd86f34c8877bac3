"""Who else uses the machine while it measures: they spoil a figure, and it should say so."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from tests.bench.user import now

__all__ = ["Others", "alone", "quiet"]

LOOK = 2.0
QUIET = 0.1


class Others:
    """Processes that are none of ours, since this was made."""

    def __init__(self) -> None:
        self._at = now()
        self._before = self._seconds()

    def cores(self) -> float:
        spent = sum(seconds - self._before.get(pid, 0.0) for pid, seconds in self._seconds().items())
        return round(spent / (now() - self._at), 2)

    @staticmethod
    def _seconds() -> dict[int, float]:
        own = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid not in own:
                    found[process.pid] = sum(process.cpu_times()[:2])
        return found


async def quiet(patience: float) -> None:
    """Return when the others are idle, or when ``patience`` seconds are over."""
    end = now() + patience
    while now() < end:
        others = Others()
        await asyncio.sleep(LOOK)
        if others.cores() < QUIET:
            return


@asynccontextmanager
async def alone(lock: Path | None) -> AsyncIterator[None]:
    """Hold the lock file that the users of this machine have agreed on, where there is one."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield
