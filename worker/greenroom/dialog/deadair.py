"""Guards against silence that the agent owes the user something in.

The clock runs while something is owed and nothing is audible; what counts is the outgoing audio as it was measured
(``Aired``), not what any component says of itself. It stands still while the user speaks, while the agent is audible or
paused by the user, and while nobody is there to hear. Steps, each after its own stretch of silence::

    NONE -> HOLD (a holding phrase) -> FALLBACK (what hangs is given up) -> END (a spoken end) -> OVER (closed)
    any  -> NONE   something else than a guard's phrase was heard, or nothing is owed any more

A tool that runs is no failure: after the holding phrase the guard waits until it has returned. An answer that failed
before anything of it was heard, with nothing else to come, goes to the fallback at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from greenroom.dialog.events import DeadAirStep
from greenroom.errors import LocalProtocolError

__all__ = ["GUARDING", "DeadAirGuard", "DeadAirRules", "Guarding"]


@dataclass(frozen=True, slots=True)
class DeadAirRules:
    """Seconds of silence before each step, and what is said then (empty: nothing)."""

    enabled: bool = False
    hold_after: float = 5.0
    fallback_after: float = 7.0
    end_after: float = 10.0
    hold_phrase: str = ""
    fallback_phrase: str = ""
    end_phrase: str = ""

    def after(self, step: DeadAirStep) -> float:
        return {"hold": self.hold_after, "fallback": self.fallback_after, "end": self.end_after}[step]

    def phrase(self, step: DeadAirStep) -> str:
        return {"hold": self.hold_phrase, "fallback": self.fallback_phrase, "end": self.end_phrase}[step]


class Guarding(StrEnum):
    """The last step that was taken."""

    NONE = "none"
    HOLD = "hold"
    FALLBACK = "fallback"
    END = "end"
    OVER = "over"


GUARDING: dict[Guarding, frozenset[Guarding]] = {
    Guarding.NONE: frozenset({Guarding.HOLD, Guarding.FALLBACK}),
    Guarding.HOLD: frozenset({Guarding.FALLBACK, Guarding.NONE}),
    Guarding.FALLBACK: frozenset({Guarding.END, Guarding.NONE}),
    Guarding.END: frozenset({Guarding.OVER, Guarding.NONE}),
    Guarding.OVER: frozenset(),
}
"""Where the guard may go from each step."""

_NEXT: dict[Guarding, DeadAirStep] = {Guarding.NONE: "hold", Guarding.HOLD: "fallback", Guarding.FALLBACK: "end"}


class DeadAirGuard:
    """A part of ``Dialog``: told what is owed and heard, it says which step is due."""

    def __init__(self, rules: DeadAirRules) -> None:
        self._rules = rules
        self.state = Guarding.NONE
        self._since: float | None = None

    def deadline(self) -> float | None:
        """When the next step is due, if nothing changes."""
        if self._since is None or self.state is Guarding.OVER:
            return None
        step = _NEXT.get(self.state)
        return self._since + (self._rules.after(step) if step is not None else self._rules.end_after)

    def watch(self, now: float, *, owed: bool, patient: bool) -> None:
        """Call after every event. ``owed``: the silence counts now. ``patient``: a tool runs, which a holding phrase is
        enough for.
        """
        if not self._rules.enabled or not owed or (patient and self.state is not Guarding.NONE):
            self._since = None
        elif self._since is None:
            self._since = now

    def relieved(self) -> None:
        """The user heard something worth hearing, or nothing is owed any more."""
        if self.state not in (Guarding.NONE, Guarding.OVER):
            self._go(Guarding.NONE)
        self._since = None

    def due(self, now: float, *, lost: bool = False) -> tuple[DeadAirStep | None, float]:
        """The step to take now, and how long it was silent; taken once. ``lost``: the answer has just failed.

        After ``end`` nothing but the end is left: ``state`` is ``OVER`` when even that was not heard.
        """
        hopeless = lost and self._since is not None and self.state in (Guarding.NONE, Guarding.HOLD)
        deadline = self.deadline()
        if self._since is None or not (hopeless or (deadline is not None and now >= deadline)):
            return None, 0.0
        step: DeadAirStep | None = "fallback" if hopeless else _NEXT.get(self.state)
        silent, self._since = now - self._since, now
        self._go(Guarding(step) if step is not None else Guarding.OVER)
        return step, silent

    def _go(self, state: Guarding) -> None:
        if state not in GUARDING[self.state]:
            raise LocalProtocolError(f"the guard cannot go from {self.state} to {state}")
        self.state = state
