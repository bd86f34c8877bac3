"""A voice activity model in whose place others measure when it fails."""

from __future__ import annotations

from collections.abc import Sequence

from greenroom.audio import Pcm
from greenroom.errors import ProviderError
from greenroom.providers.plugin import PluginError
from greenroom.providers.resilience.chain import Candidate, Chain, Resilient
from greenroom.providers.resilience.rules import GaveUp, fault_of
from greenroom.providers.trials import try_vad
from greenroom.providers.vad import VAD, VADStream

__all__ = ["ResilientVAD"]


class ResilientVAD(Resilient[VAD], VAD):
    """All of the same rate and window: who takes the place hears on from the window at which the first one failed."""

    def __init__(self, candidates: Sequence[Candidate[VAD]]) -> None:
        self.chain = Chain("vad", candidates, attempt=try_vad)
        first = self.chain.first
        self.sample_rate, self.window = first.sample_rate, first.window
        for candidate in candidates:
            other = candidate.provider
            if (other.sample_rate, other.window) != (self.sample_rate, self.window):
                raise PluginError(
                    f"`{candidate.name}` takes {other.window} samples at {other.sample_rate} Hz; "
                    f"expected {self.window} at {self.sample_rate} Hz, as the first does",
                    path=("plugin",),
                )

    def stream(self) -> VADStream:
        return _Stream(self.chain)


class _Stream(VADStream):
    def __init__(self, chain: Chain[VAD]) -> None:
        self._chain = chain
        self._order = list(chain.order())
        self._stream = chain.provider(self._order[0]).stream()

    def probability(self, window: Pcm) -> float:
        while True:
            number = self._order[0]
            try:
                return self._stream.probability(window)
            except ProviderError as error:
                to = self._order[1] if len(self._order) > 1 else None
                incident = self._chain.pass_on(number, fault_of(error), error, to=to)
                if to is None:
                    raise GaveUp(incident) from error
                self._order.pop(0)
                self._stream = self._chain.provider(to).stream()

    def reset(self) -> None:
        """An unrelated stretch: the order may be another by now."""
        self._order = list(self._chain.order())
        self._stream = self._chain.provider(self._order[0]).stream()
