"""The audio of one step of a speech on its way from synthesis to the track, and which words it is.

It knows which sample each word begins at, so that what was heard is known whenever it is cut off.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

import numpy as np

from greenroom.audio import Pcm

__all__ = ["Voice"]

LEAD = 30.0
"""Synthesised audio that may wait to be heard. Seconds; synthesis pauses beyond it."""
REWIND = 1.0
"""Audio kept after it was handed on, to be played again from a pause. Seconds, more than any track's queue."""
TYPICAL_RATE = 15.0
"""Characters spoken in a second, to estimate where words are while their audio is still being made."""


@dataclass(slots=True)
class Mark:
    """Words that begin at a sample. ``aligned``: the provider said so."""

    sample: int
    text: str
    aligned: bool


class Voice:
    """One step's audio: written by synthesis, read by playout."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._pieces: deque[Pcm] = deque()
        self._recent: deque[Pcm] = deque()
        self._recent_samples = 0
        self._marks: list[Mark] = []
        self._made = 0
        self._taken = 0
        self._ended = False
        self._complete = False
        self._changed = asyncio.Event()
        self._room: asyncio.Event | None = None

    @property
    def seconds(self) -> float:
        """Made so far."""
        return self._made / self.sample_rate

    @property
    def marks(self) -> list[Mark]:
        return self._marks

    async def write(self, pcm: Pcm, *, text: str = "", aligned: bool = False) -> None:
        """Add samples, and the words that begin with them; waits while ``LEAD`` seconds are waiting to be heard."""
        if text:
            self._marks.append(Mark(self._made, text, aligned))
        self._made += len(pcm)
        self._pieces.append(pcm)
        self._changed.set()
        while (self._made - self._taken) / self.sample_rate > LEAD and not self._ended:
            self._room = asyncio.Event()
            await self._room.wait()

    def mark(self, text: str) -> None:
        """Words whose audio has begun, or is about to, at a place that nobody told: they follow what is there."""
        if self._marks and not self._marks[-1].aligned:
            self._marks[-1].text += text
        else:
            self._marks.append(Mark(self._made, text, aligned=False))

    def end(self, *, complete: bool = True) -> None:
        """No more will come. ``complete``: all words have their audio; else it broke off. The first call counts."""
        if self._ended:
            return
        self._ended, self._complete = True, complete
        self._changed.set()
        if self._room is not None:
            self._room.set()

    def discard(self) -> None:
        """Nobody will hear the rest."""
        self.end(complete=False)
        self._pieces.clear()
        self._recent.clear()
        self._recent_samples = 0

    async def ready(self) -> bool:
        """Wait until there are samples (``True``) or there will be none (``False``)."""
        while not self._pieces and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        return bool(self._pieces)

    def read(self, samples: int) -> Pcm:
        """Up to ``samples`` of those that are there."""
        parts: list[Pcm] = []
        wanted = samples
        while wanted and self._pieces:
            piece = self._pieces.popleft()
            if len(piece) > wanted:
                self._pieces.appendleft(piece[wanted:])
                piece = piece[:wanted]
            parts.append(piece)
            wanted -= len(piece)
        self._taken += samples - wanted
        self._recent.extend(parts)
        self._recent_samples += samples - wanted
        while self._recent and self._recent_samples - len(self._recent[0]) > REWIND * self.sample_rate:
            self._recent_samples -= len(self._recent.popleft())
        if self._room is not None:
            self._room.set()
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, dtype=np.int16)])

    def rewind(self, samples: int) -> None:
        """Take back what was read last: it is read again. At most ``REWIND`` seconds."""
        while samples and self._recent:
            piece = self._recent.pop()
            self._recent_samples -= len(piece)
            if len(piece) > samples:
                kept, piece = piece[:-samples], piece[-samples:]
                self._recent.append(kept)
                self._recent_samples += len(kept)
            self._pieces.appendleft(piece)
            self._taken -= len(piece)
            samples -= len(piece)
        self._changed.set()

    def heard(self, samples: int) -> tuple[str, bool]:
        """The words in the first ``samples``, and whether their place is known rather than estimated."""
        if self._complete and samples >= self._made:
            return "".join(mark.text for mark in self._marks), True
        text = ""
        for index, mark in enumerate(self._marks):
            if mark.sample >= samples:
                return text, mark.aligned
            following = self._marks[index + 1] if index + 1 < len(self._marks) else None
            if following is not None and following.sample <= samples:
                text += mark.text
                continue
            return text + self._part(mark, following, samples), False
        return text, True

    def _part(self, mark: Mark, following: Mark | None, samples: int) -> str:
        """The whole words of a mark that lie before ``samples``, in proportion to their letters."""
        if following is not None:
            length = following.sample - mark.sample
        elif self._complete:
            length = self._made - mark.sample
        else:  # its end is not made yet: what a voice typically needs, or what there is already
            length = max(self._made - mark.sample, round(len(mark.text) / TYPICAL_RATE * self.sample_rate))
        letters = len(mark.text) * (samples - mark.sample) / max(length, 1)
        if letters >= len(mark.text):
            return mark.text
        cut = mark.text.rfind(" ", 0, int(letters) + 1)
        return mark.text[:cut] if cut > 0 else ""
