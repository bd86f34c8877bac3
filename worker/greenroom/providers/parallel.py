"""What a model may offer beyond its kind's own class when it serves many calls at once, in the model host.

Both are optional: a model without them is asked for one thing at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from greenroom.audio import AudioFrame
from greenroom.providers.stt import Transcript

__all__ = ["BatchRecognizer", "Parallel"]


@runtime_checkable
class Parallel(Protocol):
    """A model that can work on several requests at once with one set of weights."""

    def share(self, requests: int) -> int:
        """Called once, before ``load``: up to so many requests may come at once. How many it will work on together; it
        is not asked for more."""
        ...


@runtime_checkable
class BatchRecognizer(Protocol):
    """A ``BatchSTT`` that transcribes several utterances in one go sooner than one after another."""

    @property
    def batch(self) -> int:
        """So many at most; 1: it does not pay."""
        ...

    async def recognize_batch(self, audio: Sequence[AudioFrame]) -> Sequence[Transcript]:
        """A transcript of each, in their order. As ``BatchSTT.recognize``, which it is preferred to."""
        ...
