"""When received audio was captured. Pure.

A frame arrives after its last sample was captured, by a delay that varies: frames are cut from 10 ms pieces, and the
loop may be busy. Time cannot be read off one arrival, but samples come at exactly their rate, so the earliest arrival
of the last few seconds, counted in samples, says where the others belong.
"""

from __future__ import annotations

from collections import deque

__all__ = ["CaptureClock"]

WINDOW = 5.0
"""How long an arrival is remembered. Seconds: longer than a stall of the loop, short enough to notice lost audio."""
SLEW = 0.5
"""Most that a frame's time is pulled back toward the truth, in parts of its length: times never run backwards."""


class CaptureClock:
    """Gives each frame of one stream the capture time of its first sample.

    Times strictly increase, follow the sample count exactly once the first frames have settled it, and jump forward
    only when audio was really missing. They are those of the audio's arrival in this process: the way from the
    speaker's mouth (their device, the network, the jitter buffer) lies before and is not known here.
    """

    def __init__(self, sample_rate: int, *, not_before: float = float("-inf")) -> None:
        self._sample_rate = sample_rate
        self._samples = 0
        self._offsets: deque[tuple[float, float]] = deque()
        """(arrival, arrival minus the audio's length so far), ascending in both: the window's minimum is the first."""
        self._next_least = not_before

    def stamp(self, samples: int, arrival: float) -> float:
        """The capture time of the first of ``samples`` that have just arrived."""
        begun = self._samples / self._sample_rate
        self._samples += samples
        duration = samples / self._sample_rate
        offset = arrival - self._samples / self._sample_rate
        while self._offsets and self._offsets[-1][1] >= offset:
            self._offsets.pop()
        self._offsets.append((arrival, offset))
        while self._offsets[0][0] < arrival - WINDOW:
            self._offsets.popleft()
        at = max(self._offsets[0][1] + begun, self._next_least)
        self._next_least = at + (1 - SLEW) * duration
        return at
