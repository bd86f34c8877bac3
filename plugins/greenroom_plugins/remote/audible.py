"""Tells a voice that begins with a moment of silence from one that makes no sound at all."""

from __future__ import annotations

import numpy as np

from greenroom.audio import Pcm

__all__ = ["Beginning"]

_SOUND = 16  # int16; what is always below it nobody hears
_NOTHING: Pcm = np.zeros(0, dtype=np.int16)


class Beginning:
    """Holds back the silence that a voice begins with until there is a sound, and then lets all of it through.

    Nothing is heard later for it: what is held back is silence. A voice that never makes a sound has then handed on
    nothing, and can be tried again, or replaced, as if it had said so. ``seconds``: held back so far.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._held: list[Pcm] = []
        self.sounded = False

    @property
    def seconds(self) -> float:
        return sum(len(pcm) for pcm in self._held) / self._sample_rate

    def push(self, pcm: Pcm) -> Pcm:
        if self.sounded:
            return pcm
        self._held.append(pcm)
        if len(pcm) == 0 or int(np.abs(pcm.astype(np.int32)).max()) < _SOUND:
            return _NOTHING
        self.sounded = True
        held, self._held = self._held, []
        return np.concatenate(held)
