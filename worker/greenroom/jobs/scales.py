"""Weighs the processes that have jobs, and tells each what it weighs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from greenroom.jobs.memory import memory_mb
from greenroom.jobs.process import JobProcess

__all__ = ["Scales"]

INTERVAL = 5.0


class Scales:
    """While there are jobs, and no longer: an idle worker does not wake up."""

    def __init__(self, processes: Callable[[], Iterable[JobProcess]], *, interval: float = INTERVAL) -> None:
        self.interval = interval
        self._processes = processes
        self._weighing: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return self._weighing is not None

    def start(self) -> None:
        """There is a job."""
        if self._weighing is None:
            self._weighing = asyncio.create_task(self._weigh(), name="memory of jobs")

    async def aclose(self) -> None:
        if self._weighing is not None:
            self._weighing.cancel()
            await asyncio.wait([self._weighing])

    async def _weigh(self) -> None:
        try:
            while processes := list(self._processes()):
                await asyncio.sleep(self.interval)
                pids = [process.pid for process in processes]
                figures = await asyncio.to_thread(_measure_all, pids)
                for process, figure in zip(processes, figures, strict=True):
                    if figure is not None:
                        process.measured(figure)
        finally:
            self._weighing = None


def _measure_all(pids: list[int | None]) -> list[float | None]:
    return [None if pid is None else memory_mb(pid) for pid in pids]
