"""The models of known delays: exact in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np

from greenroom.audio import AudioFrame, Pcm, rms
from greenroom.dialog.history import Message
from greenroom.providers import ChatContext, TextDelta, Transcript
from greenroom.testing.fakes import FakeLLM, FakeSTT, FakeTTS
from greenroom.testing.virtual_time import virtual_time

RATE = 16_000
FRAME = 0.05


def frame(level: float, *, seconds: float = FRAME, voiced: float = 1.0) -> AudioFrame:
    """A tone whose RMS is ``level``, in the first ``voiced`` part of it."""
    pcm: Pcm = np.zeros(round(seconds * RATE), dtype=np.int16)
    count = round(len(pcm) * voiced)
    pcm[:count] = np.round(level * np.sqrt(2) * np.sin(2 * np.pi * 400 * np.arange(count) / RATE))
    return AudioFrame(pcm, RATE)


async def hear(frames: list[AudioFrame], *, until: float) -> list[tuple[float, Transcript]]:
    """What is heard, and when, of frames that come one each ``FRAME``."""
    loop = asyncio.get_running_loop()
    stream, found = FakeSTT().stream(), []

    async def read() -> None:
        async for transcript in stream:
            found.append((round(loop.time(), 6), transcript))  # noqa: PERF401  # the times are what is wanted

    reading = asyncio.create_task(read())
    for each in frames:
        await asyncio.sleep(FRAME)
        stream.push(each)
    await asyncio.sleep(until - loop.time())
    await stream.aclose()
    await reading
    return found


@virtual_time
async def test_words_come_so_long_after_the_last_voiced_piece() -> None:
    frames = [*[frame(1000)] * 4, frame(1000, voiced=0.4), *[frame(0)] * 4]
    found = await hear(frames, until=2)
    # The fifth frame came at 0.25; its voice ended 30 ms before that.
    assert found == [(0.42, Transcript("turn 1"))]


@virtual_time
async def test_each_turn_has_its_number_and_what_is_quiet_is_none() -> None:
    turn = [*[frame(1000)] * 2, *[frame(0)] * 8]
    found = await hear([*turn, *turn, *[frame(200)] * 10, *turn], until=5)
    assert [heard.text for _, heard in found] == ["turn 1", "turn 2", "turn 3"]


@virtual_time
async def test_two_voiced_pieces_are_no_speech() -> None:
    assert await hear([frame(1000, voiced=0.4), *[frame(0)] * 8], until=2) == []


@virtual_time
async def test_the_model_repeats_what_was_said_on_its_schedule() -> None:
    loop = asyncio.get_running_loop()
    context = ChatContext([Message("1", "user", "turn 7")])
    found = []
    async for chunk in FakeLLM().chat(context):
        assert isinstance(chunk, TextDelta)
        found.append((round(loop.time(), 6), chunk.text))
        await asyncio.sleep(0.004)  # whoever reads is busy: the schedule stays
    assert found[0] == (0.1, "reply")
    assert [at for at, _ in found] == [round(0.1 + 0.005 * number, 6) for number in range(12)]
    assert "".join(text for _, text in found) == "reply to turn 7 with some more words to speak aloud now"


async def _text(*parts: str, gap: float = 0.0) -> AsyncIterator[str]:
    for part in parts:
        await asyncio.sleep(gap)
        yield part


@virtual_time
async def test_the_voice_is_a_tone_of_its_length_on_its_schedule() -> None:
    loop = asyncio.get_running_loop()
    times, frames, text = [], [], ""
    async for audio in FakeTTS(seconds=0.5).synthesize(_text("one ", "two ", "three", gap=0.03)):
        times.append(round(loop.time(), 6))
        frames.append(audio.frame.pcm)
        text += audio.text
    assert times == [0.08, 0.1, 0.12, 0.14, 0.16]  # 50 ms after the first word
    assert text == "one two three"
    pcm = np.concatenate(frames)
    assert len(pcm) == 12_000
    assert 8400 < rms(pcm) < 8500
    assert np.argmax(np.abs(np.fft.rfft(pcm))) / 0.5 == 440


@virtual_time
async def test_words_after_the_last_audio_are_told_too() -> None:
    voice = FakeTTS(seconds=0.1).synthesize(_text("one ", "two", gap=0.3))
    assert "".join([audio.text async for audio in voice]) == "one two"


@virtual_time
async def test_nothing_to_say_is_no_sound() -> None:
    assert [audio async for audio in FakeTTS().synthesize(_text())] == []


@virtual_time
async def test_a_voice_that_is_closed_stops() -> None:
    """The loop finds no task left."""
    async with aclosing(FakeTTS(seconds=10).synthesize(_text("one ", "two", gap=5))) as voice:
        await anext(voice)
