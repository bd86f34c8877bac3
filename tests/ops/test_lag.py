"""How late a loop is, with times that are given."""

from __future__ import annotations

import asyncio
import time

import pytest

from greenroom.ops.lag import INTERVAL, WINDOW, LoopLag


class LateClock:
    """Rings when told to, however late."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, object]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: object, *args: object) -> LateClock:
        self.timers.append((when, callback))
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def ring(self, *, late: float = 0.0) -> None:
        when, callback = self.timers.pop()
        self.now = when + late
        assert callable(callback)
        callback()


def test_a_loop_in_time() -> None:
    clock, seen = LateClock(), list[float]()
    lag = LoopLag(clock, observe=seen.append)
    lag.start()
    for _ in range(3):
        clock.ring()
    assert (lag.worst, seen) == (0.0, [0.0, 0.0, 0.0])


def test_the_worst_counts_for_a_while() -> None:
    clock = LateClock()
    lag = LoopLag(clock)
    lag.start()
    clock.ring(late=0.5)
    clock.ring(late=2.0)
    began = clock.now
    clock.ring(late=0.1)
    assert lag.worst == 2.0
    while clock.now - began <= WINDOW - INTERVAL:
        clock.ring()
        assert lag.worst == 2.0
    clock.ring(late=0.01)
    clock.ring()
    assert 0.0 < lag.worst <= 0.1


def test_what_runs_before_the_timer_sees_that_it_is_overdue() -> None:
    clock = LateClock()
    lag = LoopLag(clock)
    lag.start()
    clock.now += INTERVAL + 3.0
    assert lag.worst == pytest.approx(3.0)


def test_it_keeps_no_more_than_it_needs() -> None:
    clock = LateClock()
    lag = LoopLag(clock)
    lag.start()
    for number in range(1000):
        clock.ring(late=number % 7 / 1000)
    assert len(lag._late) <= WINDOW / INTERVAL + 2


def test_closed_it_forgets_and_may_begin_again() -> None:
    clock = LateClock()
    lag = LoopLag(clock)
    lag.start()
    lag.start()
    assert len(clock.timers) == 1
    clock.ring(late=1.0)
    lag.close()
    clock.now += 60
    assert (lag.worst, clock.timers) == (0.0, [])
    lag.start()
    clock.ring(late=0.25)
    assert lag.worst == 0.25


async def test_a_real_loop_that_was_blocked() -> None:
    lag = LoopLag(asyncio.get_running_loop())
    lag.start()
    try:
        time.sleep(INTERVAL + 0.2)  # noqa: ASYNC251  # what is measured
        assert 0.15 < lag.worst < 5.0
    finally:
        lag.close()
