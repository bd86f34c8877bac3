"""The microphone and the loudspeaker of tests, in virtual time and to the sample."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import numpy as np
import pytest

from greenroom.audio import AudioFrame, Pcm, rms
from greenroom.errors import LocalProtocolError
from greenroom.session.media import AudioInput, AudioOutput
from greenroom.testing.loopback import LoopbackInput, LoopbackOutput
from greenroom.testing.virtual_time import virtual_time

RATE = 24_000


def ramp(seconds: float, *, start: int = 1) -> Pcm:
    """Samples that count up, so that each can be told from the others."""
    return np.arange(start, start + round(seconds * RATE)).astype(np.int16)


async def collect(microphone: LoopbackInput, *, sample_rate: int = 16_000) -> list[tuple[float, AudioFrame]]:
    loop = asyncio.get_running_loop()
    async with aclosing(microphone.frames(sample_rate)) as frames:
        return [(loop.time(), frame) async for frame in frames]


@virtual_time
async def test_frames_arrive_in_real_time_with_exact_capture_times() -> None:
    microphone = LoopbackInput()
    quiet, voice, rest = microphone.silence(0.1), microphone.speak(0.25, amplitude=0.5), microphone.silence(0.1)
    microphone.end()
    got = await collect(microphone)
    assert len(got) == 15  # 0.45 s in frames of 32 ms, the last one filled up
    for n, (arrived, frame) in enumerate(got):
        assert len(frame.pcm) == 512
        assert frame.at == pytest.approx(n * 0.032, abs=1e-9)
        assert arrived == pytest.approx(frame.at + 0.032, abs=1e-9)
    samples = np.concatenate([frame.pcm for _, frame in got])
    assert not samples[:1600].any()
    assert rms(samples[1600:5600]) == pytest.approx(0.5 * 32767 / np.sqrt(2), rel=0.01)
    assert not samples[5600:].any()
    assert (quiet.start, quiet.end) == pytest.approx((0.0, 0.1))
    assert (voice.start, voice.end) == pytest.approx((0.1, 0.35))
    assert (rest.start, rest.end) == pytest.approx((0.35, 0.45))


@virtual_time
async def test_a_gap_is_time_without_frames() -> None:
    microphone = LoopbackInput()
    microphone.speak(0.064)
    gap = microphone.gap(0.1)
    microphone.speak(0.032)
    microphone.end()
    got = await collect(microphone)
    assert [frame.at for _, frame in got] == pytest.approx([0.0, 0.032, 0.192])
    assert (gap.start, gap.end) == pytest.approx((0.064, 0.192))


@virtual_time
async def test_after_the_script_comes_silence_and_later_words_are_heard() -> None:
    microphone = LoopbackInput()
    loop = asyncio.get_running_loop()
    loudness: list[float] = []

    async def listen() -> None:
        source: AudioInput = microphone
        async for frame in source.frames(16_000):
            loudness.append(rms(frame.pcm))  # noqa: PERF401  (the list is read while it grows)

    listener = asyncio.create_task(listen())
    await asyncio.sleep(1.0)
    assert len(loudness) == 31
    assert not any(loudness)
    word = microphone.speak(0.1)
    await word.played()
    assert word.start == pytest.approx(1.024)
    assert loop.time() == pytest.approx(1.152)
    microphone.end()
    await listener
    assert sum(each > 0 for each in loudness) == 4


@virtual_time
async def test_recordings_play_at_the_asked_rate() -> None:
    microphone = LoopbackInput()
    tone = np.asarray(10_000 * np.sin(2 * np.pi * 300 * np.arange(48_000) / 48_000), dtype=np.int16)
    microphone.play(tone, 48_000)
    microphone.end()
    samples = np.concatenate([frame.pcm for _, frame in await collect(microphone)])[:16_000]
    crossings = np.count_nonzero(np.diff((samples[100:15_900] > 0).astype(np.int8)) > 0)
    assert crossings / (15_800 / 16_000) == pytest.approx(300, abs=2)


@virtual_time
async def test_two_readers_are_refused_and_one_after_the_other_are_not() -> None:
    microphone = LoopbackInput()
    word = microphone.speak(1.0)
    async with aclosing(microphone.frames(16_000)) as frames:
        await anext(frames)
        with pytest.raises(LocalProtocolError):
            await anext(microphone.frames(16_000))
    assert word.end == pytest.approx(0.032)
    microphone.end()
    assert await collect(microphone) == []


@virtual_time
async def test_output_is_paced_and_remembers_what_was_heard() -> None:
    output, loop = LoopbackOutput(sample_rate=RATE), asyncio.get_running_loop()
    await asyncio.sleep(3)
    await output.push(ramp(1.0))
    assert loop.time() == pytest.approx(3.8)
    assert output.queued == pytest.approx(0.2)
    assert output.heard_seconds == pytest.approx(0.8)
    await asyncio.sleep(output.queued)
    assert output.queued == 0
    (heard,) = output.heard
    assert heard.at == 3
    assert np.array_equal(heard.pcm, ramp(1.0))


@virtual_time
async def test_clear_drops_exactly_what_has_not_left() -> None:
    output = LoopbackOutput(sample_rate=RATE)
    push = asyncio.create_task(output.push(ramp(1.0)))
    await asyncio.sleep(0.33)
    assert output.queued == pytest.approx(1.0 - 0.33)
    output.clear()
    assert output.queued == 0
    await push
    await asyncio.sleep(1)
    (heard,) = output.heard
    assert np.array_equal(heard.pcm, ramp(0.33))
    await output.push(ramp(0.1, start=500))
    await asyncio.sleep(1)
    assert [(round(each.at, 6), len(each.pcm)) for each in output.heard] == [(0.0, 7920), (1.33, 2400)]


@virtual_time
async def test_pushes_that_follow_in_time_are_one_stretch() -> None:
    output = LoopbackOutput(sample_rate=RATE)
    for n in range(10):
        await output.push(ramp(0.0301, start=n * 1000))
    await asyncio.sleep(1)
    (heard,) = output.heard
    assert len(heard.pcm) == 10 * 722


@virtual_time
async def test_two_voices_at_once_are_refused() -> None:
    output = LoopbackOutput(sample_rate=RATE)
    first = asyncio.create_task(output.push(ramp(1.0)))
    await asyncio.sleep(0.1)
    with pytest.raises(LocalProtocolError):
        await output.push(ramp(0.1))
    await first
    await asyncio.sleep(1)
    assert np.array_equal(output.heard[0].pcm, ramp(1.0))


@virtual_time
async def test_a_cancelled_push_frees_the_output() -> None:
    output = LoopbackOutput(sample_rate=RATE)
    push = asyncio.create_task(output.push(ramp(1.0)))
    await asyncio.sleep(0.1)
    push.cancel()
    output.clear()
    replacement = asyncio.create_task(output.push(ramp(0.05, start=9000)))
    await asyncio.sleep(1)
    assert push.cancelled()
    await replacement
    (heard,) = output.heard
    assert np.array_equal(heard.pcm, np.concatenate((ramp(0.1), ramp(0.05, start=9000))))


@virtual_time
async def test_ready_waits_for_a_listener() -> None:
    loopback, loop = LoopbackOutput(ready=False), asyncio.get_running_loop()
    output: AudioOutput = loopback
    loop.call_at(2.0, loopback.set_ready, True)
    await output.wait_ready()
    assert loop.time() == 2.0
