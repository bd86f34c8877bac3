"""A track's frames, as LiveKit's client hands them over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from livekit import rtc
from livekit.rtc import _ffi_client

from greenroom.audio import Pcm
from greenroom.room.stream import TrackStream
from tests.room.people import Record

RATE = 24_000
PATIENCE = 5.0


@asynccontextmanager
async def sounding(level: int) -> AsyncIterator[rtc.LocalAudioTrack]:
    """A track of which every sample has this value."""
    source = rtc.AudioSource(RATE, 1, queue_size_ms=400)
    track = rtc.LocalAudioTrack.create_audio_track("track", source)

    async def speak() -> None:
        piece = np.full(RATE // 20, level, dtype=np.int16)
        while True:
            await source.capture_frame(rtc.AudioFrame(piece.tobytes(), RATE, 1, len(piece)))

    speaking = asyncio.create_task(speak())
    try:
        yield track
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
        await source.aclose()


def loud(frames: list[Pcm]) -> list[Pcm]:
    """Without those before the source had anything, and the one in which it begins."""
    return [frame for frame in frames if frame.any()][1:]


async def until(frames: Record[Pcm], count: int) -> None:
    """So many of them are loud."""
    await frames.until(lambda taken: len(loud(taken)) >= count, timeout=PATIENCE)


async def test_each_stream_is_given_the_frames_of_its_own_track() -> None:
    ones, twos = Record[Pcm](), Record[Pcm]()
    async with sounding(1) as one, sounding(2) as two:
        streams = [
            TrackStream(one, sample_rate=RATE, frame_ms=20, take=ones.add),
            TrackStream(two, sample_rate=RATE, frame_ms=40, take=twos.add),
        ]
        await until(ones, 10)
        await until(twos, 5)
        for stream in streams:
            await stream.aclose()
    assert {len(frame) for frame in ones} == {RATE // 50}
    assert {len(frame) for frame in twos} == {RATE // 25}
    assert {int(sample) for frame in loud(ones) for sample in frame} == {1}
    assert {int(sample) for frame in loud(twos) for sample in frame} == {2}


async def test_nothing_is_taken_after_it_was_closed_and_nothing_is_left_behind() -> None:
    taken = Record[Pcm]()
    queue = _ffi_client.FfiClient.instance.queue
    async with sounding(7) as track:
        for _ in range(5):
            stream = TrackStream(track, sample_rate=RATE, frame_ms=10, take=taken.add)
            await until(taken, 3)
            closing = asyncio.create_task(stream.aclose())
            await asyncio.sleep(0)
            taken.clear()
            await asyncio.wait_for(closing, PATIENCE)
            await stream.aclose()  # it is closed already
            await asyncio.sleep(0.05)
            assert taken == []
        noticing = [getattr(wants, "__func__", None) for _, _, wants in queue._subscribers]
        assert TrackStream._noticed not in noticing


async def test_frames_are_not_the_clients_memory() -> None:
    """LiveKit's client uses its memory again, as soon as a frame was taken."""
    taken = Record[Pcm]()
    async with sounding(7) as track:
        stream = TrackStream(track, sample_rate=RATE, frame_ms=10, take=taken.add)
        await until(taken, 50)
        await stream.aclose()
    assert all(np.array_equal(frame, np.full(RATE // 100, 7)) for frame in loud(taken))
    with pytest.raises(ValueError, match="read-only"):
        taken[0][0] = 1


async def test_it_is_over_when_it_is_closed_and_not_before() -> None:
    async with sounding(1) as track:
        stream = TrackStream(track, sample_rate=RATE, frame_ms=10, take=lambda pcm: None)
        ended = asyncio.create_task(stream.ended())
        await asyncio.sleep(0.1)
        assert not ended.done()
        await stream.aclose()
        await asyncio.wait_for(ended, PATIENCE)


async def test_what_takes_and_fails_does_not_end_the_stream() -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    taken = Record[Pcm]()

    def take(pcm: Pcm) -> None:
        taken.add(pcm)
        raise LookupError

    async with sounding(1) as track:
        stream = TrackStream(track, sample_rate=RATE, frame_ms=10, take=take)
        await until(taken, 5)
        await stream.aclose()
    assert len(failures) == len(taken)
