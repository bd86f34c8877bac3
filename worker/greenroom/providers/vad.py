"""Voice activity: how likely it is that a short window holds speech.

A provider only measures. When speech has started and stopped is decided by ``session.hearing``, from the windows'
probabilities and their position in the audio, so every provider has the same meaning.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from greenroom.audio import Pcm
from greenroom.providers.provider import Provider

__all__ = ["VAD", "VADStream"]


class VADStream(ABC):
    """One participant's audio. Holds the model's state between windows."""

    @abstractmethod
    def probability(self, window: Pcm) -> float:
        """The likelihood, 0..1, that this window holds speech.

        ``window``: exactly ``VAD.window`` mono int16 samples at ``VAD.sample_rate``, following the one before.
        Runs on the event loop: it must take well under a millisecond.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forget what came before: the next window begins an unrelated stretch of audio."""


class VAD(Provider):
    """A voice activity model, loaded once in a process."""

    sample_rate: int = 16000
    """Hz."""
    window: int = 512
    """Samples in a window."""

    @abstractmethod
    def stream(self) -> VADStream:
        """A fresh stream for one participant."""
