"""A transcriber whose place others take when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.providers import STT, BatchSTT, STTStream, Transcript
from greenroom.providers.resilience.rules import GaveUp
from greenroom.providers.resilience.sound import LONGEST
from greenroom.providers.resilience.stt import ResilientSTT
from greenroom.testing.providers import Heard, ScriptedSTT
from greenroom.testing.virtual_time import virtual_time
from tests.providers.resilience.models import Told, candidates


class Ear:
    """A session's side of a stream: pushes sound at its real pace, and reads on after failures."""

    def __init__(self, stt: STT) -> None:
        self.stream = stt.stream()
        self.heard: list[Transcript] = []
        self.failed: list[ProviderError] = []
        self.rate = stt.sample_rate
        self._reading = asyncio.create_task(self._read())

    async def say(self, utterance: str, seconds: float, *, level: int = 1) -> None:
        loop = asyncio.get_running_loop()
        await self._push(0.2, 0)
        self.stream.start_of_speech(utterance, at=loop.time())
        await self._push(seconds, level)
        self.stream.end_of_speech(utterance)

    def texts(self) -> list[tuple[str, str]]:
        return [(one.utterance, one.text) for one in self.heard if one.final]

    async def aclose(self) -> None:
        await self.stream.aclose()
        await self._reading

    async def _push(self, seconds: float, level: int) -> None:
        for _ in range(round(seconds / 0.1)):
            at = asyncio.get_running_loop().time()
            await asyncio.sleep(0.1)
            self.stream.push(AudioFrame(np.full(self.rate // 10, level, dtype=np.int16), self.rate, at))

    async def _read(self) -> None:
        while True:
            try:
                async for heard in self.stream:
                    self.heard.append(heard)
                return
            except ProviderError as error:
                self.failed.append(error)
                await asyncio.sleep(0.2)


class Whole(BatchSTT):
    """Takes whole utterances. ``fails``: how many of them first, ``retryable`` or not; says how long each was."""

    def __init__(self, fails: int = 0, *, retryable: bool = True, sample_rate: int = 16000) -> None:
        self.sample_rate = sample_rate
        self._fails = fails
        self._retryable = retryable
        self.lengths: list[float] = []

    async def recognize(self, audio: AudioFrame) -> Transcript:
        voiced = float(np.count_nonzero(audio.pcm)) / self.sample_rate
        self.lengths.append(round(voiced, 2))
        await asyncio.sleep(0.1)
        if len(self.lengths) <= self._fails:
            raise ProviderError("out of order", provider="whole", retryable=self._retryable)
        return Transcript(f"{voiced:.1f} seconds")


@virtual_time
async def test_an_utterance_is_heard_by_another_one() -> None:
    first, second = ScriptedSTT([Heard("", failure="raise")]), Whole()
    stt = ResilientSTT(candidates(first, second))
    told, ear = Told(stt.chain), Ear(stt)
    await ear.say("u1", 1.0)
    await asyncio.sleep(1)
    assert ear.texts() == [("u1", "1.0 seconds")]
    assert told.actions() == [("a", "refused", "fell_back", "b")]
    assert ear.failed == []
    await ear.say("u2", 2.0)
    await asyncio.sleep(1)
    assert ear.texts()[1:] == [("u2", "2.0 seconds")]
    assert second.lengths == [1.0, 2.0]
    await ear.aclose()
    await stt.aclose()


@virtual_time
async def test_words_that_do_not_come_are_asked_of_another_one() -> None:
    stt = ResilientSTT(candidates(ScriptedSTT([Heard("", failure="stall")]), Whole()))
    told, ear = Told(stt.chain), Ear(stt)
    await ear.say("u1", 1.0)
    said = asyncio.get_running_loop().time()
    await asyncio.sleep(4)
    assert ear.texts() == [("u1", "1.0 seconds")]
    assert told.actions() == [("a", "timeout", "fell_back", "b")]
    assert said < 2
    await ear.aclose()
    await stt.aclose()


@virtual_time
async def test_a_failure_is_tried_again() -> None:
    stt = ResilientSTT(candidates(whole := Whole(fails=1)))
    assert stt.needs_marks
    told, ear = Told(stt.chain), Ear(stt)
    await ear.say("u1", 1.0)
    await asyncio.sleep(1)
    assert ear.texts() == [("u1", "1.0 seconds")]
    assert whole.lengths == [1.0, 1.0]
    assert told.actions() == [("a", "error", "retried", "a")]
    await ear.aclose()


@virtual_time
async def test_with_nobody_left_an_utterance_is_let_go_and_the_next_is_heard() -> None:
    stt = ResilientSTT(candidates(Whole(fails=1, retryable=False)))
    told, ear = Told(stt.chain), Ear(stt)
    await ear.say("u1", 1.0)
    await asyncio.sleep(1)
    assert ear.texts() == [("u1", "")]
    (failure,) = ear.failed
    assert isinstance(failure, GaveUp)
    assert failure.incident is told.incidents[0]
    await ear.say("u2", 0.5)
    await asyncio.sleep(1)
    assert ear.texts() == [("u1", ""), ("u2", "0.5 seconds")]
    await ear.aclose()


@virtual_time
async def test_the_sound_is_told_again_in_the_others_rate() -> None:
    stt = ResilientSTT(candidates(ScriptedSTT([Heard("", failure="raise")]), Whole(sample_rate=8000)))
    ear = Ear(stt)
    await ear.say("u1", 1.0, level=1000)
    await asyncio.sleep(1)
    assert ear.texts() == [("u1", "1.0 seconds")]
    await ear.aclose()
    await stt.aclose()


@virtual_time
async def test_the_first_listens_again_once_it_is_well() -> None:
    first = ScriptedSTT([Heard("", failure="raise"), Heard("trial"), Heard("me again")])
    stt = ResilientSTT(candidates(first, second := Whole()))
    ear = Ear(stt)
    await ear.say("u1", 1.0)
    await asyncio.sleep(8)
    await ear.say("u2", 1.0)
    await asyncio.sleep(1)
    assert ear.texts() == [("u1", "1.0 seconds"), ("u2", "me again")]
    assert second.lengths == [1.0]
    await ear.aclose()
    await stt.aclose()


class Breaking(STT):
    """Says a word a second for good, and breaks after ``words`` of them."""

    def __init__(self, words: int) -> None:
        self._words = words
        self.streams: list[_Breaking] = []

    def stream(self) -> STTStream:
        self.streams.append(_Breaking(self._words))
        return self.streams[-1]


class _Breaking(STTStream):
    def __init__(self, words: int) -> None:
        self._left = words
        self._heard = 0.0
        self._said = 0
        self._ended = False
        self._wake = asyncio.Event()
        self.closed = False

    def push(self, frame: AudioFrame) -> None:
        self._heard += frame.duration if frame.pcm[0] else 0
        self._wake.set()

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        self._ended = False

    def end_of_speech(self, utterance: str) -> None:
        self._ended = True
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        while not self.closed:
            if self._said + 1 <= self._heard + 0.01:
                if self._left == self._said:
                    raise ProviderError("broken", provider="breaking")
                self._said += 1
                yield Transcript(f"word{self._said}")
            elif self._ended:
                self._ended = False
                yield Transcript("")
            else:
                self._wake.clear()
                await self._wake.wait()

    async def aclose(self) -> None:
        self.closed = True
        self._wake.set()


@virtual_time
async def test_words_that_stand_are_not_said_again() -> None:
    stt = ResilientSTT(candidates(first := Breaking(2), second := Breaking(99)))
    ear = Ear(stt)
    await ear.say("u1", 4.0)
    await asyncio.sleep(1)
    assert [text for _, text in ear.texts() if text] == ["word1", "word2", "word3", "word4"]
    assert first.streams[0].closed
    assert len(second.streams) == 1
    await ear.aclose()
    assert second.streams[0].closed
    await stt.aclose()


@virtual_time
async def test_what_is_kept_is_bounded() -> None:
    stt = ResilientSTT(candidates(Whole()))
    stream = stt.stream()
    stream.start_of_speech("u1", at=0.0)
    for number in range(2000):
        stream.push(AudioFrame(np.ones(1600, dtype=np.int16), 16000, number / 10))
    memory = stream._sound  # type: ignore[attr-defined]
    assert memory._held <= LONGEST
    stream.end_of_speech("u1")
    texts = [heard.text async for heard in _first(stream)]
    assert texts == ["200.0 seconds"]
    assert memory._held <= 3.1
    await stream.aclose()


async def _first(stream: STTStream) -> AsyncIterator[Transcript]:
    async for heard in stream:
        yield heard
        return


@virtual_time
async def test_a_reader_that_is_cancelled_leaves_nothing() -> None:
    stt = ResilientSTT(candidates(Whole()))
    ear = Ear(stt)
    await ear.say("u1", 1.0)
    ear._reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ear._reading
    await ear.stream.aclose()
