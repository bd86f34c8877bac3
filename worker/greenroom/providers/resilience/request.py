"""One request: who is asked, how long they are waited for, and what is done when they fail.

An attempt is one time that one model is asked. Attempts are numbered from 1.

1. The first model of the order is asked. What comes first with anything in it is used: from then on it is the answer,
   and every other attempt is abandoned.
2. An attempt that fails before is made again with the same model, after a delay, as often as its rules say. A failure
   that would come again, or a vendor that wants to be left alone for longer than ``max_delay``, is not.
3. Nothing within ``timeout``: with another model left, that one is asked at once; else the same one again, if an
   attempt is left.
4. A model whose attempts are spent is done with, and the next one of the order is asked at once. After the last, the
   request fails.
5. Without anything after ``hedge_after``, another attempt runs beside the first, once in a request: of the next model,
   or of the same one where there is no other. The one that fails leaves the request to the other.
6. In the midst of an answer nothing is said twice: when it breaks off, or nothing more comes within ``stall``, the
   request fails; unless it is ``resumable``: then it goes on as in 2 to 4, and who is asked next makes the rest.
7. An answer that ends with nothing in it is a failure (``silence``). Where ``empty`` is allowed the last of them
   stands.
8. Time counts only while somebody waits for the answer (``Wanted``), and not while the model itself waits for what it
   is to work on (``Starved``, ``Fed``).

::

    IDLE      -> ASKING                begun
    ASKING    -> WAITING               failed; asked again later
    WAITING   -> ASKING                now
    ASKING    -> ANSWERING             something came
    ANSWERING -> WAITING, ASKING       broke off, and can be resumed
    ASKING, ANSWERING -> ENDED         all of it came
    ASKING, ANSWERING -> FAILED        nobody is left
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from greenroom.errors import LocalProtocolError
from greenroom.providers.resilience.rules import Action, Fault, Rules

__all__ = [
    "TURNS",
    "Abandon",
    "Ask",
    "Began",
    "Blame",
    "Came",
    "Command",
    "Ended",
    "Event",
    "Failed",
    "Fed",
    "Finish",
    "GiveUp",
    "Hedged",
    "Request",
    "Starved",
    "State",
    "Tick",
    "Use",
    "Wanted",
]


class State(StrEnum):
    IDLE = "idle"
    ASKING = "asking"
    WAITING = "waiting"
    ANSWERING = "answering"
    ENDED = "ended"
    FAILED = "failed"


TURNS: dict[State, frozenset[State]] = {
    State.IDLE: frozenset({State.ASKING}),
    State.ASKING: frozenset({State.WAITING, State.ANSWERING, State.ENDED, State.FAILED}),
    State.WAITING: frozenset({State.ASKING}),
    State.ANSWERING: frozenset({State.WAITING, State.ASKING, State.ENDED, State.FAILED}),
    State.ENDED: frozenset(),
    State.FAILED: frozenset(),
}
"""Where a request may go from each state."""

# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Began:
    """Somebody asks."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What came was taken, and somebody waits for more."""


@dataclass(frozen=True, slots=True)
class Came:
    """Something with anything in it."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Ended:
    """``empty``: there was nothing in it, and there should have been."""

    attempt: int
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """``retryable``, ``wait`` (seconds): as the model's error says it. ``silent``: it was cut off for being silent."""

    attempt: int
    retryable: bool = True
    wait: float | None = None
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Starved:
    """It waits for what it is to work on."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Fed:
    """It has that, or all of it."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline has come."""


Event: TypeAlias = Began | Wanted | Came | Ended | Failed | Starved | Fed | Tick

# --- commands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """Begin an attempt."""

    attempt: int
    model: int


@dataclass(frozen=True, slots=True)
class Use:
    """What this attempt sends is the answer."""

    attempt: int
    model: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop an attempt; nothing of it is wanted."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Blame:
    """A model failed. ``to``: who is asked instead, or goes on; ``None`` for nobody. ``spent``: it is done with."""

    model: int
    fault: Fault
    action: Action
    attempt: int
    to: int | None = None
    spent: bool = True


@dataclass(frozen=True, slots=True)
class Hedged:
    """Two attempts ran side by side, and ``won`` says whether the second of them came first."""

    model: int
    to: int
    won: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """All of the answer has come."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The request fails, with the failure of this attempt."""

    attempt: int


Command: TypeAlias = Ask | Use | Abandon | Blame | Hedged | Finish | GiveUp


@dataclass(slots=True)
class _Attempt:
    model: int
    due: float | None = None
    starved: bool = False


class Request:
    """``order``: of the models, by number; ``rules``: of each of them; ``spread``: 0 to 1, for the jitter."""

    def __init__(
        self,
        order: Sequence[int],
        rules: Sequence[Rules],
        *,
        hedge_after: float | None = None,
        resumable: bool = False,
        empty: bool = False,
        spread: float = 0.5,
    ) -> None:
        self.state = State.IDLE
        self._left = list(order)
        self._rules = rules
        self._hedge_after = hedge_after
        self._resumable = resumable
        self._empty = empty
        self._spread = spread
        self._live: dict[int, _Attempt] = {}
        self._used: dict[int, int] = dict.fromkeys(order, 0)
        self._number = 0
        self._wanted = True
        self._hedge_due: float | None = None
        self._hedge: tuple[int, int] | None = None
        self._again: float | None = None

    def handle(self, event: Event, now: float) -> list[Command]:
        """Events of attempts that are over have no effect."""
        if self.state in (State.ENDED, State.FAILED):
            return []
        match event:
            case Began() if self.state is State.IDLE:
                self._hedge_due = now + self._hedge_after if self._hedge_after is not None else None
                return self._ask(self._left[0], now)
            case Wanted():
                self._wanted = True
                for attempt in self._live.values():
                    self._watch(attempt, now)
            case Came(number) if number in self._live:
                return self._came(number)
            case Ended(number, empty) if number in self._live:
                return self._ended(number, now, empty=empty)
            case Failed(number) if number in self._live:
                return self._failed(event, now)
            case Starved(number) if number in self._live:
                self._live[number].starved = True
                self._watch(self._live[number], now)
            case Fed(number) if number in self._live:
                self._live[number].starved = False
                self._watch(self._live[number], now)
            case Tick():
                return self._tick(now)
        return []

    def deadline(self) -> float | None:
        if self.state is State.WAITING:
            return self._again
        dues = [attempt.due for attempt in self._live.values() if attempt.due is not None]
        if self._hedge_due is not None and self.state is State.ASKING:
            dues.append(self._hedge_due)
        return min(dues, default=None)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _ask(self, model: int, now: float) -> list[Command]:
        self._number += 1
        self._used[model] += 1
        attempt = self._live[self._number] = _Attempt(model)
        if self.state is not State.ASKING:
            self._turn(State.ASKING)
        self._watch(attempt, now)
        return [Ask(self._number, model)]

    def _watch(self, attempt: _Attempt, now: float) -> None:
        """Its time begins anew, or stands still."""
        rules = self._rules[attempt.model]
        patience = rules.stall if self.state is State.ANSWERING else rules.timeout
        attempt.due = now + patience if self._wanted and not attempt.starved else None

    def _tick(self, now: float) -> list[Command]:
        if self.state is State.WAITING and self._again is not None and now >= self._again:
            self._again = None
            return self._ask(self._left[0], now)
        commands: list[Command] = []
        if self.state is State.ASKING and self._hedge_due is not None and now >= self._hedge_due:
            commands += self._begin_hedge(now)
        for number, attempt in tuple(self._live.items()):
            if number in self._live and attempt.due is not None and now >= attempt.due:
                commands += [Abandon(number), *self._late(number, now)]
        return commands

    def _begin_hedge(self, now: float) -> list[Command]:
        self._hedge_due = None
        if len(self._live) != 1:
            return []
        (model,) = (attempt.model for attempt in self._live.values())
        other = self._left[1] if len(self._left) > 1 else model
        commands = self._ask(other, now)
        self._hedge = (self._number - 1, self._number)
        return commands

    # --- what came ----------------------------------------------------------------------------------------------------

    def _came(self, number: int) -> list[Command]:
        attempt = self._live[number]
        attempt.due, self._wanted = None, False
        if self.state is State.ANSWERING:
            return []
        self._turn(State.ANSWERING)
        commands: list[Command] = [Use(number, attempt.model)]
        others = [other for other in self._live if other != number]
        if self._hedge is not None and others:
            first, second = (self._live[one].model for one in self._hedge)
            commands.append(Hedged(first, second, won=number == self._hedge[1]))
        for other in others:
            del self._live[other]
            commands.append(Abandon(other))
        while self._left[0] != attempt.model:  # the hedge has won: should it break off, the first is not asked again
            self._left.pop(0)
        return commands

    def _ended(self, number: int, now: float, *, empty: bool) -> list[Command]:
        if empty and self.state is State.ASKING and (not self._empty or len(self._live) > 1 or self._may_ask(number)):
            return self._broke(number, "silence", now)
        self._live.pop(number)
        rest: list[Command] = [Abandon(other) for other in self._live]
        self._live.clear()
        self._turn(State.ENDED)
        return [*rest, Finish()]

    # --- failures -----------------------------------------------------------------------------------------------------

    def _failed(self, event: Failed, now: float) -> list[Command]:
        fault: Fault = "error" if event.retryable else "refused"
        if event.silent:
            fault = "silence"
        elif self.state is State.ANSWERING:
            fault = "cut"
        return self._broke(event.attempt, fault, now, again=event.retryable, wait=event.wait)

    def _late(self, number: int, now: float) -> list[Command]:
        fault: Fault = "stall" if self.state is State.ANSWERING else "timeout"
        return self._broke(number, fault, now, again=len(self._others(self._live[number].model)) == 0)

    def _broke(
        self, number: int, fault: Fault, now: float, *, again: bool = True, wait: float | None = None
    ) -> list[Command]:
        attempt = self._live.pop(number)
        model, rules = attempt.model, self._rules[attempt.model]
        if self._live:  # a hedge: the other one goes on
            (other,) = (one.model for one in self._live.values())
            spent = not (again and other == model)
            if spent and other != model:
                self._left.remove(model)
            return [Blame(model, fault, "hedged", number, other, spent=spent)]
        if self.state is State.ANSWERING and not self._resumable:
            return self._give_up(number, model, fault)
        patient = wait is None or wait <= rules.max_delay
        if again and patient and self._used[model] < rules.attempts:
            self._hedge_due = None
            self._again = now + max(wait or 0.0, self._delay(model))
            self._turn(State.WAITING)
            return [Blame(model, fault, "retried", number, model, spent=False)]
        others = self._others(model)
        if not others:
            return self._give_up(number, model, fault)
        self._left = others
        return [Blame(model, fault, "fell_back", number, others[0]), *self._ask(others[0], now)]

    def _give_up(self, number: int, model: int, fault: Fault) -> list[Command]:
        self._turn(State.FAILED)
        return [Blame(model, fault, "gave_up", number), GiveUp(number)]

    def _others(self, model: int) -> list[int]:
        """Who may be asked after this one."""
        return [one for one in self._left if one != model and self._used[one] < self._rules[one].attempts]

    def _may_ask(self, number: int) -> bool:
        """Whether somebody is left to ask once this attempt is over."""
        model = self._live[number].model
        return self._used[model] < self._rules[model].attempts or bool(self._others(model))

    def _delay(self, model: int) -> float:
        rules = self._rules[model]
        whole = min(rules.delay * 2.0 ** (self._used[model] - 1), rules.max_delay)
        return whole * (0.5 + 0.5 * self._spread)

    def _turn(self, state: State) -> None:
        if state not in TURNS[self.state]:
            raise LocalProtocolError(f"a request that is {self.state} cannot become {state}")
        self.state = state
