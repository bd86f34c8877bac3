"""The one pattern of the house: pure machines, one pump.

A machine decides. It takes an event and the time, and returns commands; it never awaits, logs, reads a clock or raises
on remote input. A shell does: it performs commands and feeds back what became of them as further events.
``Driver`` is the only place where the two meet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from greenroom.clock import Cancellable, Clock

__all__ = ["Driver", "Machine"]

Event = TypeVar("Event")
Command = TypeVar("Command")
EventIn = TypeVar("EventIn", contravariant=True)
CommandOut = TypeVar("CommandOut", covariant=True)


class Machine(Protocol[EventIn, CommandOut]):
    """What decides: pure, synchronous, told the time."""

    def handle(self, event: EventIn, now: float) -> Sequence[CommandOut]:
        """Take one event that happened at ``now`` and return what is to be done, in order."""
        ...

    def deadline(self) -> float | None:
        """When the machine next wants a tick if nothing happens before; ``None`` for never."""
        ...


class Driver(Generic[Event, Command]):
    """Feeds a machine and performs what it commands.

    ``perform`` starts work and returns at once; completion comes back through ``feed``. Events fed while a command is
    being performed wait their turn, so a machine is never re-entered and commands keep their order. ``observe`` sees
    each event before it is handled: the journal hangs there.
    """

    def __init__(
        self,
        machine: Machine[Event, Command],
        perform: Callable[[Command], None],
        *,
        clock: Clock,
        tick: Event,
        observe: Callable[[Event, float], None] | None = None,
    ) -> None:
        self.machine = machine
        self._perform = perform
        self._clock = clock
        self._tick = tick
        self._observe = observe
        self._events: deque[Event] = deque()
        self._running = False
        self._closed = False
        self._timer: Cancellable | None = None
        self._timer_when: float | None = None

    def feed(self, event: Event) -> None:
        """Hand the machine one event; returns when everything it led to at once has been performed."""
        if self._closed:
            return
        self._events.append(event)
        if self._running:
            return
        self._running = True
        try:
            while self._events and not self._closed:
                self._step(self._events.popleft())
        finally:
            self._running = False
        self._arm()

    def close(self) -> None:
        """Stop for good: later events and ticks are ignored."""
        self._closed = True
        self._events.clear()
        self._disarm()

    def _step(self, event: Event) -> None:
        now = self._clock.time()
        if self._observe is not None:
            self._observe(event, now)
        for command in self.machine.handle(event, now):
            self._perform(command)

    def _arm(self) -> None:
        when = None if self._closed else self.machine.deadline()
        if when == self._timer_when:
            return
        self._disarm()
        if when is not None:
            self._timer_when = when
            self._timer = self._clock.call_at(when, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_when = None

    def _ring(self) -> None:
        when, self._timer, self._timer_when = self._timer_when, None, None
        # A loop may ring up to its clock's resolution early; a tick before the deadline would be a lie.
        if when is not None and self._clock.time() < when:
            self._timer_when, self._timer = when, self._clock.call_at(when, self._ring)
            return
        self.feed(self._tick)
