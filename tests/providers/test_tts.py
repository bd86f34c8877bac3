"""What a voice that speaks sentence by sentence gets for free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest

from greenroom.audio import AudioFrame
from greenroom.providers import SentenceTTS
from greenroom.testing.virtual_time import virtual_time


class Counting(SentenceTTS):
    """Two frames for each sentence, of as many samples as it has characters."""

    sample_rate = 8000

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.closed = 0

    async def speak(self, sentence: str) -> AsyncGenerator[AudioFrame, None]:
        self.begun.append(sentence)
        try:
            for _ in range(2):
                await asyncio.sleep(0.1)
                yield AudioFrame(np.ones(len(sentence), dtype=np.int16), self.sample_rate)
        finally:
            self.closed += 1


async def pieces(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


async def made(tts: SentenceTTS, *texts: str) -> list[tuple[int, str, bool]]:
    async with aclosing(tts.synthesize(pieces(*texts))) as audio:
        return [(len(piece.frame.pcm), piece.text, piece.aligned) async for piece in audio]


@virtual_time
async def test_the_first_frame_of_a_sentence_carries_its_words() -> None:
    tts = Counting()
    assert await made(tts, "Hello there. How", " are you today? ") == [
        (12, "Hello there. ", True),
        (12, "", False),
        (18, "How are you today? ", True),
        (18, "", False),
    ]
    assert tts.begun == ["Hello there.", "How are you today?"]


@virtual_time
async def test_text_without_words_is_not_spoken_and_not_lost() -> None:
    tts = Counting()
    assert await made(tts, "... ", "Hello there. ", "👋!") == [
        (12 + 4, "... Hello there. ", True),
        (12 + 4, "", False),
        (0, "👋!", False),
    ]
    assert await made(tts, " \n") == [(0, " \n", False)]
    assert await made(tts) == []


@virtual_time
async def test_the_next_sentence_is_not_begun_before_it_is_asked_for() -> None:
    tts = Counting()
    audio = tts.synthesize(pieces("This is the first one. This is the second one. "))
    await anext(audio)
    await asyncio.sleep(10)
    assert tts.begun == ["This is the first one."]
    await audio.aclose()
    assert (tts.begun, tts.closed) == (["This is the first one."], 1)


@virtual_time
async def test_a_cancelled_reader_ends_the_sentence() -> None:
    tts = Counting()
    reading = asyncio.create_task(made(tts, "This is the first one. This is the second one. "))
    await asyncio.sleep(0.15)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (tts.begun, tts.closed) == (["This is the first one."], 1)


@virtual_time
async def test_the_first_clause_begins_the_sound() -> None:
    tts = Counting()
    tts.first_clause = 20
    await made(tts, "I can help you with that, and then, if you like, with more. And so on, and on.")
    assert tts.begun == ["I can help you with that,", "and then, if you like, with more.", "And so on, and on."]
