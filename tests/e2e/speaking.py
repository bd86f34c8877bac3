"""The agent that ``test_speech`` rings, and the sound that it plays: both ends of the line know every sample of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from livekit import rtc

from greenroom import Agent, RunContext, function_tool, get_job_context
from greenroom.audio import AudioFrame, Pcm

RATE = 24_000
SIGNATURE = 9.0
"""Seconds of sound."""
VERDICT = "e2e.sent"
"""Topic on which the agent says whether all samples left, each once."""
NUMBERS = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
WORDS = (
    *("elephant", "football", "dolphin", "butterfly", "rabbit", "window", "purple", "turtle", "penguin", "yellow"),
    *("orange", "hospital", "kangaroo", "eagle", "summer", "strawberry", "banana", "umbrella", "giraffe", "coffee"),
)
"""A small transcriber can tell them all apart."""


def signature() -> Pcm:
    """Noise in the band of the telephone: no stretch of it is like any other, and a codec leaves it as it is."""
    size = round(SIGNATURE * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(7).normal(size=size))
    pitches = np.fft.rfftfreq(size, 1 / RATE)
    spectrum[(pitches < 300) | (pitches > 3400)] = 0
    noise = np.fft.irfft(spectrum, size)
    return np.asarray(noise / np.abs(noise).max() * 16_000, dtype=np.int16)


async def frames(pcm: Pcm) -> AsyncIterator[AudioFrame]:
    for start in range(0, len(pcm), RATE // 10):
        yield AudioFrame(pcm[start : start + RATE // 10], RATE)


@asynccontextmanager
async def listening(room: rtc.Room) -> AsyncIterator[list[Pcm]]:
    """What the agent's track is given to send, sample by sample."""
    left: list[Pcm] = []
    (publication,) = room.local_participant.track_publications.values()
    assert publication.track is not None
    stream = rtc.AudioStream.from_track(track=publication.track, sample_rate=RATE, num_channels=1)

    async def listen() -> None:
        async for event in stream:
            left.append(np.frombuffer(event.frame.data, dtype=np.int16).copy())  # noqa: PERF401  # it is cancelled

    task = asyncio.create_task(listen())
    try:
        yield left
    finally:
        task.cancel()
        await stream.aclose()


class Speaking(Agent):
    async def on_enter(self) -> None:
        self.session.say("Hello.")

    @function_tool
    async def play(self) -> None:
        """Play the sound that both ends know, and tell the caller what of it left this process."""
        sound = signature()
        async with listening(get_job_context().room) as left:
            await self.session.say("This is some music.", audio=frames(sound))
            await asyncio.sleep(0.2)
        sent = np.concatenate(left)
        sent, sound = sent[sent != 0], sound[sound != 0]
        verdict = f"exact {len(sent)}" if np.array_equal(sent, sound) else f"{len(sent)} samples of {len(sound)}"
        await get_job_context().room.local_participant.send_text(verdict, topic=VERDICT)

    @function_tool
    async def count(self) -> None:
        """Say twenty things, all at once."""
        for number, word in zip(NUMBERS, WORDS, strict=True):
            asyncio.create_task(self.session.say(f"Number {number}, {word}."))  # noqa: RUF006  # as people write it

    @function_tool
    async def end_call(self, ctx: RunContext) -> None:
        """Use this tool when the user has signaled they wish to end the current call."""
        await ctx.wait_for_playout()  # let the agent finish speaking
        await get_job_context().delete_room()
