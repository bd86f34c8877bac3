"""When a voice begins and ends, from the probabilities of short windows. Pure: it counts audio, and needs no clock.

A model remembers: it calls what follows a voice a voice too, for up to a tenth of a second of silence, and never the
same twice. Where the windows' samples are told, a voice ends with its last sound instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from greenroom.audio import Pcm

__all__ = ["SegmentRules", "VoiceSegmenter", "VoiceStarted", "VoiceStopped"]


@dataclass(frozen=True, slots=True)
class SegmentRules:
    """A voice has begun after ``min_speech`` seconds above ``threshold``, and ended after ``min_silence`` below it.

    Once it has begun, a window counts as voiced down to ``release`` (hysteresis). What is quieter than ``quiet`` of the
    voice's usual peaks (0.02: 34 dB below them) is no sound of it.
    """

    threshold: float = 0.5
    release: float = 0.35
    min_speech: float = 0.06
    min_silence: float = 0.25
    quiet: float = 0.02


@dataclass(frozen=True, slots=True)
class VoiceStarted:
    """``at``: the capture time of the first voiced sample."""

    at: float


@dataclass(frozen=True, slots=True)
class VoiceStopped:
    """``at``: the capture time after the last voiced sample."""

    at: float


PARTS = 16
"""Of a window, in the last of which a voice ends that sounds: 2 ms each, where it has 32."""
SMOOTHING = 0.1
"""Share of a window in what the voice's peaks usually are: a cough is not the measure of what follows it."""


class VoiceSegmenter:
    """Feed it each window's probability; it says where utterances begin and end."""

    def __init__(self, rules: SegmentRules) -> None:
        self._rules = rules
        self._speaking = False
        self._run_began = 0.0
        self._run = 0.0
        self._last_voiced = 0.0
        self._peak = 0.0
        """The voice's usual one."""

    @property
    def speaking(self) -> bool:
        return self._speaking

    def push(
        self, probability: float, *, at: float, seconds: float, window: Pcm | None = None
    ) -> VoiceStarted | VoiceStopped | None:
        """Take one window: it begins at capture time ``at`` and lasts ``seconds``.

        ``window``: its samples; without them all of it sounds.
        """
        rules = self._rules
        voiced = probability >= (rules.release if self._speaking else rules.threshold)
        end = at + seconds
        if voiced:
            self._listen(window, at=at, seconds=seconds)
        if self._speaking:
            if end - self._last_voiced >= rules.min_silence:
                self._speaking, self._run = False, 0.0
                return VoiceStopped(self._last_voiced)
            return None
        if not voiced:
            self._run = 0.0
            return None
        if self._run == 0.0:
            self._run_began = at
        self._run += seconds
        if self._run < rules.min_speech:
            return None
        self._speaking = True
        return VoiceStarted(self._run_began)

    def cut(self) -> VoiceStopped | None:
        """The audio has broken off: an utterance that was open ends with its last voiced sample."""
        was_speaking, self._speaking, self._run = self._speaking, False, 0.0
        return VoiceStopped(self._last_voiced) if was_speaking else None

    def _listen(self, window: Pcm | None, *, at: float, seconds: float) -> None:
        """Find the last sound of a voiced window."""
        if window is None:
            self._last_voiced = at + seconds
            return
        peaks = _peaks(window)
        loudest = max(peaks)
        begins = not self._speaking and self._run == 0.0
        self._peak = loudest if begins else self._peak + SMOOTHING * (loudest - self._peak)
        least = self._rules.quiet * self._peak
        last = max((part for part, peak in enumerate(peaks, start=1) if peak > least), default=0)
        if last or begins:
            self._last_voiced = at + seconds * last / len(peaks)


def _peaks(window: Pcm) -> list[int]:
    """The loudest sample of each part of a window; of all of it, where it cannot be parted."""
    parts = PARTS if len(window) % PARTS == 0 else 1
    peaks: list[int] = np.abs(window.astype(np.int32)).reshape(parts, -1).max(axis=1).tolist()
    return peaks
