"""The audio of one speech, cut where its words begin. No I/O, no clock: times are given.

Cartesia makes audio several times faster than it is heard, and tells when words begin some time after their audio. So
audio is held back until it is known which words are in it, but only while who hears it has enough to go on with. The
first sound is never held back, and its words are guessed if need be: who hears is to know from the beginning on that
words come with their places.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from greenroom.audio import AudioFrame, Pcm, silence
from greenroom.providers import SynthesizedAudio
from greenroom_plugins.cartesia.labels import Label, Labels
from greenroom_plugins.remote.audible import Beginning

__all__ = ["AHEAD", "Voicing"]

AHEAD = 0.5
"""Seconds of audio that a listener has got ahead, before what comes next is held back for its words."""
_STEP = 0.1
"""Seconds of audio that are handed on at least, when it is for the listener's sake."""


class Voicing:
    """``timestamps``: whether any are to be expected; without, nothing is held back."""

    def __init__(self, sample_rate: int, *, timestamps: bool = True) -> None:
        self._rate = sample_rate
        self._timestamps = timestamps
        self._beginning = Beginning(sample_rate)
        self._held: deque[Pcm] = deque()
        self._waiting = 0
        self._made = 0
        self._base = 0
        self._handed_on = 0
        self._named = 0
        self._first: float | None = None
        self.labels = Labels(sample_rate)

    @property
    def sounded(self) -> bool:
        """Whether there was a sound."""
        return self._beginning.sounded

    @property
    def soundless(self) -> float:
        """Seconds of nothing that it began with."""
        return self._beginning.seconds

    def begin(self) -> None:
        """What comes from now on has times that count from its own beginning."""
        self._base = self._made

    def add(self, pcm: Pcm, *, now: float) -> list[SynthesizedAudio]:
        """Audio has come."""
        self._made += len(pcm)
        audible = self._beginning.push(pcm)
        self._held.append(audible)
        self._waiting += len(audible)
        return self.release(now=now)

    def name(self, words: list[str], starts: list[float], ends: list[float], *, now: float) -> list[SynthesizedAudio]:
        """It is known when words begin and end."""
        self.labels.named(words, starts, base=self._base)
        if ends:
            self._named = max(self._named, self._base + round(max(ends) * self._rate))
        return self.release(now=now)

    def due(self) -> float | None:
        """When ``release`` has something though nothing has come."""
        if not self._waiting or self._first is None:
            return None
        return self._first + self._handed_on / self._rate - AHEAD

    def release(self, *, now: float, everything: bool = False) -> list[SynthesizedAudio]:
        """What need not be held back any more."""
        samples = self._waiting
        if self._timestamps and not everything:
            heard = 0 if self._first is None else round((now - self._first) * self._rate)
            short = self._handed_on - heard <= round(AHEAD * self._rate)
            wanted = heard + round((AHEAD + _STEP) * self._rate) if short else 0
            samples = min(samples, max(self._named, wanted) - self._handed_on)
        if samples <= 0:
            return []
        if self._first is None:
            self._first = now
        return self._cut(self._take(samples))

    def end(self) -> list[SynthesizedAudio]:
        """There is no more: all that is left, and the words without a sound of their own."""
        pieces = self.release(now=0.0, everything=True)
        if self._timestamps and (rest := self.labels.rest()):
            pieces.append(SynthesizedAudio(silence(0, self._rate), rest))
        return pieces

    def _take(self, samples: int) -> Pcm:
        self._waiting -= samples
        parts: list[Pcm] = []
        while samples > 0:
            part = self._held.popleft()
            if len(part) > samples:
                self._held.appendleft(part[samples:])
                part = part[:samples]
            parts.append(part)
            samples -= len(part)
        return np.concatenate(parts)

    def _cut(self, pcm: Pcm) -> list[SynthesizedAudio]:
        """The audio in pieces that begin with a word each, but for the first, which may go on with one."""
        start, end = self._handed_on, self._handed_on + len(pcm)
        self._handed_on = end
        pieces: list[SynthesizedAudio] = []
        labels: list[Label] = []
        if self._timestamps:
            if start == 0:  # the silence before the first word is taken for a part of it
                labels = self.labels.guess(0, 1)
            labels += self.labels.cut(start, end) if self._named else self.labels.guess(start, end)
        bounds = [*(label.sample for label in labels), end]
        if bounds[0] > start:
            pieces.append(SynthesizedAudio(AudioFrame(pcm[: bounds[0] - start], self._rate)))
        for label, following in zip(labels, bounds[1:], strict=True):
            frame = AudioFrame(pcm[label.sample - start : following - start], self._rate)
            pieces.append(SynthesizedAudio(frame, label.text, label.aligned))
        return pieces
