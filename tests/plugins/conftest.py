"""Real speech for the local plugins, spoken by one of them and heard by the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import numpy as np
import pytest

from greenroom.audio import AudioFrame
from greenroom.testing.contract import Speech
from greenroom_plugins.piper import PiperOptions, PiperTTS

Say = Callable[[str], AudioFrame]


@pytest.fixture(scope="session")
def voice() -> PiperTTS:
    """Piper with its packaged voice, loaded. It says a text in the same way in every run of the tests."""
    tts = PiperTTS(PiperOptions(variation=0))
    tts.load()
    return tts


@pytest.fixture(scope="session")
def say(voice: PiperTTS) -> Say:
    """Speaks a text; one frame at the voice's own rate."""

    async def spoken(text: str) -> AudioFrame:
        async def whole() -> AsyncIterator[str]:
            yield text

        async with aclosing(voice.synthesize(whole())) as pieces:
            return AudioFrame(np.concatenate([piece.frame.pcm async for piece in pieces]), voice.sample_rate)

    return lambda text: asyncio.run(spoken(text))


@pytest.fixture(scope="session")
def question(say: Say) -> Speech:
    """A short question with silence around it, as a session cuts it out."""
    frame = say("Hello there, what time is it?")
    quiet = np.zeros(round(0.4 * frame.sample_rate), dtype=np.int16)
    return Speech(
        AudioFrame(np.concatenate([quiet, frame.pcm, quiet]), frame.sample_rate), "hello there what time is it"
    )
