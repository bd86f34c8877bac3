"""Which moment of a recording is which of the live audio, though a jitter buffer has stretched the live audio. Pure.

*Ours* is the end of a recording, *theirs* the beginning of the live audio. Where they overlap, theirs begins somewhere
in ours, and ours ends somewhere in theirs.

Ours is cut into blocks. A block at a place of theirs is evidence for or against their being one moment: how alike the
two are, and whether they are equally loud (``evidence``). The overlap is a path of blocks from the beginning of theirs
to the end of ours; from one to the next the place goes on, or is moved, at a price, as the jitter buffer moves it. The
best path through each block and place is found by going over all blocks once forwards and once backwards. What it is
worth against all paths that put the block elsewhere, and against there being no overlap at all, is the certainty of
that block. So an overlap of 30 ms is found where it is very much alike and where the clocks expect it, and one of
300 ms also where they do not.

Evidence is in nats: the logarithm of how many times likelier something is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from greenroom.room.preconnect.bands import Banded
from greenroom.room.preconnect.evidence import BLOCK, HOP, telling, weigh

__all__ = ["Place", "align"]

WARP: Final = 0.015
"""By so much the jitter buffer may move a block against the one before: a pitch period. Seconds."""
MOVED: Final = 3.0
"""The price of that. Nats."""
EARLY: Final = 0.025
CLOCKS: Final = 0.025
"""By so much shorter than the clocks say an overlap mostly is, as the recording takes longer to arrive; and how much
that varies. Seconds. In 21 calls from a browser it was 10 to 46 ms, and once 89."""
ASTRAY: Final = 0.12
"""How often it is anywhere within a second."""
STEP: Final = 0.0003
"""Places nearer than that are one. Seconds."""
NEAR: Final = 0.003
"""Places further away than that are others. Seconds."""
REPEATING: Final = (0.05, 0.7, 0.06)
"""A path is one of a sound that goes on as it is, a tone, if it is worth this part of itself when all of it is moved by
the same, up to so many seconds. The longest is worth most then, and nothing tells which is the true one. Only paths
from so many seconds on are asked.
"""
AUDIBLE: Final = 0.02
"""Of a block of which certainty is asked: its loudness, in parts of the loudest."""

Wide = NDArray[np.float64]
Slim = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Place:
    """A block: where it begins in ours and in theirs, in samples.

    ``likeness``: correlation, 0 to 1. ``certainty``: nats, against its being elsewhere or nowhere. ``steady``: the
    blocks beside it were not moved against it. ``ratio``: how much louder theirs is.
    """

    ours: int
    theirs: int
    likeness: float
    certainty: float
    steady: bool
    ratio: float


def align(ours: Banded, theirs: Banded, sample_rate: int, *, expected: float | None) -> list[Place]:
    """The audible blocks of the overlap that is likeliest, the last first; none where nothing is alike.

    ``expected``: the overlap in seconds, as clocks have it.
    """
    sound = ours.heard
    block, hop, near = (round(seconds * sample_rate) for seconds in (BLOCK, HOP, NEAR))
    longest = min(len(sound), len(theirs.heard))
    if longest < block:
        return []
    begins = len(sound) - block - hop * np.arange((longest - block) // hop + 1)
    whole, begins = len(begins), begins[: telling(ours, begins, sample_rate)]
    evidence = weigh(ours, Banded(theirs.wide[:longest], theirs.heard[:longest]), begins, sample_rate)
    price = _Steps(hop, round(WARP * sample_rate))
    until = _forwards(evidence.worth, price, free=len(begins) < whole)
    since = _prior(evidence.worth.shape[1], block, sample_rate, expected)
    found: list[Place] = []
    places: list[int] = []
    for index, begin in enumerate(begins.tolist()):
        through = until[index] + since
        place = int(np.argmax(through))
        if not np.isfinite(through[place]):
            break
        places.append(place)
        if evidence.worth[index, place] > 0 and evidence.ours[index] >= AUDIBLE * evidence.loudest:
            likeness = _likeness(sound[begin : begin + block], theirs.heard, place)
            ratio = float(evidence.theirs[place] / evidence.ours[index])
            found.append(Place(begin, place, likeness, _certainty(through, place, near), True, ratio))
        since = price.back(since + evidence.worth[index])
    if len(places) * HOP >= REPEATING[2] and _repeats(evidence.worth, places, round(REPEATING[0] * sample_rate), near):
        return []
    lags = {begin: place - begin for begin, place in zip(begins.tolist(), places, strict=False)}
    return [_judged(each, lags, hop, sample_rate) for each in found]


def _likeness(block: Wide, theirs: Wide, place: int) -> float:
    """The correlation of a block and of what is within a sample of its place, as both are heard."""
    there = [
        theirs[at : at + len(block)] for at in range(max(0, place - 1), place + 2) if at + len(block) <= len(theirs)
    ]
    return max(
        float(np.dot(block, each) / np.sqrt(max(1.0, np.dot(block, block) * np.dot(each, each)))) for each in there
    )


def _repeats(evidence: Slim, path: Sequence[int], reach: int, near: int) -> bool:
    """Whether blocks fit as well with all of them moved by the same. Only what is there of both is compared."""
    blocks, places = np.arange(len(path))[:, None], np.array(path)[:, None]
    moved = places + np.concatenate((np.arange(-reach, 1 - near), np.arange(near, reach + 1)))
    there = (moved >= 0) & (moved < evidence.shape[1])
    worth = np.sum(evidence[blocks, np.where(there, moved, 0)], axis=0, where=there)
    own = np.sum(np.broadcast_to(evidence[blocks, places], there.shape), axis=0, where=there)
    compared = (there.sum(axis=0) >= 0.5 * len(path)) & (own > 0)
    return bool(np.any(worth[compared] >= REPEATING[1] * own[compared]))


def _judged(place: Place, lags: dict[int, int], hop: int, sample_rate: int) -> Place:
    """Whether its neighbours lie as it does."""
    lag = place.theirs - place.ours
    steady = all(abs(lags.get(place.ours + step, lag) - lag) <= STEP * sample_rate for step in (-hop, hop))
    return Place(place.ours, place.theirs, place.likeness, place.certainty, steady, place.ratio)


@dataclass(frozen=True, slots=True)
class _Steps:
    """From one block's places to the next one's: ``hop`` further, or moved by up to ``warp``."""

    hop: int
    warp: int

    def on(self, worth: Slim) -> Slim:
        return self._moved(np.concatenate((_nothing(self.hop), worth))[: len(worth)])

    def back(self, worth: Slim) -> Slim:
        return self._moved(np.concatenate((worth, _nothing(self.hop)))[-len(worth) :])

    def _moved(self, worth: Slim) -> Slim:
        return np.asarray(np.maximum(worth, _widest(worth, self.warp) - np.float32(MOVED)))


def _forwards(evidence: Slim, steps: _Steps, *, free: bool) -> Slim:
    """The worth of the best path from the beginning of theirs up to and with each block and place; ``free``: or from
    anywhere, as there are blocks before that are not asked."""
    worth = np.empty_like(evidence)
    last = np.zeros(evidence.shape[1], dtype=np.float32) if free else _nothing(evidence.shape[1])
    for index in range(len(evidence) - 1, -1, -1):
        last = steps.on(last)
        np.maximum(last[: steps.hop], 0.0, out=last[: steps.hop])  # this block is the first that theirs has
        last += evidence[index]
        worth[index] = last
    return worth


def _prior(places: int, block: int, sample_rate: int, expected: float | None) -> Slim:
    """What the clocks say of each place of the last block."""
    if expected is None:
        return np.full(places, np.log(ASTRAY * STEP), dtype=np.float32)
    overlaps = (np.arange(places) + block) / sample_rate
    off = (overlaps - expected + EARLY) / CLOCKS
    density = (1 - ASTRAY) * np.exp(-0.5 * np.square(off)) / (CLOCKS * np.sqrt(2 * np.pi)) + ASTRAY
    return np.asarray(np.log(density * STEP), dtype=np.float32)


def _certainty(through: Slim, place: int, near: int) -> float:
    """The worth of a place against all that are not near it, and against none."""
    best = float(through[place])
    if best <= 0:
        return best
    others = np.exp(np.minimum(through - best, 0.0), dtype=np.float64)
    others[max(0, place - near) : place + near] = 0.0
    return -float(np.log(others.sum() + np.exp(-best)))


def _widest(worth: Slim, reach: int) -> Slim:
    """The largest within ``reach`` on either side, of each."""
    window, size = 2 * reach + 1, 1
    largest = np.concatenate((_nothing(reach), worth, _nothing(reach)))
    while 2 * size <= window:
        largest = np.maximum(largest[:-size], largest[size:])
        size *= 2
    rest = window - size
    return np.maximum(largest[: len(largest) - rest], largest[rest:]) if rest else largest


@lru_cache(maxsize=16)
def _nothing(length: int) -> Slim:
    return np.full(length, -np.inf, dtype=np.float32)
