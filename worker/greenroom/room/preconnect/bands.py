"""What of a sound is compared with another. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from greenroom.audio import Pcm

__all__ = ["TAPS", "Banded", "banded"]

WIDE: Final = (250.0, 7000.0)
HEARD: Final = (250.0, 3800.0)
"""Hz: where a voice has what is new in it, and where voices differ from each other and from hum."""
TAPS: Final = 0.008
"""Length of the filters for them. Seconds."""

Wide = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Banded:
    """A sound twice, at the same times. ``wide``: with all that is new in a voice; ``heard``: what of it lies where
    voices differ most."""

    wide: Wide
    heard: Wide

    def every(self, step: int) -> Banded:
        """One of so many samples."""
        return Banded(self.wide[::step], self.heard[::step])


def banded(pcm: Pcm, sample_rate: int, *, lead: int = 0) -> Banded:
    """Without the first ``lead`` samples: a filter that begins in the middle of a sound makes a click of that."""
    return Banded(_filtered(pcm, WIDE, sample_rate)[lead:], _filtered(pcm, HEARD, sample_rate)[lead:])


def _filtered(pcm: Pcm, band: tuple[float, float], sample_rate: int) -> Wide:
    """What of it lies in the band, at the same times."""
    kernel = _kernel(band, sample_rate)
    if not len(pcm):
        return np.zeros(0)
    return np.convolve(pcm.astype(np.float64), kernel, mode="full")[len(kernel) // 2 :][: len(pcm)]


@lru_cache(maxsize=8)
def _kernel(band: tuple[float, float], sample_rate: int) -> Wide:
    """A windowed sinc for each edge, odd in length, so that it delays by whole samples."""
    half = round(TAPS * sample_rate / 2)
    at = np.arange(-half, half + 1) / sample_rate
    low, high = band[0], min(band[1], 0.45 * sample_rate)
    passed = 2 * high * np.sinc(2 * high * at) - 2 * low * np.sinc(2 * low * at)
    return np.asarray(passed * np.hamming(len(at)) / sample_rate)
