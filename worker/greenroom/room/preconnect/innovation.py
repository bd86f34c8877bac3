"""How alike two sounds are in what nobody could have foretold of them. Pure.

Two moments of a voice can be alike for no other reason than that both are its vowel: formants and pitch make most of
what is heard, and most of a correlation. Without what the last samples foretell, and without what the last period
foretells, there remains what is of that moment alone, the innovation. It is also what a decoder is sent. A decoder that
begins in the middle of a stream has no past to foretell from, so what is heard of its first 60 ms is another wave, and
quieter; but that was made from the same innovation, by the same filters, from nothing. So the filters are learnt from
ours, which has a past, and take out of both what they foretell.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["innovations_alike"]

ORDER: Final = 16
"""How many samples foretell the next: two for each formant below 8 kHz."""
MARGIN: Final = 0.005
"""The filter of a block is learnt from so much before and behind it too. Seconds."""
FAINT: Final = 0.0005
SILENT: Final = 10.0
"""What is fainter than this part of the power, or than this root mean square, int16, is taken for noise."""
ROUNDING: Final = 1.0
"""What is in each sample for no other reason than that it was rounded. Root mean square, int16."""
PERIODS: Final = (0.002, 0.0187)
"""Of voices: the shortest and the longest. Seconds."""
AROUND: Final = 1
"""So many samples on either side of the period foretell too."""
RIDGE: Final = 0.01
"""By so much of its power a period is held for noise: a short block is not foretold by chance."""
FINER: Final = 2
"""Half a sample is told from a whole one: what is new in a sound is that short."""
ROWS: Final = 16
"""Blocks that are compared at once: more take no less time, and more memory."""

Wide = NDArray[np.float64]
Slim = NDArray[np.float32]


def innovations_alike(ours: Wide, begins: NDArray[np.int64], theirs: Wide, block: int, sample_rate: int) -> Slim:
    """The correlation of each block of ours (rows: the places where they begin) and each place of theirs, -1 to 1."""
    places = len(theirs) - block + 1
    size = 1 << (len(theirs) + _history(sample_rate) + ORDER).bit_length()
    spectrum = np.fft.rfft(theirs.astype(np.float32), size)
    alike = np.empty((len(begins), places), dtype=np.float32)
    for start in range(0, len(begins), ROWS):
        rows = slice(start, start + ROWS)
        filters, patterns = _foretold(ours, begins[rows], block, sample_rate)
        new = spectrum * np.fft.rfft(filters.astype(np.float32), size)
        rounding = block * ROUNDING**2 * np.sum(np.square(filters), axis=1, keepdims=True)
        energy = _energy(np.fft.irfft(new, size)[:, : len(theirs)], block) + rounding
        own = np.sum(np.square(patterns), axis=1, keepdims=True) + rounding
        new *= np.conj(np.fft.rfft(patterns.astype(np.float32), size))
        products = FINER * np.fft.irfft(new, FINER * size)[:, : FINER * places]
        best = np.maximum(products[:, ::FINER], products[:, 1::FINER])
        alike[rows] = best / np.sqrt(energy * own)
    return alike


def _history(sample_rate: int) -> int:
    return round(PERIODS[1] * sample_rate) + AROUND


def _energy(sound: NDArray[np.floating], length: int) -> Wide:
    """Of each stretch of ``length`` samples of each row."""
    summed = np.zeros((len(sound), sound.shape[1] + 1))
    np.cumsum(np.square(sound), axis=1, dtype=np.float64, out=summed[:, 1:])
    return np.asarray(np.maximum(summed[:, length:] - summed[:, :-length], 0.0))


def _foretold(ours: Wide, begins: NDArray[np.int64], block: int, sample_rate: int) -> tuple[Wide, Wide]:
    """For each block the filter that leaves what is new, and what it leaves of the block."""
    margin, history = round(MARGIN * sample_rate), _history(sample_rate)
    before = ORDER + history
    padded = np.concatenate((np.zeros(before + margin), ours, np.zeros(margin)))
    formants = _predictors(
        sliding_window_view(padded, block + 2 * margin)[begins + before] * np.hanning(block + 2 * margin)
    )
    past = sliding_window_view(padded, before + block)[begins + margin]
    left = np.zeros((len(begins), history + block))
    for back in range(ORDER + 1):
        left += formants[:, back, None] * past[:, ORDER - back : ORDER - back + history + block]
    taps, periods = _pitches(left, block, history, round(PERIODS[0] * sample_rate))
    pitches = np.zeros((len(begins), history + 1 + AROUND))
    pitches[:, 0] = 1.0
    pitches[np.arange(len(begins))[:, None], periods[:, None] + np.arange(AROUND, -AROUND - 1, -1)] -= taps
    filters = _convolved(pitches, formants)
    return filters, _convolved(pitches, left)[:, history : history + block]


def _pitches(left: Wide, block: int, history: int, shortest: int) -> tuple[Wide, NDArray[np.int64]]:
    """Of each block, the last in ``left``: from how long before it is foretold best, and what each sample around that
    says, the earliest first."""
    rows, own = np.arange(len(left))[:, None], left[:, history:]
    size = 1 << left.shape[1].bit_length()
    products = np.fft.irfft(np.fft.rfft(left, size) * np.conj(np.fft.rfft(own, size)), size)
    asked = slice(AROUND, history - shortest + 1)
    worth = np.square(np.maximum(products[:, asked], 0.0)) / (_energy(left, block)[:, asked] + 1.0)
    first = np.argmax(worth, axis=1)  # of the samples that foretell, one before that of the period
    around = first[:, None] + np.arange(2 * AROUND + 1)
    before = sliding_window_view(left, block, axis=1)[rows, around]
    square = np.einsum("rib,rjb->rij", before, before)
    ridge = RIDGE * np.trace(square, axis1=1, axis2=2) / before.shape[1] + 1.0
    square += ridge[:, None, None] * np.eye(before.shape[1])
    taps = np.linalg.solve(square, products[rows, around][:, :, None])[:, :, 0]
    return taps, history - AROUND - first


def _convolved(one: Wide, other: Wide) -> Wide:
    """Row by row, whole."""
    length = one.shape[1] + other.shape[1] - 1
    size = 1 << length.bit_length()
    return np.fft.irfft(np.fft.rfft(one, size) * np.fft.rfft(other, size), size)[:, :length]


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
