"""Frames out of a recording and the live audio that follows it: one stream, one level, true times. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from greenroom.audio import AudioFrame, Pcm
from greenroom.room.preconnect.joint import join
from greenroom.room.preconnect.seam import Seam, find_seam

__all__ = ["Recording", "Spliced", "first_sound", "splice", "splice_late", "stretch"]

LATENCY: Final = 0.1
"""By so much longer than a recording's end does live audio take to arrive: it waits in a jitter buffer. Seconds."""
SLOWEST: Final = 0.5
"""By so much longer at most. Seconds."""
GAP: Final = 0.05
"""Less is no gap: the times that tell of it are not that exact. Seconds."""


@dataclass(frozen=True, slots=True)
class Recording:
    """``ended``: when the last of it was captured, at the latest, as told by when its pieces arrived.

    ``late``: the live audio went ahead.
    """

    pcm: Pcm
    sample_rate: int
    ended: float
    late: bool = False


@dataclass(frozen=True, slots=True)
class Spliced:
    """``frames``: what comes before the live audio goes on, at its frame ``resume``. Times are seconds."""

    frames: tuple[AudioFrame, ...]
    resume: int
    overlap: float
    gap: float
    gain: float


def first_sound(live: Pcm) -> int:
    """The first real sample: until a track's audio comes, its frames are zeros. 0 where there is no other."""
    sounds = np.flatnonzero(live)
    return int(sounds[0]) if len(sounds) else 0


def stretch(frames: Sequence[AudioFrame], otherwise: float) -> tuple[Pcm, float]:
    """The samples of frames that follow each other, and the first one's capture time; ``otherwise`` where none is.

    A track's first frames are stamped late and their times catch up, so the earliest time that any of them tells is the
    best. What ends there, as told by the count of samples, never ends after the next frame begins.
    """
    pcm, at = [np.zeros(0, dtype=np.int16)], otherwise if not frames else frames[0].at
    samples = 0
    for frame in frames:
        at = min(at, frame.at - samples / frame.sample_rate)
        samples += len(frame.pcm)
        pcm.append(frame.pcm)
    return np.concatenate(pcm), at


def splice(recording: Recording, live: Pcm, live_at: float, *, frame: int) -> Spliced:
    """The recording before ``live``, whose first sample was captured at ``live_at``: whole frames of ``frame`` samples,
    as ``live`` is too. The frames of the result end where a frame of ``live`` begins, which costs a few milliseconds of
    silence at their head, and no waiting at their end.
    """
    rate = recording.sample_rate
    begins = first_sound(live)
    seam, gap = _meeting(recording, live[begins:], live_at + begins / rate)
    joint = join(recording.pcm, live[begins:], seam, sample_rate=rate, gap=round(gap * rate))
    start, resume = begins + joint.start, begins + joint.resume
    if joint.resume:
        boundary = -(-resume // frame) * frame
        pcm = np.concatenate((joint.pcm, live[resume:boundary]))
        frames = _frames(pcm, live_at + start / rate, rate, frame)
        resume = boundary // frame
    else:  # the recording ends before, and a hole follows
        frames = _frames(joint.pcm, live_at + start / rate, rate, frame)
        resume = begins // frame
    return Spliced(frames, resume, _overlap(recording, seam), gap, seam.gain if seam is not None else 1.0)


def splice_late(recording: Recording, live: Pcm, live_at: float, *, frame: int) -> Spliced:
    """The recording alone, up to where ``live`` begins, of which all was heard already."""
    rate = recording.sample_rate
    begins = first_sound(live)
    seam, gap = _meeting(recording, live[begins:], live_at + begins / rate)
    gain = seam.gain if seam is not None else 1.0
    kept = recording.pcm if seam is None else recording.pcm[: max(0, seam.recorded - seam.live)]
    joint = join(
        np.asarray(np.clip(np.rint(kept * gain), -32768, 32767), dtype=np.int16), live[:0], None, sample_rate=rate
    )
    at = live_at + begins / rate - gap - len(kept) / rate
    return Spliced(_frames(joint.pcm, at, rate, frame), 0, _overlap(recording, seam), gap, gain)


def _meeting(recording: Recording, live: Pcm, live_at: float) -> tuple[Seam | None, float]:
    """Where both meet, or the seconds between them.

    When which arrived tells about where that is, and for certain where it is not: what had been recorded when the last
    of it arrived is not captured later, live.
    """
    if not len(live):
        return None, 0.0
    later = recording.ended - live_at
    possible = live[: max(0, round((later + SLOWEST) * recording.sample_rate))]
    seam = find_seam(recording.pcm, possible, recording.sample_rate, expected=later)
    gap = -later - LATENCY
    return seam, gap if seam is None and gap > GAP else 0.0


def _overlap(recording: Recording, seam: Seam | None) -> float:
    if seam is None:
        return 0.0
    return (len(recording.pcm) - seam.recorded + seam.live) / recording.sample_rate


def _frames(pcm: Pcm, at: float, rate: int, size: int) -> tuple[AudioFrame, ...]:
    """Whole frames; what is missing to the first is silence."""
    missing = -len(pcm) % size
    padded: Pcm = np.concatenate((np.zeros(missing, dtype=np.int16), pcm))
    at -= missing / rate
    return tuple(
        AudioFrame(padded[start : start + size], rate, at + start / rate) for start in range(0, len(padded), size)
    )
