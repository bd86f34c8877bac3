"""An event loop whose time jumps: asynchronous tests that take no time and always take the same.

When nothing is ready the loop does not sleep, it sets its clock to the next timer. What happens outside its sight takes
no virtual time, and is waited for: work in executors (``asyncio.to_thread``), and whatever ``outside_work`` surrounds.
While real file descriptors are open on the loop (sockets, subprocesses), time passes at its real pace, since nobody
knows when the other side will answer.

::

    @virtual_time
    async def test_a_minute() -> None:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(60)
        assert asyncio.get_running_loop().time() - began == 60

A loop in which nothing can ever happen again raises ``Deadlock``; tasks that are left behind raise ``LeakedTasks``.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import io
import itertools
import selectors
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import Context
from typing import Any, ParamSpec, TypeVar, TypeVarTuple, Unpack

__all__ = ["Deadlock", "LeakedTasks", "VirtualTimeLoop", "run", "virtual_time"]

T = TypeVar("T")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")


class Deadlock(AssertionError):
    """Nothing is scheduled and the test is not over; the message has the stack of each task that waits."""


class LeakedTasks(AssertionError):
    """The test is over and tasks still run; the message has their stacks."""


class _Selector(selectors.BaseSelector):
    """The real selector, asked without waiting unless the loop says that waiting for real is right."""

    def __init__(self, wait: Callable[[selectors.BaseSelector, float | None], list[Ready]]) -> None:
        self._real = selectors.DefaultSelector()
        self._wait = wait

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[Ready]:
        return self._wait(self._real, timeout)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


Ready = tuple[selectors.SelectorKey, int]


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """``time()`` begins at ``start`` seconds."""

    def __init__(self, *, start: float = 0.0) -> None:
        self._now = start
        self._outside = 0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = itertools.count()
        super().__init__(_Selector(self._select))

    def time(self) -> float:
        return self._now

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        heapq.heappush(self._timers, (when, next(self._count), handle))
        return handle

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._outside += 1
        future.add_done_callback(self._came_back)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        with self.outside_work():
            await super().shutdown_default_executor(*args)

    @contextmanager
    def outside_work(self) -> Iterator[None]:
        """Time stands still while a thread or a process that the loop does not know is at work for it."""
        self._outside += 1
        try:
            yield
        finally:
            self._outside -= 1

    def _came_back(self, _future: asyncio.Future[Any]) -> None:
        self._outside -= 1

    def _select(self, real: selectors.BaseSelector, timeout: float | None) -> list[Ready]:
        if ready := real.select(0):
            return ready
        if timeout is not None and timeout <= 0:
            return []
        if self._outside:
            return real.select(None)
        if len(real.get_map()) > 1:  # more than the loop's own wake-up pipe
            return self._select_at_real_pace(real, timeout)
        when = self._next_timer()
        if when is None:
            raise Deadlock(_report("nothing is scheduled and nothing can happen", asyncio.all_tasks(self)))
        self._now = when
        return []

    def _select_at_real_pace(self, real: selectors.BaseSelector, timeout: float | None) -> list[Ready]:
        when = self._next_timer()
        began = time.monotonic()
        ready = real.select(timeout)
        now = self._now + time.monotonic() - began
        if when is not None and (now > when or not ready):
            now = when
        self._now = max(self._now, now)
        return ready

    def _next_timer(self) -> float | None:
        while self._timers and (self._timers[0][2].cancelled() or self._timers[0][0] <= self._now):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None


def run(main: Coroutine[Any, Any, T], *, start: float = 0.0) -> T:
    """Like ``asyncio.run``, in virtual time. Raises ``Deadlock`` and ``LeakedTasks``."""
    with asyncio.Runner(loop_factory=functools.partial(VirtualTimeLoop, start=start)) as runner:
        result = runner.run(main)
        runner.run(_settle())
        leaked = asyncio.all_tasks(runner.get_loop())
        if leaked:
            raise LeakedTasks(_report("tasks outlived the test", leaked))
        return result


def virtual_time(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Makes an asynchronous test a synchronous one that runs in virtual time.

    Its fixtures must be synchronous: asynchronous ones would live on another loop.
    """

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        run(main())

    return wrapper


async def _settle() -> None:
    """Let tasks that are ending end: a cancellation or a result may be a few turns of the loop away."""
    for _ in range(10):
        await asyncio.sleep(0)


def _report(headline: str, tasks: Iterable[asyncio.Task[Any]]) -> str:
    text = io.StringIO()
    text.write(headline)
    for task in sorted(tasks, key=lambda each: each.get_name()):
        text.write("\n")
        task.print_stack(file=text)
    return text.getvalue()
