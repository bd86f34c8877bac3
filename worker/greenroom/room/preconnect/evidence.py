"""How much the sound itself says for or against a block of one sound being the same moment as a place of another. Pure.

Three things are compared: the innovations of the two, which are alike where they are one moment and hardly anywhere
else; what is heard of them, where noise has the innovations; and how loud they are. What a likeness of innovations says
was counted in 32 calls of a browser: blocks at their true place against the same blocks within 0.2 s of it, but more
than 3 ms away, two million of these. At their true place 94 % of the blocks of the first 60 ms are alike by more than
.5, half of them by .82, and 99 % of the later ones, half by .86. Elsewhere one in 1500 is by more than .3, one in
37,000 by .5, one in 400,000 by .7. Of the correlation of what is heard, as it is, the best elsewhere is as high as the
true one of every fifth first block.

Evidence is in nats: the logarithm of how many times likelier something is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from greenroom.room.preconnect.bands import Banded
from greenroom.room.preconnect.innovation import innovations_alike

__all__ = ["BLOCK", "HOP", "Evidence", "telling", "weigh"]

BLOCK: Final = 0.02
HOP: Final = 0.01
"""Length of a block, and from one to the next. Seconds."""
FADING: Final = 0.06
"""For so long the live audio may be quieter and unlike what it will be: its decoder has just begun. Seconds."""
ALIKE: Final = (-6.5, 26.5)
"""What a likeness of c says: the first, and the second times c."""
HEARD: Final = (-5.0, 9.0, -2.0)
"""What it says of the sound as it is heard: the first, and the second times c, and the third times log(1 - c^2)."""
HIGHEST: Final = 0.99
"""No such correlation says more than this: the codecs' noise is not better."""
WORST: Final = -6.0
"""The least that one block can say: now and then the jitter buffer puts in what nobody said."""
ENOUGH: Final = 30
"""So many blocks tell where they are; more take time."""
COMPARED: Final = 0.3
"""Levels are compared of what is so much alike."""
SPREAD: Final = 1.5
"""dB, by which the levels of one moment differ."""
EQUAL_FIRST: Final = 0.8
EQUAL: Final = 2.0
UNEQUAL: Final = -3.0
"""What equal levels say, in that time and after, and the least that unequal ones say."""
DEPTH: Final = 12.0
"""The live audio's first moments may be so much quieter. dB."""
QUIET: Final = (12.0, 0.02)
FAINT: Final = (12.0, 0.005)
"""Root mean square, int16, and in parts of the loudest block of ours: below the first a block says nothing against a
place, for it may hold no more than what each side's codec makes; below the second it says nothing at all."""
SHARED: Final = 0.4
SHARED_HEARD: Final = 0.375
"""Blocks that lie half on each other, of sounds that last, do not say as much each: of what is new, and as heard."""
EDGE: Final = 2.0
"""By so much more says what is new in one that has none before it, or none behind; one alone says all of it."""

Wide = NDArray[np.float64]
Slim = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Evidence:
    """``worth``: of each block of ours (rows) at each place of theirs, nats. ``ours``, ``theirs``: how loud the blocks
    and the places are, root mean square."""

    worth: Slim
    ours: Slim
    theirs: Slim

    @property
    def loudest(self) -> float:
        """The loudest of our blocks."""
        return max(float(np.max(self.ours)), 1.0)


def weigh(ours: Banded, theirs: Banded, begins: NDArray[np.int64], sample_rate: int) -> Evidence:
    """Blocks begin at ``begins`` in ours, the last first."""
    block, hop, first = (round(seconds * sample_rate) for seconds in (BLOCK, HOP, FADING))
    mine, yours = _loudness(ours.heard, block)[begins], _loudness(theirs.heard, block)
    quiet, faint = _floor(QUIET, mine), _floor(FAINT, mine)
    worth = np.zeros((len(begins), len(yours)), dtype=np.float32)
    worth[mine >= faint] = innovations_alike(ours.wide, begins[mine >= faint], theirs.wide, block, sample_rate)
    heard = _likeness(_blocks(ours.heard, begins, block), theirs.heard, block)
    row, place = np.nonzero(np.maximum(worth, heard) > COMPARED)
    louder = 20 * np.log10(np.maximum(yours, quiet)[place] / np.maximum(mine, quiet)[row])
    levels = _levels(louder, fading=place < first)
    _say(worth, *ALIKE)
    worth[row, place] += levels
    worth[1:, hop:] *= np.float32(SHARED)
    worth[1:, :hop] *= np.float32(SHARED * EDGE)
    worth[0, hop:] *= np.float32(SHARED * EDGE)
    alike = np.minimum(heard[row, place], HIGHEST)
    as_heard = HEARD[0] + HEARD[1] * alike + HEARD[2] * np.log1p(-np.square(alike)) + levels
    worth[row, place] = np.maximum(worth[row, place], np.maximum(as_heard, WORST) * SHARED_HEARD)
    against, in_favour = (
        np.maximum(_audible(mine, least)[:, None], _audible(yours, least)[None, :]) for least in (quiet, faint)
    )
    worth *= np.where(worth > 0, in_favour, against)
    return Evidence(worth, mine, yours)


def telling(ours: Banded, begins: NDArray[np.int64], sample_rate: int) -> int:
    """How many of the blocks are needed: no more than there are, nor than ``ENOUGH`` that are to be heard."""
    mine = _loudness(ours.heard, round(BLOCK * sample_rate))[begins]
    heard = np.cumsum(mine >= _floor(FAINT, mine))
    return min(len(begins), int(np.searchsorted(heard, ENOUGH)) + 1)


def _floor(floor: tuple[float, float], loudness: Slim) -> float:
    """Root mean square: a floor of its own, or that in parts of the loudest, whichever is more."""
    return max(floor[0], floor[1] * float(np.max(loudness)))


def _say(likeness: Slim, least: float, more: float) -> None:
    """Make evidence of it, in its place."""
    likeness *= np.float32(more)
    likeness += np.float32(least)
    np.maximum(likeness, np.float32(WORST), out=likeness)


def _blocks(sound: Wide, begins: NDArray[np.int64], block: int) -> Wide:
    return np.asarray(sliding_window_view(sound, block)[begins])


def _likeness(blocks: Wide, theirs: Wide, block: int) -> Slim:
    """The correlation of each block and each place."""
    ours = blocks / np.sqrt(np.maximum(np.sum(np.square(blocks), axis=1, keepdims=True), 1.0))
    places = np.ascontiguousarray(sliding_window_view(theirs.astype(np.float32), block).T)
    places /= np.sqrt(np.float32(block)) * np.maximum(_loudness(theirs, block), np.float32(0.01))
    return np.asarray(ours.astype(np.float32) @ places)


def _loudness(sound: Wide, block: int) -> Slim:
    """Root mean square of each stretch of ``block`` samples."""
    energy = np.concatenate(([0.0], np.cumsum(np.square(sound))))
    return np.asarray(np.sqrt(np.maximum(energy[block:] - energy[:-block], 0.0) / block), dtype=np.float32)


def _audible(loudness: Slim, quiet: float) -> Slim:
    """From 0 for what is quiet to 1 for what is three times as loud."""
    return np.asarray(np.clip((loudness / np.float32(quiet) - 1) / 2, 0.0, 1.0), dtype=np.float32)


def _levels(louder: NDArray[np.floating], *, fading: NDArray[np.bool_]) -> Slim:
    """What the levels say. ``louder``: theirs, dB; ``fading``: where it may be quieter than it will be."""
    louder = np.where(fading & (louder < 0), np.minimum(0.0, louder + DEPTH), louder)
    equal = np.where(fading, EQUAL_FIRST, EQUAL)
    return np.asarray(np.maximum(equal - 0.5 * np.square(louder / SPREAD), UNEQUAL), dtype=np.float32)
