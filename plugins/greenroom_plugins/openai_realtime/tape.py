"""What was captured last, by its place in the stream and by its time. No I/O, no clock."""

from __future__ import annotations

from collections import deque

import numpy as np

from greenroom.audio import AudioFrame

__all__ = ["Tape"]


class Tape:
    """The last seconds of a stream. Places are samples since its beginning; times are those of the frames.

    It keeps ``lookback`` seconds, and from ``hold`` on where that was set, but never more than ``limit``.
    """

    def __init__(self, sample_rate: int, *, lookback: float = 3.0, limit: float = 60.0) -> None:
        self.end = 0
        self.hold: int | None = None
        self._rate = sample_rate
        self._lookback = round(lookback * sample_rate)
        self._limit = round(limit * sample_rate)
        self._frames: deque[tuple[int, AudioFrame]] = deque()

    @property
    def begin(self) -> int:
        """The first place that is still there."""
        return self._frames[0][0] if self._frames else self.end

    def push(self, frame: AudioFrame) -> None:
        self._frames.append((self.end, frame))
        self.end += len(frame.pcm)
        keep = self.end - self._lookback
        keep = max(min(keep, keep if self.hold is None else self.hold), self.end - self._limit)
        while len(self._frames) > 1 and self._frames[1][0] <= keep:
            self._frames.popleft()

    def place(self, at: float) -> int:
        """Where what was captured then is; what is not there any more is at the beginning."""
        found = self.end
        for start, frame in reversed(self._frames):
            if at >= frame.at + frame.duration:
                break
            found = start + max(0, round((at - frame.at) * self._rate))
        return found

    def time(self, place: int) -> float:
        """When the sample before ``place`` had been captured: the end of what lies before it. 0.0 on an empty tape."""
        when = 0.0
        for count, (start, frame) in enumerate(self._frames):
            if count and place <= start:
                break
            when = frame.at + max(0, min(place - start, len(frame.pcm))) / self._rate
        return when

    def read(self, start: int, end: int) -> bytes:
        """The samples between two places that are there, as 16-bit PCM."""
        parts = [
            frame.pcm[max(0, start - place) : end - place]
            for place, frame in self._frames
            if place < end and place + len(frame.pcm) > start
        ]
        return np.concatenate(parts).astype("<i2", copy=False).tobytes() if parts else b""
