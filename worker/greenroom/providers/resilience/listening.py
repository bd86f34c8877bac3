"""One stream of a transcriber: who listens, how long its words are waited for, and what is done when it fails.

1. The first model of the order listens. The words of an utterance are due ``timeout`` seconds after its end (or after
   the words of the one before), and as long again as the utterance was.
2. A stream that fails is read on, after a delay, as often as the model's rules say; the last words of an utterance
   begin the count anew. A failure that would come again, or a vendor that wants to be left alone for longer than
   ``max_delay``, is not.
3. Else another model listens (``Move``): it is given the sound of all utterances whose words have not come, and goes on
   from there. So it is too when words do not come in time: another model, or the same one over a new stream.
4. With nobody left the failure is told (``Raise``), and what was due is let go (``Release``): nobody waits for words
   that will not come. Whoever reads on (``Resumed``) begins anew with the first of the order.
5. Between two utterances, with nothing due, the listening goes back to the first of the order.

::

    LISTENING -> WAITING     failed; read on later
    LISTENING -> STOPPED     nobody is left
    WAITING   -> LISTENING   now
    STOPPED   -> LISTENING   somebody reads on
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
    "Again",
    "Blame",
    "Command",
    "Event",
    "Failed",
    "Heard",
    "Listening",
    "Move",
    "Raise",
    "Release",
    "Resumed",
    "State",
    "Tick",
    "UtteranceBegan",
    "UtteranceEnded",
]


class State(StrEnum):
    LISTENING = "listening"
    WAITING = "waiting"
    STOPPED = "stopped"


TURNS: dict[State, frozenset[State]] = {
    State.LISTENING: frozenset({State.WAITING, State.STOPPED}),
    State.WAITING: frozenset({State.LISTENING}),
    State.STOPPED: frozenset({State.LISTENING}),
}
"""Where the listening may go from each state."""

# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UtteranceBegan:
    """``order``: of the models, as their health is now."""

    utterance: str
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UtteranceEnded:
    utterance: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Heard:
    """Words. ``settled``: the utterance whose words have all come with them; empty for none."""

    settled: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """``retryable``, ``wait`` (seconds): as the model's error says it."""

    order: tuple[int, ...]
    retryable: bool = True
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """Somebody reads on after a failure was told."""

    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline has come. ``order``: as above."""

    order: tuple[int, ...]


Event: TypeAlias = UtteranceBegan | UtteranceEnded | Heard | Failed | Resumed | Tick

# --- commands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Again:
    """Read the same stream on."""


@dataclass(frozen=True, slots=True)
class Move:
    """Open a stream of this model, tell it what has no words yet, and listen to it alone."""

    model: int


@dataclass(frozen=True, slots=True)
class Blame:
    """A model failed. ``to``: who listens now; ``None`` for nobody. ``spent``: it is done with."""

    model: int
    fault: Fault
    action: Action
    to: int | None = None
    spent: bool = True


@dataclass(frozen=True, slots=True)
class Release:
    """No words will come for this utterance."""

    utterance: str


@dataclass(frozen=True, slots=True)
class Raise:
    """Tell the last failure."""


Command: TypeAlias = Again | Move | Blame | Release | Raise


class Listening:
    """``rules``: of each model; ``order``: of the models at the beginning; ``spread``: 0 to 1, for the jitter."""

    def __init__(self, rules: Sequence[Rules], order: tuple[int, ...], *, spread: float = 0.5) -> None:
        self.state = State.LISTENING
        self.model = order[0]
        self._rules = rules
        self._spread = spread
        self._open: set[str] = set()
        self._due: dict[str, float] = {}
        self._failures = 0
        self._tried: set[int] = set()
        self._again: float | None = None

    def handle(self, event: Event, now: float) -> list[Command]:
        match event:
            case UtteranceBegan(utterance, order):
                commands = self._go_back(order)
                self._open.add(utterance)
                return commands
            case UtteranceEnded(utterance, seconds) if utterance in self._open:
                self._open.discard(utterance)
                self._due[utterance] = now + self._rules[self.model].timeout + seconds
            case Heard(settled):
                if settled or not (self._open or self._due):
                    self._failures = 0
                    self._tried.clear()
                if self._due.pop(settled, None) is not None:  # the next one was not worked on before
                    patience = self._rules[self.model].timeout
                    self._due = {name: max(due, now + patience) for name, due in self._due.items()}
            case Failed() if self.state is State.LISTENING:
                fault: Fault = "error" if event.retryable else "refused"
                return self._failed(fault, event.order, now, again=event.retryable, wait=event.wait)
            case Resumed(order) if self.state is State.STOPPED:
                self._turn(State.LISTENING)
                return [self._move(order[0], now)]
            case Tick(order):
                return self._tick(order, now)
        return []

    def deadline(self) -> float | None:
        if self.state is State.WAITING:
            return self._again
        return min(self._due.values(), default=None) if self.state is State.LISTENING else None

    def _go_back(self, order: tuple[int, ...]) -> list[Command]:
        if self.state is not State.LISTENING or self._open or self._due or self.model == order[0]:
            return []
        self.model = order[0]
        return [Move(order[0])]

    def _tick(self, order: tuple[int, ...], now: float) -> list[Command]:
        if self.state is State.WAITING and self._again is not None and now >= self._again:
            self._again = None
            self._turn(State.LISTENING)
            return [Again()]
        if self.state is State.LISTENING and any(now >= due for due in self._due.values()):
            return self._late(order, now)
        return []

    def _failed(
        self, fault: Fault, order: tuple[int, ...], now: float, *, again: bool, wait: float | None
    ) -> list[Command]:
        model, rules = self.model, self._rules[self.model]
        self._failures += 1
        patient = wait is None or wait <= rules.max_delay
        if again and patient and self._failures < rules.attempts:
            whole = min(rules.delay * 2.0 ** (self._failures - 1), rules.max_delay)
            self._again = now + max(wait or 0.0, whole * (0.5 + 0.5 * self._spread))
            self._turn(State.WAITING)
            return [Blame(model, fault, "retried", model, spent=False)]
        return self._next(fault, order, now)

    def _late(self, order: tuple[int, ...], now: float) -> list[Command]:
        self._failures += 1
        others = [other for other in order if other != self.model and other not in self._tried]
        if not others and self._failures < self._rules[self.model].attempts:
            return [Blame(self.model, "timeout", "retried", self.model, spent=False), self._move(self.model, now)]
        return self._next("timeout", order, now)

    def _next(self, fault: Fault, order: tuple[int, ...], now: float) -> list[Command]:
        model = self.model
        self._tried.add(model)
        for other in order:
            if other not in self._tried:
                self._failures = 0
                return [Blame(model, fault, "fell_back", other), self._move(other, now)]
        self._turn(State.STOPPED)
        self._failures = 0
        self._tried.clear()
        released: list[Command] = [Release(utterance) for utterance in self._due]
        self._due.clear()
        return [Blame(model, fault, "gave_up"), *released, Raise()]

    def _move(self, model: int, now: float) -> Move:
        """The time of what is due begins anew."""
        self.model = model
        for utterance in self._due:
            self._due[utterance] = now + self._rules[model].timeout
        return Move(model)

    def _turn(self, state: State) -> None:
        if state not in TURNS[self.state]:
            raise LocalProtocolError(f"a listening that is {self.state} cannot become {state}")
        self.state = state
