"""How much the sound itself says for or against a block of one sound being the same moment as a place of another. Pure.

Two things are compared: what is new in the two from sample to sample, which is alike where they are one moment and
hardly anywhere else; and how loud they are. What a likeness says was counted: in 445 beginnings of live audio, as
LiveKit's client hands them out, blocks at their true place against the same blocks within 0.2 s of it, but more than
3 ms away, in recordings of people in five languages and one made voice. At their true place half of the first blocks
are alike by .8, later ones by .9; elsewhere one in 600 is by .5, one in 3000 by .7, one in 50,000 by .9. Of the
correlation of what is heard, as it is, the best elsewhere is as high as the true one of every fifth first block.

Evidence is in nats: the logarithm of how many times likelier something is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from greenroom.room.preconnect.whitening import whitened

__all__ = ["BLOCK", "HOP", "Evidence", "weigh"]

BLOCK: Final = 0.02
HOP: Final = 0.01
"""Length of a block, and from one to the next. Seconds."""
FADING: Final = 0.06
"""For so long the live audio may be quieter and unlike what it will be: its decoder has just begun. Seconds."""
ALIKE_FIRST: Final = (-3.0, 13.0)
ALIKE: Final = (-12.0, 24.0)
"""What a likeness of c says, in that time and after: the first, and the second times c."""
HEARD: Final = (-5.0, 9.0, -2.0)
"""What it says of the sound as it is heard: the first, and the second times c, and the third times log(1 - c^2)."""
HIGHEST: Final = 0.99
"""No such correlation says more than this: the codecs' noise is not better."""
WORST: Final = -6.0
"""The least that one block can say: now and then the jitter buffer puts in what nobody said."""
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
"""Root mean square, int16, and in parts of the loudest block of ours: below it a block says nothing."""
SHARED: Final = 0.25
SHARED_HEARD: Final = 0.375
"""Blocks that lie half on each other, of sounds that last, do not say as much each: of what is new, and as heard."""
EDGE: Final = 2.0
"""By so much more says what is new in one that has none before it, or none behind: one alone says all of it."""

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
        return max(float(self.ours.max()), 1.0)


def weigh(ours: Sequence[Wide], theirs: Wide, begins: NDArray[np.int64], sample_rate: int) -> Evidence:
    """Blocks begin at ``begins`` in ours, the last first. The first of ``ours`` is at its times; others are the same
    sound a part of a sample earlier: what is new in a sound is so short that a sample is coarse."""
    block, hop, first = (round(seconds * sample_rate) for seconds in (BLOCK, HOP, FADING))
    mine, yours = _loudness(ours[0], block)[begins], _loudness(theirs, block)
    quiet = max(QUIET[0], QUIET[1] * float(mine.max()))
    new = [_blocks(whitened(each, sample_rate), begins, block) for each in ours]
    worth = _likeness(np.stack(new), whitened(theirs, sample_rate), block)
    heard = _likeness(_blocks(ours[0], begins, block)[None], theirs, block)
    row, place = np.nonzero(np.maximum(worth, heard) > COMPARED)
    louder = 20 * np.log10(np.maximum(yours, quiet)[place] / np.maximum(mine, quiet)[row])
    levels = _levels(louder, fading=place < first)
    _say(worth[:, :first], *ALIKE_FIRST)
    _say(worth[:, first:], *ALIKE)
    worth[row, place] += levels
    worth *= np.float32(SHARED)
    worth[0] *= np.float32(EDGE)
    worth[:, :hop] *= np.float32(EDGE)
    alike = np.minimum(heard[row, place], HIGHEST)
    as_heard = HEARD[0] + HEARD[1] * alike + HEARD[2] * np.log1p(-np.square(alike)) + levels
    worth[row, place] = np.maximum(worth[row, place], np.maximum(as_heard, WORST) * SHARED_HEARD)
    worth *= np.maximum(_audible(mine, quiet)[:, None], _audible(yours, quiet)[None, :])
    return Evidence(worth, mine, yours)


def _say(likeness: Slim, least: float, more: float) -> None:
    """Make evidence of it, in its place."""
    likeness *= np.float32(more)
    likeness += np.float32(least)
    np.maximum(likeness, np.float32(WORST), out=likeness)


def _blocks(sound: Wide, begins: NDArray[np.int64], block: int) -> Wide:
    return np.asarray(sliding_window_view(sound, block)[begins])


def _likeness(blocks: Wide, theirs: Wide, block: int) -> Slim:
    """The correlation of each block and each place. ``blocks``: one or more of each; the best of them counts."""
    ours = blocks / np.sqrt(np.maximum(np.sum(np.square(blocks), axis=2, keepdims=True), 1.0))
    places = np.ascontiguousarray(sliding_window_view(theirs.astype(np.float32), block).T)
    places /= np.sqrt(np.float32(block)) * np.maximum(_loudness(theirs, block), np.float32(0.01))
    products = ours.reshape(-1, block).astype(np.float32) @ places
    return np.asarray(products.reshape(*ours.shape[:2], -1).max(axis=0), dtype=np.float32)


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
