"""Carries out a ``Request``: an answer in pieces, whoever of a chain's models makes it."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from greenroom.errors import ProviderError
from greenroom.machine import Driver
from greenroom.providers.provider import Provider
from greenroom.providers.resilience import request as ask
from greenroom.providers.resilience.chain import Chain
from greenroom.providers.resilience.reading import Broken, Outcome, Over, Piece, Reading
from greenroom.providers.resilience.rules import GaveUp, Hedge

__all__ = ["Attempt", "Supervision"]

T = TypeVar("T")
P = TypeVar("P", bound=Provider)

CLOSING = 1.0
"""Seconds that a stream which nobody wants may take to close."""


class Attempt(Protocol[T]):
    """What one attempt yields, and how it is judged."""

    def open(self) -> AsyncGenerator[T, None]:
        """The model's own stream."""
        ...

    def judge(self, piece: T) -> bool:
        """Whether there is anything in it. Raises ``ProviderError`` where too much of it has nothing."""
        ...

    def lacking(self) -> bool:
        """Whether there should have been more in it than nothing, now that it is over."""
        ...


@dataclass(slots=True)
class _Running(Generic[T]):
    """``held``: pieces before the first with anything in it."""

    model: int
    attempt: Attempt[T]
    reading: Reading[T]
    held: list[T] = field(default_factory=list)
    error: ProviderError | None = None


class Supervision(Generic[P, T]):
    """One request. ``begin`` makes the attempt of that number with that model; ``order``: if not the chain's."""

    def __init__(
        self,
        chain: Chain[P],
        begin: Callable[[int, int], Attempt[T]],
        *,
        hedge_after: float | None = None,
        resumable: bool = False,
        empty: bool = False,
        order: tuple[int, ...] | None = None,
    ) -> None:
        self._chain = chain
        self._begin = begin
        self._request = ask.Request(
            order or chain.order(),
            chain.rules,
            hedge_after=hedge_after,
            resumable=resumable,
            empty=empty,
            spread=random.random(),
        )
        self._driver = Driver[ask.Event, ask.Command](
            self._request, self._perform, clock=asyncio.get_running_loop(), tick=ask.Tick()
        )
        self._running: dict[int, _Running[T]] = {}
        self._used = 0
        self._ready: deque[T] = deque()
        self._failure: Exception | None = None
        self._last: GaveUp | None = None
        self._over = False
        self._wake = asyncio.Event()
        self.hedge: Hedge | None = None
        """What became of the second attempt that ran beside the first, if there was one."""

    async def pieces(self) -> AsyncGenerator[T, None]:
        """The answer. Raises ``GaveUp``, and what is no ``ProviderError`` as it is."""
        try:
            self._driver.feed(ask.Began())
            while True:
                while not self._ready and not self._over:
                    self._wake.clear()
                    await self._wake.wait()
                while self._ready:
                    yield self._ready.popleft()
                if self._over:
                    break
                self._want()
            if self._failure is not None:
                raise self._failure
        finally:
            await self._close()

    def starved(self, number: int) -> None:
        """That attempt waits for what it is to work on."""
        self._driver.feed(ask.Starved(number))

    def fed(self, number: int) -> None:
        self._driver.feed(ask.Fed(number))

    # --- commands -----------------------------------------------------------------------------------------------------

    def _perform(self, command: ask.Command) -> None:
        match command:
            case ask.Ask(number, model):
                self._start(number, model)
            case ask.Use(number, model):
                self._used = number
                self._chain.answered(model)
            case ask.Abandon(number):
                self._stop(number, late=True)
            case ask.Blame():
                self._blame(command)
            case ask.Hedged(model, to, won):
                names = self._chain.names
                self.hedge = Hedge(self._chain.kind, names[model], names[to], won)
            case ask.Finish():
                self._end(None)
            case ask.GiveUp():
                self._end(self._last)

    def _start(self, number: int, model: int) -> None:
        attempt = self._begin(number, model)
        reading = Reading(attempt.open, lambda outcome: self._heard(number, outcome))
        self._running[number] = _Running(model, attempt, reading)

    def _stop(self, number: int, *, late: bool = False) -> None:
        running = self._running[number]
        if late and running.error is None:
            rules = self._chain.rules[running.model]
            seconds = rules.stall if number == self._used else rules.timeout
            what = "nothing more" if number == self._used else "nothing"
            running.error = ProviderError(
                f"{what} came within {seconds:g} s", provider=self._chain.candidates[running.model].name, retryable=True
            )
        running.reading.stop()

    def _blame(self, blame: ask.Blame) -> None:
        running = self._running[blame.attempt]
        name = self._chain.candidates[blame.model].name
        error = running.error or ProviderError("there was nothing in the answer", provider=name, retryable=True)
        incident = self._chain.blame(blame.model, blame.fault, blame.action, error, to=blame.to, spent=blame.spent)
        if blame.action == "gave_up":
            self._last = GaveUp(incident)
            self._last.__cause__ = error
        self._stop(blame.attempt)

    def _end(self, failure: Exception | None) -> None:
        self._failure = self._failure or failure
        self._over = True
        self._wake.set()

    # --- what attempts send -------------------------------------------------------------------------------------------

    def _heard(self, number: int, outcome: Outcome[T]) -> None:
        running = self._running[number]
        match outcome:
            case Piece(value):
                self._take(number, running, value)
            case Over():
                empty = number != self._used and running.attempt.lacking()
                if not empty:
                    self._hand_on(running)
                self._driver.feed(ask.Ended(number, empty=empty))
            case Broken(error) if isinstance(error, ProviderError):
                running.error = error
                self._driver.feed(ask.Failed(number, error.retryable, error.retry_after))
            case Broken(error):
                self._end(error)  # a mistake in somebody's code: it is not asked again

    def _take(self, number: int, running: _Running[T], piece: T) -> None:
        running.held.append(piece)
        try:
            content = running.attempt.judge(piece)
        except ProviderError as error:
            running.error = error
            self._driver.feed(ask.Failed(number, error.retryable, silent=True))
            return
        if number != self._used and not content:
            running.reading.ask()
            return
        if content:
            self._driver.feed(ask.Came(number))
        self._hand_on(running)

    def _hand_on(self, running: _Running[T]) -> None:
        self._ready.extend(running.held)
        running.held.clear()
        self._wake.set()

    def _want(self) -> None:
        self._driver.feed(ask.Wanted())
        if (running := self._running.get(self._used)) is not None:
            running.reading.ask()

    async def _close(self) -> None:
        self._driver.close()
        for running in self._running.values():
            running.reading.stop()
        tasks = [running.reading.task for running in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSING)
