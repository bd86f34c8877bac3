"""A recording and the live audio as one stretch of audio: crossfaded where they meet, led over a gap. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from greenroom.audio import Pcm
from greenroom.room.preconnect.seam import Seam

__all__ = ["FADE", "FILLED", "Joint", "join"]

FADE: Final = 0.005
"""Length of a crossfade. Seconds."""
FILLED: Final = 0.2
"""A gap below this is filled, so that an utterance goes on over it. Seconds."""

Wide = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Joint:
    """Recording and live audio as one. ``start``: the place of the first of ``pcm`` among the live samples, mostly far
    below zero; ``resume``: that of the live sample after the last of ``pcm``.
    """

    pcm: Pcm
    start: int
    resume: int


def join(recorded: Pcm, live: Pcm, seam: Seam | None, *, sample_rate: int, gap: int = 0) -> Joint:
    """One stretch of audio that ends a little into ``live``.

    With a seam they are crossfaded there. Without, the recording is taken to end ``gap`` samples before ``live``
    begins: a short gap is filled, a longer one stays (``resume`` is 0 then, and the recording ends before).
    """
    fade = round(FADE * sample_rate)
    if seam is not None:
        half = min(fade // 2, seam.recorded, seam.live, len(recorded) - seam.recorded, len(live) - seam.live)
        louder = _louder(recorded[: seam.recorded + half], seam.gain)
        rising = _rising(2 * half)
        crossed = louder[len(louder) - 2 * half :] * (1 - rising) + live[seam.live - half : seam.live + half] * rising
        pcm = np.concatenate((louder[: len(louder) - 2 * half], np.rint(crossed).astype(np.int16)))
        return Joint(pcm, seam.live - seam.recorded, seam.live + half)
    if gap < FILLED * sample_rate and len(live):
        lead = min(len(live), fade)
        pcm = np.concatenate((recorded, _filling(recorded, live, gap, fade), live[:lead]))
        return Joint(pcm, -len(recorded) - gap, lead)
    pcm = recorded.copy()
    tail = min(len(pcm), fade)
    pcm[len(pcm) - tail :] = np.rint(pcm[len(pcm) - tail :] * (1 - _rising(tail)))
    return Joint(pcm, -len(recorded) - gap, 0)


def _filling(before: Pcm, after: Pcm, gap: int, fade: int) -> Pcm:
    """What leads from one to the other: each goes on as its mirror image, the first falling, the second rising."""
    if gap <= 0:
        return np.zeros(0, dtype=np.int16)
    rising = _rising(gap)
    past, future = np.zeros(gap), np.zeros(gap)
    if len(before):
        past = np.resize(np.concatenate((before[-gap:][::-1], before[-gap:])), gap).astype(np.float64)
    if len(after):
        future = np.resize(np.concatenate((after[:gap], after[:gap][::-1])), 2 * gap)[:gap][::-1].astype(np.float64)
    return np.asarray(np.rint(past * (1 - rising) + future * rising), dtype=np.int16)


def _louder(pcm: Pcm, gain: float) -> Pcm:
    return np.asarray(np.clip(np.rint(pcm * gain), -32768, 32767), dtype=np.int16)


def _rising(samples: int) -> Wide:
    """From just above 0 to just below 1."""
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.arange(1, samples + 1) / (samples + 1)))
