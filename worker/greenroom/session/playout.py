"""What leaves the track, and which words that was.

A ``Voice`` is the audio of one step of a speech on its way from synthesis to the track: it knows which sample each word
begins at, so that what was heard is known whenever it is cut off.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from greenroom.audio import Pcm
from greenroom.dialog.events import Event, Played
from greenroom.session.media import AudioOutput

__all__ = ["Playout", "Voice"]

PIECE = 0.05
"""Audio handed to the track at once. Seconds: short enough to stop quickly, long enough to be cheap."""
LEAD = 30.0
"""Synthesised audio that may wait to be heard. Seconds; synthesis pauses beyond it."""
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
        if self._room is not None:
            self._room.set()
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, dtype=np.int16)])

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


class Playout:
    """Plays one voice at a time, and reports what left the track."""

    def __init__(
        self, output: AudioOutput, *, feed: Callable[[Event], None], spoken: Callable[[str, int, str], None]
    ) -> None:
        self._output = output
        self._feed = feed
        self._spoken = spoken
        self._task: asyncio.Task[None] | None = None
        self._speech = ""
        self._step = 0
        self._voice: Voice | None = None
        self._pushed = 0
        self._texts = 0

    def play(self, speech: str, step: int, voice: Voice) -> None:
        """Begin; ends with ``Played(finished)``, unless it is held or stopped before."""
        if self._task is not None:  # its stop was never reported: the floor was taken from it
            self._task.cancel()
            self._output.clear()
        self._speech, self._step, self._voice = speech, step, voice
        self._pushed = self._texts = 0
        self._task = asyncio.get_running_loop().create_task(self._run(voice), name=f"playout {speech}.{step}")

    def hold(self, speech: str, step: int) -> None:
        """Take ``play`` back; only possible before the first sample."""
        if (speech, step) == (self._speech, self._step) and self._task is not None and self._pushed == 0:
            self._task.cancel()
            self._forget()

    def stop(self, speech: str, step: int) -> None:
        """Silence it now; ends with ``Played(stopped)``."""
        if (speech, step) != (self._speech, self._step) or self._task is None or self._voice is None:
            return
        self._task.cancel()
        unheard = round(self._output.queued * self._voice.sample_rate)
        self._output.clear()
        samples = max(0, self._pushed - unheard)
        text, aligned = self._voice.heard(samples)
        now = asyncio.get_running_loop().time()
        self._forget()
        self._feed(Played(speech, step, "stopped", now, samples, text, aligned))

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._output.clear()
            self._forget()

    async def _run(self, voice: Voice) -> None:
        loop = asyncio.get_running_loop()
        speech, step = self._speech, self._step
        piece = round(PIECE * voice.sample_rate)
        if await voice.ready():
            await self._output.wait_ready()
        while await voice.ready():
            pcm = voice.read(piece)
            first = self._pushed == 0
            self._pushed += len(pcm)
            if first:
                self._feed(Played(speech, step, "started", loop.time() + self._output.queued))
            self._say_words(voice)
            await self._output.push(pcm)
        self._say_words(voice)
        await asyncio.sleep(self._output.queued)
        text, aligned = voice.heard(self._pushed)
        pushed = self._pushed
        self._forget()
        self._feed(Played(speech, step, "finished", loop.time(), pushed, text, aligned))

    def _say_words(self, voice: Voice) -> None:
        """Hand on the words whose audio is on its way to the track."""
        text = "".join(mark.text for mark in voice.marks if mark.sample <= self._pushed)
        if len(text) > self._texts:
            self._spoken(self._speech, self._step, text[self._texts :])
            self._texts = len(text)

    def _forget(self) -> None:
        self._task = None
        self._voice = None
        self._speech, self._step = "", 0
