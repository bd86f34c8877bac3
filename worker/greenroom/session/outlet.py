"""What a realtime model says, on its way through ``realtime_audio_output_node``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any, TypeAlias

from greenroom.audio import AudioFrame, to_mono
from greenroom.providers.realtime import RealtimeChunk
from greenroom.session.agent import Agent
from greenroom.session.nodes import ModelSettings, opened

__all__ = ["through_node"]

AHEAD = 64
"""Frames that may wait for the node, or chunks for whoever reads: then the model waits."""
NODE = "realtime_audio_output_node"

Sound: TypeAlias = asyncio.Queue[AudioFrame | None]
Out: TypeAlias = asyncio.Queue[RealtimeChunk | BaseException | None]


async def through_node(
    agent: Agent, answer: AsyncGenerator[RealtimeChunk, None]
) -> AsyncGenerator[RealtimeChunk, None]:
    """An answer whose sound goes through the agent's node; words and calls of tools pass it by.

    Raises what either raises. Closing it closes both.
    """
    sound: Sound = asyncio.Queue(AHEAD)
    out: Out = asyncio.Queue(AHEAD)
    loop = asyncio.get_running_loop()
    tasks = [
        loop.create_task(_until_over(_read(answer, sound, out), out), name="answer of a realtime model"),
        loop.create_task(_until_over(_play(agent, sound, out), out), name=NODE),
    ]
    over = 0
    try:
        while over < len(tasks):
            item = await out.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                over += 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_over(work: Coroutine[Any, Any, None], out: Out) -> None:
    try:
        await work
    except Exception as error:  # noqa: BLE001  # handed to whoever reads the answer
        await out.put(error)
    else:
        await out.put(None)


async def _read(
    answer: AsyncGenerator[RealtimeChunk, None],
    sound: Sound,
    out: Out,
) -> None:
    async with aclosing(answer):
        async for chunk in answer:
            if isinstance(chunk, AudioFrame):
                await sound.put(chunk)
            else:
                await out.put(chunk)
    await sound.put(None)


async def _play(agent: Agent, sound: Sound, out: Out) -> None:
    frames = _frames(sound)
    async with aclosing(opened(agent.realtime_audio_output_node(frames, ModelSettings()), NODE)) as played:
        async for frame in played:
            ready = frame if isinstance(frame, AudioFrame) else AudioFrame(to_mono(frame), frame.sample_rate)
            await out.put(ready)
    async for _ in frames:  # what it did not want to hear
        pass


async def _frames(sound: Sound) -> AsyncIterator[AudioFrame]:
    while (frame := await sound.get()) is not None:
        yield frame
