"""Which of several models is asked first: one that failed comes last until it is well again.

1. The models are in an order of preference. The first that is well is asked first.
2. One that failed, and for which another one was asked, is ill. It is asked only where no one well is left.
3. One that is ill is tried with a small request of our own after ``first`` seconds (or as long as its vendor asked to
   wait), and then after twice as long each time, up to ``longest``.
4. What answers, a trial or somebody's request, is well: from the next request on the order is as it was.

::

    WELL   -> ILL      failed
    ILL    -> TRIED    the wait is over
    ILL    -> WELL     answered a request
    TRIED  -> WELL     answered the trial, or a request
    TRIED  -> ILL      failed the trial
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from greenroom.errors import LocalProtocolError

__all__ = [
    "TURNS",
    "Answered",
    "Condition",
    "Event",
    "Failed",
    "Health",
    "Recovered",
    "Tick",
    "TrialFailed",
    "Try",
]


class Condition(StrEnum):
    WELL = "well"
    ILL = "ill"
    TRIED = "tried"


TURNS: dict[Condition, frozenset[Condition]] = {
    Condition.WELL: frozenset({Condition.ILL}),
    Condition.ILL: frozenset({Condition.TRIED, Condition.WELL}),
    Condition.TRIED: frozenset({Condition.WELL, Condition.ILL}),
}
"""Where a model may go from each condition."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request, or a trial."""

    model: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A request, for good. ``wait``: seconds that its vendor asked for."""

    model: int
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class TrialFailed:
    model: int


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline has come."""


Event: TypeAlias = Answered | Failed | TrialFailed | Tick


@dataclass(frozen=True, slots=True)
class Try:
    """Make a small request, and tell what became of it."""

    model: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """It is asked again, as before."""

    model: int


Command: TypeAlias = Try | Recovered


@dataclass(slots=True)
class _Patient:
    condition: Condition = Condition.WELL
    wait: float = 0.0
    due: float | None = None


class Health:
    """Of ``count`` models, in the order of preference."""

    def __init__(self, count: int, *, first: float = 5.0, longest: float = 60.0) -> None:
        self._models = [_Patient() for _ in range(count)]
        self._first = first
        self._longest = longest

    def condition(self, model: int) -> Condition:
        return self._models[model].condition

    def order(self) -> tuple[int, ...]:
        """Whom to ask, one after the other."""
        well = [number for number, one in enumerate(self._models) if one.condition is Condition.WELL]
        return (*well, *(number for number in range(len(self._models)) if number not in well))

    def handle(self, event: Event, now: float) -> list[Command]:
        match event:
            case Answered(number):
                return self._answered(number)
            case Failed(number, wait):
                one = self._models[number]
                if one.condition is Condition.WELL:  # else a trial says more: nobody better was left to ask
                    self._fail(one, max(wait, self._first), now)
                return []
            case TrialFailed(number):
                one = self._models[number]
                if one.condition is Condition.TRIED:
                    self._fail(one, min(one.wait * 2, self._longest), now)
                return []
            case Tick():
                return self._tick(now)

    def deadline(self) -> float | None:
        """When the next trial is due."""
        return min((one.due for one in self._models if one.due is not None), default=None)

    def _answered(self, number: int) -> list[Command]:
        one = self._models[number]
        if one.condition is Condition.WELL:
            return []
        self._turn(one, Condition.WELL)
        one.due, one.wait = None, 0.0
        return [Recovered(number)]

    def _fail(self, one: _Patient, wait: float, now: float) -> None:
        self._turn(one, Condition.ILL)
        one.wait, one.due = wait, now + wait

    def _tick(self, now: float) -> list[Command]:
        tries: list[Command] = []
        for number, one in enumerate(self._models):
            if one.due is not None and now >= one.due:
                self._turn(one, Condition.TRIED)
                one.due = None
                tries.append(Try(number))
        return tries

    def _turn(self, one: _Patient, condition: Condition) -> None:
        if condition not in TURNS[one.condition]:
            raise LocalProtocolError(f"a model that is {one.condition} cannot become {condition}")
        one.condition = condition
