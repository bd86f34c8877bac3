"""What was heard and has no words yet: the sound that somebody else is told when they take over."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from greenroom.audio import AudioFrame, Resampler

__all__ = ["LONGEST", "Ear", "Mark", "Sound"]

LOOKBACK = 3.0
"""Seconds of sound that are kept while nobody speaks: an utterance is noticed late."""
LONGEST = 60.0
"""Seconds of sound that are kept at most."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Between two frames: an utterance begins (``at``) or ends (``None``)."""

    utterance: str
    at: float | None


class Sound:
    """The sound since the first utterance that has no words yet, with its marks."""

    def __init__(self) -> None:
        self._kept: deque[AudioFrame | Mark] = deque()
        self._held = 0.0
        self._owed: dict[str, float] = {}
        """When each utterance began whose words have not all come."""
        self._ended: set[str] = set()

    @property
    def first(self) -> str:
        """The utterance whose words come next; empty if none are owed."""
        return next(iter(self._owed), "")

    def push(self, frame: AudioFrame) -> None:
        self._kept.append(frame)
        self._held += frame.duration
        self._trim()

    def began(self, utterance: str, at: float) -> None:
        self._kept.append(Mark(utterance, at))
        self._owed[utterance] = at
        self._trim()

    def ended(self, utterance: str) -> float:
        """How long it was, as far as it is kept."""
        if utterance not in self._owed:
            return 0.0
        self._kept.append(Mark(utterance, None))
        self._ended.add(utterance)
        newest = next((one.at + one.duration for one in reversed(self._kept) if isinstance(one, AudioFrame)), 0.0)
        return max(0.0, newest - self._owed[utterance])

    def settled(self, utterance: str) -> str:
        """Words have come, named or not: the utterance that they were the last of, if it is over."""
        name = utterance or self.first
        if name not in self._ended:
            return ""
        self._ended.discard(name)
        del self._owed[name]
        self._trim()
        return name

    def retell(self) -> list[AudioFrame | Mark]:
        """All that somebody else has to be told."""
        return [one for one in self._kept if isinstance(one, AudioFrame) or one.utterance in self._owed]

    def _trim(self) -> None:
        while self._held > LONGEST:  # somebody has spoken for a minute: the beginning is given up
            oldest = next(one for one in self._kept if isinstance(one, AudioFrame))
            self._kept.remove(oldest)
            self._held -= oldest.duration
        since = min(self._owed.values(), default=None)
        while self._kept and self._superfluous(self._kept[0], since):
            oldest_one = self._kept.popleft()
            if isinstance(oldest_one, AudioFrame):
                self._held -= oldest_one.duration

    def _superfluous(self, one: AudioFrame | Mark, since: float | None) -> bool:
        if isinstance(one, Mark):
            return one.utterance not in self._owed
        return one.at + one.duration <= since if since is not None else self._held - one.duration > LOOKBACK


class Hearer(Protocol):
    """Who is told what is heard: a transcription, or a realtime session."""

    def push(self, frame: AudioFrame) -> None: ...

    def start_of_speech(self, utterance: str, *, at: float) -> None: ...

    def end_of_speech(self, utterance: str) -> None: ...


class Ear:
    """Tells one model what is heard, at the rate that it wants. ``rate``: of the frames that come, ``its_rate``: Hz."""

    def __init__(self, hearer: Hearer, *, rate: int, its_rate: int) -> None:
        self._hearer = hearer
        self._resampler = Resampler(rate, its_rate) if rate != its_rate else None

    def push(self, frame: AudioFrame) -> None:
        if self._resampler is not None:
            frame = AudioFrame(self._resampler.push(frame.pcm), self._resampler.target_rate, frame.at)
        if len(frame.pcm):
            self._hearer.push(frame)

    def retell(self, sound: Sound) -> None:
        """All that it has to be told of what was heard before it."""
        for one in sound.retell():
            if isinstance(one, AudioFrame):
                self.push(one)
            elif one.at is not None:
                self._hearer.start_of_speech(one.utterance, at=one.at)
            else:
                self._hearer.end_of_speech(one.utterance)
