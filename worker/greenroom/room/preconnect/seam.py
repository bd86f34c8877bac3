"""Where a recording and the live audio of the same microphone meet. Pure: two arrays in, a place in each out.

The recorder stops when it learns that somebody listens, which is a little before or after the live audio begins. So
the end of the one is mostly also the beginning of the other. How much of it is found by comparing the sound itself,
since no clock tells exactly: both ends are encoded and delayed differently. The cut is made where the two are surely
the same, as near to the recording's end as that is so.

Where nothing is found, nothing is cut: a word that is heard twice for a moment is better than one that is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from greenroom.audio import Pcm
from greenroom.room.preconnect.alignment import Place, align
from greenroom.room.preconnect.bands import TAPS, banded
from greenroom.room.preconnect.evidence import BLOCK, HOP

__all__ = ["SEARCHED", "Seam", "find_seam"]

SEARCHED: Final = 1.0
"""How much of the live audio's beginning is searched. Seconds."""
RATE: Final = 16000
"""Hz, at about which is searched."""
LATER: Final = 0.25
"""By so much longer than the clocks say an overlap is at most. Seconds."""
SURE: Final = 2.0
CERTAIN: Final = 5.0
"""Certainty from which a place is believed, and from which more of it makes no place a better one. Nats."""
AS_SURE: Final = 1.0
"""Places whose certainty is less than that below the best one's are as good for the cut."""
EXACT: Final = 0.95
NEARLY: Final = 0.02
"""So are those with such a likeness, or with one that is so little below the best."""
QUIETEST: Final = 0.005
"""Length of the moment in a block whose quietest is looked for. Seconds."""
TELLING: Final = ((0.97, 1.12), (0.9, 1.41))
"""Blocks of such a likeness tell how loud the two are, and the smallest gain that is worth a change then. At low bit
rates a codec makes what it changes up to 2 dB quieter."""
SETTLED: Final = (0.15, 0.1)
"""From then on the live audio is as loud as it will be; and so much of it tells how loud that is. Seconds."""
FADED_IN: Final = (0.06, 0.05)
"""Before, it is believed from then on, if so much of it is there. Seconds."""
AGREED: Final = 1.12
"""Half of what tells lies within this factor, or it tells nothing."""
LARGEST_GAIN: Final = 4.0

Wide = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seam:
    """Sample ``recorded`` of the recording and sample ``live`` of the live audio are the same moment.

    ``score``: how well they agree there, 0 to 1. ``gain``: what the recording is multiplied by to be as loud.
    """

    recorded: int
    live: int
    score: float
    gain: float


def find_seam(recorded: Pcm, live: Pcm, sample_rate: int, *, expected: float | None = None) -> Seam | None:
    """Where the end of ``recorded`` is in ``live``; ``None`` when it is not found there.

    ``live`` begins with its first real sample. Of both only as much is looked at as is needed. ``expected``: the
    overlap in seconds, as clocks have it.
    """
    longest = SEARCHED if expected is None else min(SEARCHED, max(0.0, expected + LATER))
    most = round(longest * sample_rate)
    offset = max(0, len(recorded) - most)
    step = max(1, sample_rate // RATE)
    lead = min(offset, round(TAPS * sample_rate))
    ours = banded(recorded[offset - lead :], sample_rate, lead=lead)
    theirs = banded(live[:most], sample_rate)
    places = align(ours.every(step), theirs.every(step), sample_rate // step, expected=expected)
    place = _chosen(places)
    if place is None:
        return None
    mine, yours = _exactly(ours.heard, theirs.heard, place, step, sample_rate)
    return Seam(offset + mine, yours, place.likeness, _gain(places, sample_rate // step))


def _chosen(places: Sequence[Place]) -> Place | None:
    """The place to cut in: the last that is as sure as any, and as alike, in a stretch that was not moved."""
    top = max((place.certainty for place in places), default=-np.inf)
    if top < SURE:
        return None
    sure = [place for place in places if place.certainty >= min(top, CERTAIN) - AS_SURE]
    alike = min(EXACT, max(place.likeness for place in sure) - NEARLY)
    for fits in (lambda place: place.steady and place.likeness >= alike, lambda place: place.steady, lambda _: True):
        if fitting := [place for place in sure if fits(place)]:
            return fitting[0]
    return None


def _exactly(ours: Wide, theirs: Wide, place: Place, step: int, sample_rate: int) -> tuple[int, int]:
    """The quietest moment of a block, to the sample: where it is in ours and in theirs."""
    block, window = round(BLOCK * sample_rate), round(QUIETEST * sample_rate)
    mine, yours = place.ours * step, place.theirs * step
    pattern = ours[mine : mine + block]
    around = range(max(0, yours - step), min(yours + step, len(theirs) - len(pattern)) + 1)
    yours = max(around, key=lambda at: _alike(pattern, theirs[at : at + len(pattern)]), default=yours)
    at = int(np.argmin(np.convolve(np.square(pattern), np.ones(window), mode="valid"))) + window // 2
    return mine + at, yours + at


def _alike(one: Wide, other: Wide) -> float:
    return float(np.dot(one, other) / np.sqrt(max(1.0, float(np.dot(other, other)))))


def _gain(places: Sequence[Place], sample_rate: int) -> float:
    """How much louder the live audio is; 1 where that is not known, or not worth a change."""
    for likeness, smallest in TELLING:
        for since, enough in (SETTLED, FADED_IN):
            ratios = [
                place.ratio for place in places if place.likeness >= likeness and place.theirs >= since * sample_rate
            ]
            if len(ratios) * HOP < enough:
                continue
            low, gain, high = np.percentile(ratios, (25, 50, 75))
            if high > AGREED * low:
                return 1.0
            if 1 / smallest < gain < smallest:
                return 1.0
            return float(min(max(gain, 1 / LARGEST_GAIN), LARGEST_GAIN))
    return 1.0
