"""What of a sound is new from moment to moment: what the last samples did not foretell. Pure.

Two moments of a voice can be alike for no other reason than that both are its vowel: formants and pitch make most of
what is heard, and most of a correlation. Without the formants there remains what is of that moment alone. It is also
what a decoder hands over first: Opus that is begun in the middle of a stream lacks the pitch of before for some 60 ms,
and what is heard then is quieter and another wave, but of the same excitation.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["whitened"]

ORDER: Final = 8
"""How many samples foretell the next: two for each formant below 4 kHz."""
WINDOW: Final = 0.03
HOP: Final = 0.01
"""From so much sound is learnt how; and for so much of it. Seconds."""
FAINT: Final = 0.0005
SILENT: Final = 10.0
"""What is fainter than this part of the power, or than this root mean square, int16, is taken for noise."""

Wide = NDArray[np.float64]


def whitened(sound: Wide, sample_rate: int) -> Wide:
    """Sample by sample, by how much it differs from what was foretold: as long as ``sound``, at the same times."""
    hop, window = round(HOP * sample_rate), round(WINDOW * sample_rate)
    count = -(-len(sound) // hop)
    if not count:
        return sound.copy()
    padded = np.concatenate((np.zeros((window - hop) // 2), sound, np.zeros(window + hop)))
    predictors = _predictors(sliding_window_view(padded, window)[::hop][:count] * np.hanning(window))
    padded = np.concatenate((np.zeros(ORDER), sound, np.zeros(hop)))
    stretches = sliding_window_view(padded, hop + ORDER)[::hop][:count]
    new = np.zeros((count, hop))
    for back in range(ORDER + 1):
        new += predictors[:, back, None] * stretches[:, ORDER - back : ORDER - back + hop]
    return new.reshape(-1)[: len(sound)]


def _predictors(stretches: Wide) -> Wide:
    """Of each stretch the filter whose output is new, by the recursion of Levinson and Durbin."""
    count, length = stretches.shape
    size = 1 << (length + ORDER).bit_length()
    alike = np.fft.irfft(np.square(np.abs(np.fft.rfft(stretches, size))), size)[:, : ORDER + 1]
    error = alike[:, 0] * (1 + FAINT) + length * SILENT**2
    filters = np.zeros((count, ORDER + 1))
    filters[:, 0] = 1.0
    for order in range(1, ORDER + 1):
        reflection = -np.einsum("ij,ij->i", filters[:, :order], alike[:, order:0:-1]) / error
        filters[:, 1 : order + 1] += reflection[:, None] * filters[:, :order][:, ::-1]
        error *= 1 - np.square(reflection)
    return filters
