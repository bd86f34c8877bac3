"""The stream that a model of whole utterances gets for free."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.providers import BatchSTT, STTStream, Transcript
from greenroom.testing.virtual_time import virtual_time

RATE = 16000


class Lengths(BatchSTT):
    """Hears how many milliseconds an utterance has, in half of its time. ``failures`` come first."""

    def __init__(self, *failures: ProviderError) -> None:
        self.failures = list(failures)
        self.heard: list[AudioFrame] = []

    async def recognize(self, audio: AudioFrame) -> Transcript:
        self.heard.append(audio)
        await asyncio.sleep(audio.duration / 2)
        if self.failures:
            raise self.failures.pop(0)
        return Transcript(f"{round(1000 * audio.duration)}", final=False, language="en", confidence=0.5)


def push(stream: STTStream, start: float, seconds: float) -> None:
    """Frames of 20 ms whose samples are the number of their frame since time 0."""
    for number in range(round(start * 50), round((start + seconds) * 50)):
        stream.push(AudioFrame(np.full(RATE // 50, number, dtype=np.int16), RATE, number / 50))


@virtual_time
async def test_an_utterance_begins_where_the_mark_says() -> None:
    stt = Lengths()
    stream = stt.stream()
    push(stream, 0.0, 10.0)
    stream.start_of_speech("u1", at=9.0)
    push(stream, 10.0, 1.0)
    stream.end_of_speech("u1")
    transcripts = aiter(stream)
    assert await anext(transcripts) == Transcript("2000", utterance="u1", language="en", confidence=0.5)
    assert (stt.heard[0].at, stt.heard[0].pcm[0], stt.heard[0].pcm[-1]) == (9.0, 450, 549)
    push(stream, 11.0, 0.5)
    stream.start_of_speech("u2", at=11.2)
    push(stream, 11.5, 0.5)
    stream.end_of_speech("u2")
    assert (await anext(transcripts)).text == "800"
    await stream.aclose()
    assert [transcript async for transcript in transcripts] == []


@virtual_time
async def test_only_so_much_is_kept_while_nobody_speaks() -> None:
    stt = Lengths()
    stream = stt.stream()
    push(stream, 0.0, 100.0)
    stream.start_of_speech("u1", at=0.0)
    stream.end_of_speech("u1")
    await anext(aiter(stream))
    assert 2.9 <= stt.heard[0].duration <= 3.1
    await stream.aclose()


@virtual_time
async def test_a_retryable_failure_is_tried_once_more_when_iterated_again() -> None:
    stt = Lengths(ProviderError("busy", provider="lengths", retryable=True))
    stream = stt.stream()
    stream.start_of_speech("u1", at=0.0)
    push(stream, 0.0, 1.0)
    stream.end_of_speech("u1")
    with pytest.raises(ProviderError, match="busy"):
        await anext(aiter(stream))
    assert (await anext(aiter(stream))).text == "1000"
    await stream.aclose()


@virtual_time
@pytest.mark.parametrize("retryable", [True, False])
async def test_an_utterance_that_cannot_be_had_ends_empty(retryable: bool) -> None:
    stt = Lengths(*(ProviderError("broken", provider="lengths", retryable=retryable) for _ in range(2)))
    stream = stt.stream()
    stream.start_of_speech("u1", at=0.0)
    push(stream, 0.0, 1.0)
    stream.end_of_speech("u1")
    for _ in range(2 if retryable else 1):
        with pytest.raises(ProviderError):
            await anext(aiter(stream))
    assert await anext(aiter(stream)) == Transcript("", utterance="u1")
    await stream.aclose()


@virtual_time
async def test_closing_ends_a_recognition_at_once_and_delivers_nothing() -> None:
    stt = Lengths()
    stream = stt.stream()
    stream.start_of_speech("u1", at=0.0)
    push(stream, 0.0, 3.0)
    stream.end_of_speech("u1")

    async def read() -> list[Transcript]:
        return [transcript async for transcript in stream]

    reading = asyncio.create_task(read())
    await asyncio.sleep(1.0)
    await stream.aclose()
    assert await reading == []
    assert asyncio.get_running_loop().time() == 1.0
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual_time
async def test_a_cancelled_reader_is_cancelled_though_the_stream_closes_too() -> None:
    stt = Lengths()
    stream = stt.stream()
    stream.start_of_speech("u1", at=0.0)
    push(stream, 0.0, 3.0)
    stream.end_of_speech("u1")
    reading = asyncio.ensure_future(anext(aiter(stream)))
    await asyncio.sleep(1.0)
    reading.cancel()
    await stream.aclose()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert asyncio.all_tasks() == {asyncio.current_task()}
