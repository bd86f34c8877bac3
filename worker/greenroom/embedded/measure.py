"""When something could be heard, from the samples themselves. Pure: arrival times are handed in.

A window of ``WINDOW`` seconds is audible when its root mean square is above ``AUDIBLE``; within it, the first and the
last sample that reach that level bound the sound. Recorded and synthesised speech is 20 to 40 dB above the level,
and what a codec makes of silence is below it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from greenroom.audio import Pcm, rms

__all__ = ["AUDIBLE", "WINDOW", "Ear", "StreamClock", "audible_span"]

AUDIBLE = 164.0
"""Root mean square in int16 units: -46 dB of full scale."""
WINDOW = 0.005
MERGE = 0.05
"""Sounds closer than this are one span: the gaps of a voice's pitch are no silence."""


def _windows(pcm: Pcm, sample_rate: int) -> Iterator[tuple[int, Pcm]]:
    size = max(1, round(WINDOW * sample_rate))
    for start in range(0, len(pcm), size):
        yield start, pcm[start : start + size]


def audible_span(pcm: Pcm, *, sample_rate: int) -> tuple[int, int] | None:
    """The index of the first audible sample and the one after the last, or ``None`` when nothing is audible."""
    first = last = None
    for start, window in _windows(pcm, sample_rate):
        if rms(window) < AUDIBLE:
            continue
        loud = np.flatnonzero(np.abs(window.astype(np.int32)) >= AUDIBLE)
        if first is None:
            first = start + int(loud[0])
        last = start + int(loud[-1]) + 1
    return None if first is None or last is None else (first, last)


class StreamClock:
    """When each sample of a received stream was there to be heard.

    Frames arrive with the event loop's jitter: never early, often late. So the stream's own count of samples says how
    far apart they are, and the least delayed frame where they lie. A frame later than ``gap`` seconds was not late:
    the stream had paused, and its line begins anew. ``drift`` lets the line move with a sender whose clock is slower.
    """

    def __init__(self, sample_rate: int, *, gap: float = 0.2, drift: float = 0.0005) -> None:
        self.sample_rate = sample_rate
        self._gap = gap
        self._drift = drift
        self._next: float | None = None

    def place(self, samples: int, arrival: float) -> float:
        """The time of the first of ``samples`` samples that arrived, as the latest of a frame, at ``arrival``."""
        length = samples / self.sample_rate
        at = arrival - length
        expected = self._next
        if expected is not None and expected < at <= expected + self._gap:
            at = expected + min(at - expected, length * self._drift)
        self._next = at + length
        return at


class Ear:
    """What was heard of one voice: the audible spans in time, and the samples for a recording."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._clock = StreamClock(sample_rate)
        self._spans: list[tuple[float, float]] = []
        self._recording: list[Pcm] = []
        self._end: float | None = None

    def hear(self, pcm: Pcm, *, arrival: float) -> None:
        """Take the next frame, which arrived at ``arrival``."""
        at = self._clock.place(len(pcm), arrival)
        if self._end is not None and (missing := round((at - self._end) * self.sample_rate)) > 0.05 * self.sample_rate:
            # The stream paused: the recording keeps the pause, so that its times are the call's.
            self._recording.append(np.zeros(missing, dtype=np.int16))
        self._recording.append(pcm)
        self._end = at + len(pcm) / self.sample_rate
        for start, window in _windows(pcm, self.sample_rate):
            if span := audible_span(window, sample_rate=self.sample_rate):
                self._add(at + (start + span[0]) / self.sample_rate, at + (start + span[1]) / self.sample_rate)

    def _add(self, start: float, end: float) -> None:
        if self._spans and start - self._spans[-1][1] <= MERGE:
            self._spans[-1] = (self._spans[-1][0], max(end, self._spans[-1][1]))
        else:
            self._spans.append((start, end))

    def first_audible(self, *, after: float) -> float | None:
        """When the first audible sample at or after the time ``after`` was heard."""
        return next((max(start, after) for start, end in self._spans if end > after), None)

    @property
    def last_audible(self) -> float | None:
        """When the last audible sample so far was heard."""
        return self._spans[-1][1] if self._spans else None

    def recording(self) -> Pcm:
        """All that was heard, pauses of the stream as silence."""
        return np.concatenate(self._recording) if self._recording else np.zeros(0, dtype=np.int16)
