"""A transcriber whose place others take when it fails, with the sound of what it owes."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.machine import Driver
from greenroom.providers.resilience import listening as ear
from greenroom.providers.resilience.chain import Candidate, Chain, Resilient
from greenroom.providers.resilience.rules import GaveUp
from greenroom.providers.resilience.sound import Ear, Sound
from greenroom.providers.stt import STT, STTStream, Transcript
from greenroom.providers.trials import try_stt

__all__ = ["ResilientSTT"]


class ResilientSTT(Resilient[STT], STT):
    """What no words have come for is told again to whoever takes the place. Audio is taken at the first one's rate."""

    def __init__(self, candidates: Sequence[Candidate[STT]]) -> None:
        self.chain = Chain("stt", candidates, attempt=try_stt)
        self.sample_rate = self.chain.first.sample_rate
        self.needs_marks = self.chain.first.needs_marks

    def stream(self) -> STTStream:
        return _Stream(self.chain, self.sample_rate)


class _Stream(STTStream):
    """One participant's audio, on its way to whoever listens now."""

    def __init__(self, chain: Chain[STT], sample_rate: int) -> None:
        self._chain = chain
        self._sample_rate = sample_rate
        self._sound = Sound()
        self._listening = ear.Listening(chain.rules, chain.order(), spread=random.random())
        self._driver = Driver[ear.Event, ear.Command](
            _Ordered(self._listening, chain), self._perform, clock=asyncio.get_running_loop(), tick=ear.Tick(())
        )
        self._ready: deque[Transcript] = deque()
        self._released: list[Transcript] = []
        self._wake = asyncio.Event()
        self._error: ProviderError | None = None
        self._failure: Exception | None = None
        self._mistake: Exception | None = None
        self._reader: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._reading = False
        self._closed = False
        self._said: dict[str, int] = {}
        self._skip: dict[str, int] = {}
        self._stream: STTStream
        self._ear: Ear
        self._open(self._listening.model)

    # --- from the session ---------------------------------------------------------------------------------------------

    def push(self, frame: AudioFrame) -> None:
        self._sound.push(frame)
        self._ear.push(frame)

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        if self._closed:
            return
        self._driver.feed(ear.UtteranceBegan(utterance, self._chain.order()))
        self._sound.began(utterance, at)
        self._stream.start_of_speech(utterance, at=at)

    def end_of_speech(self, utterance: str) -> None:
        if self._closed:
            return
        seconds = self._sound.ended(utterance)
        self._stream.end_of_speech(utterance)
        self._driver.feed(ear.UtteranceEnded(utterance, seconds))

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        """A failure is told before the utterances that are let go for it."""
        self._reading = True
        if self._failure is not None:
            self._failure = None
            self._ready.extend(self._released)
            self._released.clear()
            self._driver.feed(ear.Resumed(self._chain.order()))
        self._read()
        try:
            while not self._closed:
                while self._ready:
                    yield self._ready.popleft()
                if self._mistake is not None:
                    raise self._mistake
                if self._failure is not None:
                    raise self._failure
                if self._closed:
                    break
                self._wake.clear()
                await self._wake.wait()
        finally:
            self._reading = False
            self._stop_reading()

    async def aclose(self) -> None:
        self._closed = True
        self._wake.set()
        self._driver.close()
        self._stop_reading()
        await self._stream.aclose()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    # --- commands -----------------------------------------------------------------------------------------------------

    def _perform(self, command: ear.Command) -> None:
        match command:
            case ear.Again():
                self._read()
            case ear.Move(model):
                self._move(model)
            case ear.Blame():
                self._blame(command)
            case ear.Release(utterance):
                self._sound.settled(utterance)
                self._released.append(Transcript("", utterance=utterance))
            case ear.Raise():
                self._failure = self._failure or self._error
                self._wake.set()

    def _blame(self, blame: ear.Blame) -> None:
        candidate = self._chain.candidates[blame.model]
        if blame.fault == "timeout" or self._error is None:
            self._error = ProviderError(
                f"no words within {candidate.rules.timeout:g} s", provider=candidate.name, retryable=True
            )
        incident = self._chain.blame(
            blame.model, blame.fault, blame.action, self._error, to=blame.to, spent=blame.spent
        )
        if blame.action == "gave_up":
            self._failure = GaveUp(incident)

    def _move(self, model: int) -> None:
        leaving = asyncio.get_running_loop().create_task(self._stream.aclose(), name="end of a transcription")
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        self._stop_reading()
        self._skip = dict(self._said)
        self._open(model)
        self._ear.retell(self._sound)
        self._read()

    def _open(self, model: int) -> None:
        stt = self._chain.provider(model)
        self._stream = stt.stream()
        self._ear = Ear(self._stream, rate=self._sample_rate, its_rate=stt.sample_rate)

    # --- what it hears ------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        if self._reading and not self._closed and (self._reader is None or self._reader.done()):
            task = asyncio.get_running_loop().create_task(self._listen(self._stream), name="transcription")
            self._reader = task

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._leaving.add(self._reader)
            self._reader.add_done_callback(self._leaving.discard)
        self._reader = None

    async def _listen(self, stream: STTStream) -> None:
        try:
            async for heard in stream:
                if stream is not self._stream:
                    return
                self._take(heard)
        except ProviderError as error:
            self._error = error
            self._reader = None  # it ends here, and may be begun anew in the next line
            self._driver.feed(ear.Failed(self._chain.order(), error.retryable, error.retry_after))
        except Exception as error:  # noqa: BLE001  # a mistake in somebody's code, for the session to tell
            self._mistake = error
            self._wake.set()

    def _take(self, heard: Transcript) -> None:
        self._chain.answered(self._listening.model)
        told = self._fresh(heard)
        if told is not None:
            self._put(told)
        settled = self._sound.settled(heard.utterance) if heard.final else ""
        if settled:
            self._said.pop(settled, None)
            self._skip.pop(settled, None)
        self._driver.feed(ear.Heard(settled))

    def _fresh(self, heard: Transcript) -> Transcript | None:
        """Without the words that another one has already said for good, of the same sound."""
        name = heard.utterance or self._sound.first
        words = heard.text.split()
        skip = self._skip.get(name, 0)
        if heard.final and name:
            self._skip[name] = max(0, skip - len(words))
            self._said[name] = self._said.get(name, 0) + max(0, len(words) - skip)
        return replace(heard, text=" ".join(words[skip:])) if skip else heard

    def _put(self, heard: Transcript) -> None:
        self._ready.append(heard)
        self._wake.set()


class _Ordered:
    """The machine, whose tick is told the order of the models as it is then."""

    def __init__(self, listening: ear.Listening, chain: Chain[STT]) -> None:
        self._listening = listening
        self._chain = chain

    def handle(self, event: ear.Event, now: float) -> list[ear.Command]:
        told = ear.Tick(self._chain.order()) if isinstance(event, ear.Tick) else event
        return self._listening.handle(told, now)

    def deadline(self) -> float | None:
        return self._listening.deadline()
