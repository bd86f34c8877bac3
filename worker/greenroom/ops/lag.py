"""How late an event loop is: a timer that knows when it should have rung.

A loop that is late answers offers late, and a call's server waits no longer than 2.8 seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from greenroom.clock import Cancellable, Clock

__all__ = ["LoopLag"]

INTERVAL = 0.25
WINDOW = 5.0
"""Seconds for which a lateness counts as the present one."""


class LoopLag:
    """Measures while it is started. ``observe`` hears each lateness, in seconds."""

    def __init__(self, clock: Clock, *, observe: Callable[[float], None] | None = None) -> None:
        self._clock = clock
        self._observe = observe
        self._late: deque[tuple[float, float]] = deque()
        self._due: float | None = None
        self._timer: Cancellable | None = None

    def start(self) -> None:
        """Begin, or go on."""
        if self._timer is None:
            self._arm()

    def close(self) -> None:
        """Stop. What was measured is forgotten."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._due = None
        self._late.clear()

    @property
    def worst(self) -> float:
        """The worst lateness of the last seconds.

        The present one counts: what runs just after the loop was blocked may run before the timer.
        """
        now = self._clock.time()
        self._forget(now)
        overdue = max(now - self._due, 0.0) if self._due is not None else 0.0
        return max([overdue, *(late for _, late in self._late)])

    def _arm(self) -> None:
        self._due = self._clock.time() + INTERVAL
        self._timer = self._clock.call_at(self._due, self._ring)

    def _ring(self) -> None:
        now = self._clock.time()
        # A loop may ring up to its clock's resolution early.
        late = max(now - self._due, 0.0) if self._due is not None else 0.0
        self._forget(now)
        # Of those before that were no worse, none can be the worst again.
        while self._late and self._late[-1][1] <= late:
            self._late.pop()
        self._late.append((now, late))
        self._arm()
        if self._observe is not None:
            self._observe(late)

    def _forget(self, now: float) -> None:
        while self._late and self._late[0][0] < now - WINDOW:
            self._late.popleft()
