"""Machines against the time, without any time: what goes in when, and exactly what comes out when.

::

    with Timeline(TurnTaker(...), tick=Tick()) as line:
        line.at(1.20, UserStopped("u1")).expect(1.70, Generate("s1")).quiet(until=60)

The machine gets a tick at each of its deadlines, as ``Driver`` would give it. Whatever it commands must be expected, at
its time and in its order, before the next event goes in and before the timeline ends.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from greenroom.machine import Machine

__all__ = ["ManualClock", "Timeline"]

Event = TypeVar("Event")
Command = TypeVar("Command")

PRECISION = 1e-9
"""Times that differ by less are the same. Seconds."""
RESTLESS = 100
"""Ticks at one and the same time after which a machine is called stuck."""


class Timeline(Generic[Event, Command]):
    """``tick``: the event to feed at deadlines. ``ignore``: kinds of commands that this timeline is not about.

    Used as a context manager it ends with ``end``; without, call that yourself.
    """

    def __init__(
        self, machine: Machine[Event, Command], *, tick: Event, start: float = 0.0, ignore: tuple[type[Any], ...] = ()
    ) -> None:
        self.machine = machine
        self.now = start
        self._tick = tick
        self._ignore = ignore
        self._got: list[tuple[float, Command]] = []
        self._history: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.end()

    def at(self, when: float, *events: Event) -> Self:
        """Feed events at ``when``, after the ticks that are due by then."""
        self._advance(when)
        self._compare([])
        for event in events:
            self._feed(event)
        return self

    def expect(self, when: float, *commands: Command) -> Self:
        """By ``when``, exactly these commands have come since the last expectation, all of them at ``when``."""
        self._advance(when)
        self._compare([(when, command) for command in commands])
        return self

    def quiet(self, *, until: float) -> Self:
        """Nothing is commanded up to and including ``until``."""
        self._advance(until)
        self._compare([])
        return self

    def wants_tick(self, when: float | None) -> Self:
        """The machine's deadline is ``when``."""
        deadline = self.machine.deadline()
        same = deadline == when or (deadline is not None and when is not None and math.isclose(deadline, when))
        assert same, self._story(f"deadline is {deadline}, expected {when}")
        return self

    def end(self) -> None:
        """Nothing was commanded that nobody expected."""
        self._compare([])

    def _advance(self, when: float) -> None:
        assert when >= self.now - PRECISION, self._story(f"time runs backwards, to {when:g}")
        ticks, last = 0, -math.inf
        while (deadline := self.machine.deadline()) is not None and deadline <= when + PRECISION:
            ticks = ticks + 1 if deadline == last else 0
            assert ticks < RESTLESS, self._story(f"the machine wants a tick at {deadline:g} again and again")
            self.now, last = max(self.now, deadline), deadline
            self._feed(self._tick)
        self.now = max(self.now, when)

    def _feed(self, event: Event) -> None:
        self._history.append(f"{self.now:9.3f} < {event}")
        commands: Sequence[Command] = self.machine.handle(event, self.now)
        for command in commands:
            self._history.append(f"{self.now:9.3f} > {command}")
            if not isinstance(command, self._ignore):
                self._got.append((self.now, command))
        deadline = self.machine.deadline()
        late = deadline is not None and deadline < self.now - PRECISION
        assert not late, self._story(f"the deadline {deadline} lies in the past")

    def _compare(self, expected: list[tuple[float, Command]]) -> None:
        got, self._got = self._got, []
        same = len(got) == len(expected) and all(
            abs(a - b) < PRECISION and one == other for (a, one), (b, other) in zip(got, expected, strict=True)
        )
        if same:
            return
        lines = ["expected:", *_lines(expected), "got:", *_lines(got)]
        raise AssertionError(self._story("\n".join(lines)))

    def _story(self, problem: str) -> str:
        return "\n".join([problem, "so far (< event, > command):", *(self._history or ["  nothing"])])


def _lines(commands: Sequence[tuple[float, object]]) -> list[str]:
    return [f"{when:9.3f}   {command}" for when, command in commands] or ["          nothing"]


class _Timer:
    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._callback: Callable[..., Any] | None = callback
        self._args = args

    @property
    def cancelled(self) -> bool:
        return self._callback is None

    def cancel(self) -> None:
        self._callback = None

    def ring(self) -> None:
        if self._callback is not None:
            self._callback(*self._args)


class ManualClock:
    """A ``greenroom.clock.Clock`` that goes only where it is told to."""

    def __init__(self, *, start: float = 0.0) -> None:
        self._now = start
        self._timers: list[tuple[float, int, _Timer]] = []
        self._count = itertools.count()

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any) -> _Timer:
        """Ring once the time is ``when``; a time in the past rings at the next ``advance``."""
        timer = _Timer(callback, args)
        heapq.heappush(self._timers, (when, next(self._count), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass; timers ring at their times, in order, those included that are set meanwhile."""
        self.advance_to(self._now + seconds)

    def advance_to(self, when: float) -> None:
        """Let time pass until ``when``."""
        while self._timers and self._timers[0][0] <= when:
            due, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, due)
            timer.ring()
        self._now = max(self._now, when)

    @property
    def pending(self) -> int:
        """Timers that have not rung and are not cancelled."""
        return sum(not timer.cancelled for _, _, timer in self._timers)
