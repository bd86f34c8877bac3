"""A turn detector in whose place others judge when it fails or takes too long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from greenroom.errors import ProviderError
from greenroom.providers.plugin import PluginError
from greenroom.providers.resilience.chain import Candidate, Chain, Resilient
from greenroom.providers.resilience.rules import GaveUp, fault_of
from greenroom.providers.trials import try_turn
from greenroom.providers.turn import Heard, TurnDetector

__all__ = ["ResilientTurnDetector"]


class ResilientTurnDetector(Resilient[TurnDetector], TurnDetector):
    """Each is asked once: the user waits meanwhile. What another one finds likely from its own threshold on is likely
    from the first one's on.
    """

    def __init__(self, candidates: Sequence[Candidate[TurnDetector]]) -> None:
        self.chain = Chain("turn", candidates, attempt=try_turn)
        first = self.chain.first
        self.modality, self.threshold = first.modality, first.threshold
        self.sample_rate, self.seconds = first.sample_rate, first.seconds
        for candidate in candidates:
            other = candidate.provider
            if other.modality == "audio" and (other.modality, other.sample_rate) != (self.modality, self.sample_rate):
                raise PluginError(
                    f"`{candidate.name}` judges by sound at {other.sample_rate} Hz; "
                    "expected a detector that judges by words, or by the same sound as the first",
                    path=("plugin",),
                )

    async def probability(self, heard: Heard) -> float:
        chain, order = self.chain, self.chain.order()
        for place, number in enumerate(order):
            candidate = chain.candidates[number]
            detector, seconds = candidate.provider, candidate.rules.timeout
            try:
                async with asyncio.timeout(seconds):
                    judged = replace(heard, audio=heard.audio if detector.modality == "audio" else None)
                    probability = await detector.probability(judged)
            except ProviderError as caught:
                error, late = caught, False
            except TimeoutError:
                error = ProviderError(f"no judgement within {seconds:g} s", provider=candidate.name, retryable=True)
                late = True
            else:
                chain.answered(number)
                return self._as_first(probability, detector)
            to = order[place + 1] if place + 1 < len(order) else None
            incident = chain.pass_on(number, "timeout" if late else fault_of(error), error, to=to)
        raise GaveUp(incident)

    def _as_first(self, probability: float, detector: TurnDetector) -> float:
        own, whole = detector.threshold, self.threshold
        if own == whole or not 0 < own < 1:
            return probability
        if probability < own:
            return probability / own * whole
        return whole + (probability - own) / (1 - own) * (1 - whole)
