"""A voice whose place others take when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.providers import TTS, SentenceTTS, SynthesizedAudio
from greenroom.providers.resilience.rules import GaveUp
from greenroom.providers.resilience.tts import ResilientTTS
from greenroom.testing.virtual_time import virtual_time
from tests.providers.resilience.models import Told, candidates, given, spoken

TEXT = ("This is the first sentence. ", "And this is the second one. ", "Here is the third.")


class Voice(SentenceTTS):
    """A tenth of a second a frame, ``pace`` seconds a character. ``fails``: in the frame of that number, of each
    speech in turn; ``None`` in none."""

    def __init__(
        self, *fails: int | None, how: str = "raise", sample_rate: int = 8000, level: int = 1000, pace: float = 0.065
    ) -> None:
        self.sample_rate = sample_rate
        self.said: list[str] = []
        self._fails = [*fails]
        self._how = how
        self._level = level
        self._pace = pace
        self._frames = 0

    async def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        self._frames = 0
        self._fail = self._fails.pop(0) if self._fails else None
        async with aclosing(super().synthesize(text)) as pieces:
            async for piece in pieces:
                yield piece

    async def speak(self, sentence: str) -> AsyncGenerator[AudioFrame, None]:
        self.said.append(sentence)
        for _ in range(max(1, round(len(sentence) * self._pace / 0.1))):
            if self._frames == self._fail:
                if self._how == "stall":
                    await asyncio.get_running_loop().create_future()
                raise ProviderError("cut off", provider="voice", retryable=self._how == "raise")
            self._frames += 1
            await asyncio.sleep(0.01)
            yield AudioFrame(np.full(self.sample_rate // 10, self._level, dtype=np.int16), self.sample_rate)


def words(pieces: list[SynthesizedAudio]) -> str:
    return "".join(piece.text for piece in pieces)


def seconds(pieces: list[SynthesizedAudio]) -> float:
    return sum(piece.frame.duration for piece in pieces)


@virtual_time
async def test_a_voice_that_never_began_is_no_loss() -> None:
    first, second = Voice(0, how="refuse"), Voice()
    tts = ResilientTTS(candidates(first, second))
    told = Told(tts.chain)
    pieces = await spoken(tts, TEXT)
    assert words(pieces) == "".join(TEXT)
    assert told.actions() == [("a", "refused", "fell_back", "b")]
    assert second.said == [text.strip() for text in TEXT]
    await tts.aclose()


@virtual_time
async def test_a_sentence_that_breaks_off_is_begun_again() -> None:
    """The first sentence has 18 frames; the voice breaks in the fifth of the second."""
    for how, fault in (("raise", "cut"), ("stall", "stall")):
        first, second = Voice(22, how=how), Voice()
        tts = ResilientTTS(candidates(first, second))
        told = Told(tts.chain)
        pieces = await spoken(tts, TEXT)
        assert words(pieces) == "".join(TEXT)  # each word is told once
        spoken_by_second = [text.strip() for text in TEXT[1:]]
        if fault == "stall":
            assert told.actions() == [("a", "stall", "fell_back", "b")]
            assert second.said == spoken_by_second
        else:
            assert told.actions() == [("a", "cut", "retried", "a")]
            assert first.said[-2:] == spoken_by_second
        assert seconds(pieces) == pytest.approx(
            22 * 0.1 + sum(round(len(text.strip()) * 0.65) for text in TEXT[1:]) / 10
        )
        await tts.aclose()


@virtual_time
async def test_a_sentence_that_was_said_is_not_said_again() -> None:
    first, second = Voice(18, how="refuse"), Voice()
    tts = ResilientTTS(candidates(first, second))
    assert words(await spoken(tts, TEXT)) == "".join(TEXT)
    assert second.said == [text.strip() for text in TEXT[1:]]
    await tts.aclose()


@virtual_time
async def test_silence_in_place_of_a_speech() -> None:
    first, second = Voice(level=0), Voice()
    tts = ResilientTTS(candidates(first, second))
    told = Told(tts.chain)
    pieces = await spoken(tts, ("Hello.",))
    assert told.actions() == [("a", "silence", "retried", "a"), ("a", "silence", "fell_back", "b")]
    assert (words(pieces), second.said) == ("Hello.", ["Hello."])
    assert all(np.any(piece.frame.pcm) for piece in pieces)
    long = ResilientTTS(candidates(silent := Voice(level=0)))
    with pytest.raises(GaveUp, match="3 s of silence"):
        await spoken(long, (TEXT[0] * 4,))
    assert len(silent.said) == 4  # two of the sentences, twice
    await tts.aclose()


@virtual_time
async def test_what_has_no_words_needs_no_sound() -> None:
    tts = ResilientTTS(candidates(Voice(0)))
    told = Told(tts.chain)
    assert words(await spoken(tts, ("...",))) == "..."
    assert await spoken(tts, ()) == []
    assert told.actions() == []


@virtual_time
async def test_another_rate_becomes_the_first_ones() -> None:
    tts = ResilientTTS(candidates(Voice(0, how="refuse"), Voice(sample_rate=16000)))
    pieces = await spoken(tts, TEXT)
    assert {piece.frame.sample_rate for piece in pieces} == {8000}
    assert seconds(pieces) == pytest.approx(1.8 + 1.8 + 1.2)
    await tts.aclose()


@virtual_time
async def test_a_voice_is_not_late_while_the_text_is() -> None:
    async def slow() -> AsyncIterator[str]:
        yield "Let me "
        await asyncio.sleep(30)
        yield "see. Yes."

    tts = ResilientTTS(candidates(Voice()))
    told = Told(tts.chain)
    async with aclosing(tts.synthesize(slow())) as pieces:
        assert words([piece async for piece in pieces]) == "Let me see. Yes."
    assert told.actions() == []


class Unlabelled(TTS):
    """Does not say which words are where, and breaks off after a second."""

    sample_rate = 8000

    def __init__(self) -> None:
        self.read: list[str] = []

    async def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        whole = "".join([part async for part in text])
        self.read.append(whole)
        for _ in range(10 if len(self.read) == 1 else 3):
            await asyncio.sleep(0.01)
            yield SynthesizedAudio(AudioFrame(np.full(800, 500, dtype=np.int16), 8000))
        if len(self.read) == 1:
            raise ProviderError("cut off", provider="voice", retryable=True)


@virtual_time
async def test_where_a_voice_is_that_does_not_say_is_estimated() -> None:
    tts = ResilientTTS(candidates(voice := Unlabelled()))
    pieces = await spoken(tts, ("One two three four five six seven.",))
    assert seconds(pieces) == pytest.approx(1.3)
    assert voice.read == ["One two three four five six seven.", "four five six seven."]
    labelled = ResilientTTS(candidates(Unlabelled(), Voice()))
    assert words(await spoken(labelled, ("One two three four five six seven.",))) == ""  # the session has them all
    await labelled.aclose()


@virtual_time
async def test_what_the_text_raises_is_raised() -> None:
    async def broken() -> AsyncIterator[str]:
        yield "Hello. "
        raise LookupError("no more")

    tts = ResilientTTS(candidates(Voice()))
    with pytest.raises(LookupError):
        async with aclosing(tts.synthesize(broken())) as pieces:
            [piece async for piece in pieces]


@virtual_time
async def test_whoever_stops_listening_stops_all() -> None:
    read: list[str] = []

    async def endless() -> AsyncIterator[str]:
        while True:
            read.append("Word after word. ")
            yield "Word after word. "

    tts = ResilientTTS(candidates(Voice()))
    async with aclosing(tts.synthesize(endless())) as pieces:
        await anext(pieces)
        await asyncio.sleep(5)
    assert len(read) < 5
    async with aclosing(tts.synthesize(given("Hello. "))) as pieces:
        await anext(pieces)
