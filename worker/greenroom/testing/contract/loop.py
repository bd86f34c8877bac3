"""Measuring what a provider does to the event loop that it shares with the audio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

__all__ = ["Heartbeat", "Leftovers", "longest_block"]

_BEAT = 0.005


class Heartbeat:
    """``async with Heartbeat() as heart: ...``; then ``heart.longest`` is how long, at most, the loop was not free."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._beat(), name="heartbeat")
        await asyncio.sleep(2 * _BEAT)
        self.longest = 0.0
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.sleep(_BEAT)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(_BEAT)
            self.longest = max(self.longest, loop.time() - before - _BEAT)


async def longest_block(work: Callable[[], Awaitable[object]], *, limit: float, attempts: int = 6) -> float:
    """The longest time for which ``work`` kept the loop, in seconds.

    A busy machine delays a loop too: the best of several attempts counts, up to the first within the limit.
    """
    best = float("inf")
    for _ in range(attempts):
        async with Heartbeat() as heart:
            await work()
        best = min(best, heart.longest)
        if best <= limit:
            break
    return best


class Leftovers:
    """Tasks that were not there before: ``left = Leftovers()``, do the work, ``await left.gone(within=1.0)``."""

    def __init__(self) -> None:
        self._before = asyncio.all_tasks()

    async def gone(self, *, within: float) -> set[asyncio.Task[object]]:
        """The tasks that are still there after that many seconds; returns as soon as there are none."""
        left = asyncio.all_tasks() - self._before
        if not left:
            return left
        return (await asyncio.wait(left, timeout=within))[1]
