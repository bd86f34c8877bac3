"""How long a silence lasts before the user's turn is over. Counted from the last voiced sample.

=====================================  ==================================================
no detector, or it thinks it is over   the shortest delay; with ``dynamic``: what this speaker's own pauses need
it thinks the user will go on          ``max_delay``
it has not answered yet                ``max_delay``: an answer that comes late still ends the turn at once
=====================================  ==================================================

The dynamic delay follows the pauses inside the user's turns as TCP follows round trips: a smoothed mean, and two of its
mean deviations above. A turn without a pause lets it shrink again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["EndpointRules", "Endpointer"]


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """Seconds. ``judged_by``: what the turn detector works on, empty without one; ``likely``: its threshold."""

    min_delay: float = 0.5
    max_delay: float = 3.0
    dynamic: bool = False
    judged_by: Literal["", "text", "audio"] = ""
    likely: float = 0.5


class Endpointer:
    """A part of ``TurnTaker``: told of pauses, asked for the delay."""

    def __init__(self, rules: EndpointRules) -> None:
        self._rules = rules
        self._mean = 0.0
        self._deviation = 0.0
        self._learned = False

    def delay(self, probability: float | None) -> float:
        """``probability``: that the user has finished, as far as it was judged."""
        rules = self._rules
        if rules.judged_by and (probability is None or probability < rules.likely):
            return max(rules.min_delay, rules.max_delay)
        if not rules.dynamic:
            return rules.min_delay
        return min(max(self._mean + 2 * self._deviation, rules.min_delay), max(rules.min_delay, rules.max_delay))

    def paused(self, gap: float) -> None:
        """The user was silent for ``gap`` seconds and then went on: such a silence ends no turn."""
        if gap <= 0 or gap > self._rules.max_delay:
            return
        if not self._learned:
            self._learned, self._mean, self._deviation = True, gap, gap / 2
            return
        self._follow(gap)

    def fluent(self) -> None:
        """A turn came without a pause."""
        self._follow(0.0)

    def _follow(self, gap: float) -> None:
        self._deviation += (abs(gap - self._mean) - self._deviation) / 4
        self._mean += (gap - self._mean) / 8
