"""A voice whose place others take when it fails, in the midst of a sentence too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from greenroom.audio import AudioFrame, Resampler
from greenroom.errors import ProviderError
from greenroom.providers.resilience.chain import Candidate, Chain, Resilient
from greenroom.providers.resilience.reading import Broken, Outcome, Piece, Reading
from greenroom.providers.resilience.supervision import Supervision
from greenroom.providers.sentences import speakable
from greenroom.providers.trials import try_tts
from greenroom.providers.tts import TTS, SynthesizedAudio

__all__ = ["ResilientTTS"]

AUDIBLE = 50
"""The smallest sample (int16) that is more than silence."""
LEAD = 3.0
"""Seconds of silence that a speech may begin with."""
PACE = 0.065
"""Seconds that a character takes, until it is known of the voice."""
WHOLE = 0.9
"""Share of the time that words should take after which they are taken to have been said."""


class ResilientTTS(Resilient[TTS], TTS):
    """A speech that breaks off goes on with the words that had not begun, or with those in whose midst it broke.

    Silence in place of a speech is a failure. The audio is at the first voice's rate, whoever speaks.
    """

    def __init__(self, candidates: Sequence[Candidate[TTS]]) -> None:
        self.chain = Chain("tts", candidates, attempt=try_tts)
        self.sample_rate = self.chain.first.sample_rate

    async def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        script = _Script(text)

        def begin(number: int, model: int) -> _Speaking:
            reader = script.reader(
                script.resume(self.sample_rate), starved=lambda: speech.starved(number), fed=lambda: speech.fed(number)
            )
            return _Speaking(self.chain.candidates[model], script, reader, rate=self.sample_rate)

        speech = Supervision[TTS, _Voiced](self.chain, begin, resumable=True)
        try:
            async with aclosing(speech.pieces()) as pieces:
                async for piece in pieces:
                    yield piece.audio
        finally:
            await script.aclose()


@dataclass(frozen=True, slots=True)
class _Voiced:
    """A piece of a speech. ``begin``, ``end``: the words that begin with it, as characters of the script."""

    audio: SynthesizedAudio
    begin: int
    end: int


class _Script:
    """A text that comes once and may have to be read more than once, and how far it has been said."""

    def __init__(self, text: AsyncIterable[str]) -> None:
        self.text = ""
        self.told = 0
        """Characters whose sound has begun, as far as the voice tells."""
        self._begun = 0
        self._samples = 0
        self._said = (0, 0)
        self._source = text
        self._reading: Reading[str] | None = None
        self._came = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None

    def note(self, piece: _Voiced) -> None:
        """This was handed on."""
        if piece.end > piece.begin:
            self._said = (self._said[0] + self.told - self._begun, self._said[1] + self._samples)
            self._begun, self._samples = piece.begin, 0
            self.told = max(self.told, piece.end)
        self._samples += len(piece.audio.frame.pcm)

    def resume(self, sample_rate: int) -> int:
        """The character from which on it has to be said."""
        if not self.told:
            return self._estimated(sample_rate)
        characters, samples = self._said
        pace = samples / sample_rate / characters if characters > 20 else PACE
        due = (self.told - self._begun) * pace
        return self.told if self._samples / sample_rate >= WHOLE * due else self._begun

    def reader(self, start: int, *, starved: Callable[[], None], fed: Callable[[], None]) -> _Reader:
        return _Reader(self, start, starved=starved, fed=fed)

    async def more(self, at: int) -> bool:
        """Wait until there is more than ``at`` characters; whether there is. Raises what the text raises."""
        while len(self.text) <= at and not self._ended:
            self._came.clear()
            if self._reading is None:
                self._reading = Reading(self._pieces, self._read)
            else:
                self._reading.ask()
            await self._came.wait()
        if self._failure is not None:
            raise self._failure
        return len(self.text) > at

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.stop()
            await asyncio.gather(self._reading.task, return_exceptions=True)

    async def _pieces(self) -> AsyncGenerator[str, None]:
        async for piece in self._source:
            yield piece

    def _read(self, outcome: Outcome[str]) -> None:
        """A reader that is given up while it waits loses nothing: the next one finds it here."""
        if isinstance(outcome, Piece):
            self.text += outcome.value
        else:
            self._ended = True
            self._failure = outcome.error if isinstance(outcome, Broken) else None
        self._came.set()

    def _estimated(self, sample_rate: int) -> int:
        """Where a voice is that does not tell: by its sound, at the beginning of a word."""
        if not self._samples:
            return 0
        at = min(len(self.text), round(self._samples / sample_rate / PACE))
        self.told = len(self.text)  # nothing is labelled from now on: the session has all of it
        return self.text.rfind(" ", 0, at) + 1


class _Reader:
    """The text from a character on, for one attempt."""

    def __init__(self, script: _Script, start: int, *, starved: Callable[[], None], fed: Callable[[], None]) -> None:
        self.start = start
        self.at = start
        self._script = script
        self._starved = starved
        self._fed = fed

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        if len(self._script.text) <= self.at:
            self._starved()
            there = await self._script.more(self.at)
            self._fed()
            if not there:
                raise StopAsyncIteration
        piece = self._script.text[self.at :]
        self.at += len(piece)
        return piece


class _Speaking:
    """One attempt."""

    def __init__(self, candidate: Candidate[TTS], script: _Script, reader: _Reader, *, rate: int) -> None:
        self._tts = candidate.provider
        self._name = candidate.name
        self._script = script
        self._reader = reader
        self._rate = rate
        self._held: list[_Voiced] = []
        self._silent = 0.0
        self._came = False

    async def open(self) -> AsyncGenerator[_Voiced, None]:
        resampler = Resampler(self._tts.sample_rate, self._rate) if self._tts.sample_rate != self._rate else None
        at, told = self._reader.start, self._script.told
        async with aclosing(self._tts.synthesize(self._reader)) as pieces:
            async for piece in pieces:
                begin, at = at, at + len(piece.text)
                text = piece.text[max(0, told - begin) :]
                if resampler is not None:
                    piece = replace(piece, frame=AudioFrame(resampler.push(piece.frame.pcm), self._rate))
                yield _Voiced(replace(piece, text=text, aligned=piece.aligned and bool(text)), begin, at)
        if resampler is not None and len(tail := resampler.flush()):
            yield _Voiced(SynthesizedAudio(AudioFrame(tail, self._rate)), at, at)

    def judge(self, piece: _Voiced) -> bool:
        self._held.append(piece)
        pcm = piece.audio.frame.pcm
        if not self._came:
            self._came = len(pcm) > 0 and int(np.abs(pcm.astype(np.int32)).max()) >= AUDIBLE
            self._silent += len(pcm) / self._rate
            if not self._came and self._silent > LEAD:
                raise ProviderError(f"{LEAD:g} s of silence", provider=self._name, retryable=True)
        if self._came:
            for one in self._held:
                self._script.note(one)
            self._held.clear()
        return self._came

    def lacking(self) -> bool:
        return not self._came and speakable(self._script.text[self._reader.start : self._reader.at])
