"""When a voice begins and ends, from the probabilities of short windows. Pure: it counts audio, and needs no clock."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SegmentRules", "VoiceSegmenter", "VoiceStarted", "VoiceStopped"]


@dataclass(frozen=True, slots=True)
class SegmentRules:
    """A voice has begun after ``min_speech`` seconds above ``threshold``, and ended after ``min_silence`` below it.

    Once it has begun, a window counts as voiced down to ``release`` (hysteresis).
    """

    threshold: float = 0.5
    release: float = 0.35
    min_speech: float = 0.06
    min_silence: float = 0.25


@dataclass(frozen=True, slots=True)
class VoiceStarted:
    """``at``: the capture time of the first voiced sample."""

    at: float


@dataclass(frozen=True, slots=True)
class VoiceStopped:
    """``at``: the capture time after the last voiced sample."""

    at: float


class VoiceSegmenter:
    """Feed it each window's probability; it says where utterances begin and end."""

    def __init__(self, rules: SegmentRules) -> None:
        self._rules = rules
        self._speaking = False
        self._run_began = 0.0
        self._run = 0.0
        self._last_voiced = 0.0

    @property
    def speaking(self) -> bool:
        return self._speaking

    def push(self, probability: float, *, at: float, seconds: float) -> VoiceStarted | VoiceStopped | None:
        """Take one window: it begins at capture time ``at`` and lasts ``seconds``."""
        rules = self._rules
        voiced = probability >= (rules.release if self._speaking else rules.threshold)
        end = at + seconds
        if self._speaking:
            if voiced:
                self._last_voiced = end
            elif end - self._last_voiced >= rules.min_silence:
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
        self._speaking, self._last_voiced = True, end
        return VoiceStarted(self._run_began)

    def cut(self) -> VoiceStopped | None:
        """The audio has broken off: an utterance that was open ends with its last voiced sample."""
        was_speaking, self._speaking, self._run = self._speaking, False, 0.0
        return VoiceStopped(self._last_voiced) if was_speaking else None
