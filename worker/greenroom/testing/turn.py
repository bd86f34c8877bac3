"""A scripted end-of-turn detector: what it thinks of each pause, and when it says so, is written in the test."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from greenroom.errors import ProviderError
from greenroom.providers import Heard, TurnDetector
from greenroom.testing.providers import ScriptEnded

__all__ = ["Judgement", "ScriptedTurnDetector"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One answer: the probability that the user is done, ``delay`` seconds after the question; or its failure."""

    probability: float = 1.0
    delay: float = 0.02
    failure: Literal["raise", "stall"] | None = None


class ScriptedTurnDetector(TurnDetector):
    """Judges by a script, one entry a question: a probability, a ``Judgement``, or a function of what it is given.

    ``asked`` holds what each question came with; ``cancelled`` counts the questions that were taken back; ``left``
    holds what was not asked for.
    """

    def __init__(
        self,
        script: Sequence[Judgement | float | Callable[[Heard], Judgement | float]] = (),
        *,
        modality: Literal["text", "audio"] = "text",
        threshold: float = 0.5,
    ) -> None:
        self.modality = modality
        self.threshold = threshold
        self.left = deque(script)
        self.length = len(self.left)
        self.asked: list[Heard] = []
        self.cancelled = 0

    async def probability(self, heard: Heard) -> float:
        self.asked.append(heard)
        if not self.left:
            raise ScriptEnded("turn", self.length)
        entry = self.left.popleft()
        entry = entry(heard) if callable(entry) else entry
        judgement = entry if isinstance(entry, Judgement) else Judgement(entry)
        try:
            if judgement.failure == "stall":
                await asyncio.get_running_loop().create_future()
            await asyncio.sleep(judgement.delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if judgement.failure == "raise":
            raise ProviderError("failed as the script says", provider="scripted turn", retryable=True)
        return judgement.probability
