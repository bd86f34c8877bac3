"""LiveKit's page on background audio: its snippets run, and what it promises of them holds."""

from __future__ import annotations

import ast
import asyncio
import os
from collections.abc import AsyncIterator
from inspect import isawaitable
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from greenroom import AgentSession, AudioConfig, BackgroundAudioPlayer, BuiltinAudioClip
from greenroom.audio import AudioFrame, rms, write_wav
from greenroom.testing.virtual_time import virtual_time
from tests.background.stage import RATE, LoopStage, played

NAMES = {
    "AudioConfig": AudioConfig,
    "BackgroundAudioPlayer": BackgroundAudioPlayer,
    "BuiltinAudioClip": BuiltinAudioClip,
    "asyncio": asyncio,
}
"""What the page imports from LiveKit's package."""

TWO_SOUNDS = """
background_audio = BackgroundAudioPlayer(
    ambient_sound=AudioConfig(BuiltinAudioClip.OFFICE_AMBIENCE, volume=0.8),
    thinking_sound=[
        AudioConfig(BuiltinAudioClip.KEYBOARD_TYPING, volume=0.8),
        AudioConfig(BuiltinAudioClip.KEYBOARD_TYPING2, volume=0.7),
    ],
)
"""
CUSTOM = """
background_audio = BackgroundAudioPlayer(
    ambient_sound="/path/to/my-custom-sound.mp3",
)
"""
ON_DEMAND = "background_audio = BackgroundAudioPlayer()"
START = "await background_audio.start(room=ctx.room, agent_session=session)"
CLOSE = "await background_audio.aclose()"
PLAY = 'background_audio.play("/path/to/my-custom-sound.mp3")'
AWAIT = 'await background_audio.play("/path/to/my-custom-sound.mp3")'
STOP = """
handle = background_audio.play("/path/to/my-custom-sound.mp3")
await(asyncio.sleep(1))
handle.stop() # Stop playback early
"""
FADE = """
handle = background_audio.play(
    AudioConfig(BuiltinAudioClip.OFFICE_AMBIENCE, volume=0.8, fade_in=1.0, fade_out=2.0)
)
await asyncio.sleep(5)

handle.stop()  # Starts a 2-second fade-out instead of stopping immediately
await handle.wait_for_playout()  # Returns after the fade-out completes
"""
CHOICE = """
background_audio.play([
    AudioConfig(BuiltinAudioClip.KEYBOARD_TYPING, volume=0.8, probability=0.8),
    AudioConfig(BuiltinAudioClip.KEYBOARD_TYPING2, volume=0.7, probability=0.2),
])
"""


class Page:
    """What the snippets leave behind for each other, in a room; ``sound``: the file that they speak of."""

    def __init__(self, stage: LoopStage, sound: Path) -> None:
        self.stage = stage
        self._sound = sound
        self.names: dict[str, Any] = {**NAMES, "ctx": SimpleNamespace(room=stage), "session": AgentSession()}

    async def run(self, source: str) -> None:
        source = source.replace("/path/to/my-custom-sound.mp3", os.fspath(self._sound))
        code = compile(source, "<snippet>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        result = FunctionType(code, self.names)()
        if isawaitable(result):
            await result

    def heard(self, seconds: float) -> float:
        """How loud it was in the last so many seconds."""
        now = asyncio.get_running_loop().time()
        return rms(self.stage.source.heard(now - seconds, now - 0.02))


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Three seconds of one level."""
    path = tmp_path / "my-custom-sound.wav"
    write_wav(path, AudioFrame(np.full(3 * RATE, 2000, dtype=np.int16), RATE))
    return path


@virtual_time
async def test_an_ambient_clip_plays_from_start_to_aclose(sound: Path) -> None:
    async with played() as stage:
        page = Page(stage, sound)
        await page.run(TWO_SOUNDS)
        await page.run(START)
        await asyncio.sleep(20)  # longer than the clip: it is looped
        assert page.heard(0.5) > 100
        await page.run(CLOSE)
        await asyncio.sleep(1)
        assert page.heard(0.5) < 1


@virtual_time
async def test_a_custom_ambient_sound_is_looped(sound: Path) -> None:
    async with played() as stage:
        page = Page(stage, sound)
        await page.run(CUSTOM)
        await page.run(START)
        await asyncio.sleep(10)
        assert page.heard(9.0) == pytest.approx(2000, abs=2)


@virtual_time
async def test_a_sound_on_demand_is_awaited_or_stopped(sound: Path) -> None:
    loop = asyncio.get_running_loop()
    async with played() as stage:
        page = Page(stage, sound)
        await page.run(ON_DEMAND)
        await page.run(START)
        await page.run(PLAY)
        await asyncio.sleep(1)
        assert page.heard(0.5) == pytest.approx(2000, abs=2)
        await asyncio.sleep(3)
        began = loop.time()
        await page.run(AWAIT)
        assert loop.time() - began == pytest.approx(3.0, abs=0.05)
        await page.run(STOP)
        await asyncio.sleep(0.6)
        assert page.heard(0.5) < 1
        assert page.names["handle"].done()


@virtual_time
async def test_a_fade_out_begins_with_stop_and_ends_the_handle(sound: Path) -> None:
    loop = asyncio.get_running_loop()
    async with played() as stage:
        page = Page(stage, sound)
        await page.run(ON_DEMAND)
        await page.run(START)
        began = loop.time()
        await page.run(FADE)
        assert loop.time() - began == pytest.approx(7.0, abs=0.05)
        first, middle, last = (rms(stage.source.heard(began + at, began + at + 0.5)) for at in (0.05, 3.0, 6.4))
        assert first < 0.6 * middle
        assert last < 0.6 * middle


@virtual_time
async def test_one_of_several_clips_is_played(sound: Path) -> None:
    async with played() as stage:
        page = Page(stage, sound)
        await page.run(ON_DEMAND)
        await page.run(START)
        await page.run(CHOICE)
        await asyncio.sleep(2)
        assert page.heard(1.8) > 50


@virtual_time
async def test_raw_frames_are_played(sound: Path) -> None:
    from livekit import rtc

    async def frames() -> AsyncIterator[rtc.AudioFrame]:
        for _ in range(50):
            yield rtc.AudioFrame(np.full(480, 3000, dtype=np.int16).tobytes(), 48_000, 1, 480)

    async with played() as stage:
        page = Page(stage, sound)
        await page.run(ON_DEMAND)
        await page.run(START)
        page.names["frames"] = frames()
        await page.run("await background_audio.play(frames)")
        assert np.count_nonzero(stage.source.pcm > 2500) / RATE == pytest.approx(0.5, abs=0.03)
