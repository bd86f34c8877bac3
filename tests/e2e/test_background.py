"""What a caller hears behind the agent's voice: the real server, real speech, the worker as in production.

Ambience and thinking sound are tones, told from each other and from the voice by their pitch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from livekit import rtc
from numpy.typing import NDArray

from greenroom.audio import AudioFrame, Pcm, write_wav
from greenroom.embedded.caller import AGENT_STATE, EAR_RATE, Caller
from greenroom.embedded.console import Entrance, open_room
from greenroom.embedded.measure import Ear

from .conftest import House, open_house, speak

pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]

CONFIG = Path(__file__).with_name("background.yaml")
AMBIENCE, THINKING = 3_100.0, 5_300.0
"""Hz."""
LOUD = 2_500.0
"""Of both tones."""
WINDOW = 0.1
WAY = 0.6
"""Seconds that a change may be on its way to the caller: jitter buffers, and a busy machine."""


def tone(pitch: float) -> AudioFrame:
    """A second of it, which loops without a seam."""
    return AudioFrame(np.asarray(LOUD * np.sin(2 * np.pi * pitch * np.arange(24_000) / 24_000), dtype=np.int16), 24_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("house")
    write_wav(folder / "ambience.wav", tone(AMBIENCE))
    write_wav(folder / "thinking.wav", tone(THINKING))
    async with open_house(folder, CONFIG, registrations=2) as house:
        yield house


class Listener(Caller):
    """Hears the second track too, and keeps when the agent's states came."""

    def __init__(self, entrance: Entrance) -> None:
        super().__init__(entrance, said=lambda *_: None)
        self.states: list[tuple[float, str]] = []
        self.behind = Ear(EAR_RATE)
        self._room.on("participant_attributes_changed", self._note)
        self._room.on("track_subscribed", self._listen_behind)

    def _note(self, changed: dict[str, str], _participant: rtc.Participant) -> None:
        if state := changed.get(AGENT_STATE):
            self.states.append((time.monotonic(), state))

    def _listen_behind(self, track: rtc.Track, publication: rtc.RemoteTrackPublication, *_: object) -> None:
        if publication.name == "background_audio" and isinstance(track, rtc.RemoteAudioTrack):
            self._spawn(self._hear_behind(track), name="second ear")

    async def _hear_behind(self, track: rtc.RemoteAudioTrack) -> None:
        stream = rtc.AudioStream(track, sample_rate=EAR_RATE, num_channels=1, frame_size_ms=10)
        try:
            async for event in stream:
                pcm: Pcm = np.frombuffer(event.frame.data, dtype=np.int16).copy()
                self.behind.hear(pcm, arrival=time.monotonic())
        finally:
            await stream.aclose()

    async def reaches(self, state: str, *, after: float, timeout: float) -> float:
        """When the agent was first in a state after that."""
        async with asyncio.timeout(timeout):
            while True:
                for when, each in self.states:
                    if each == state and when >= after:
                        return when
                await self._pause()


@dataclass
class Recording:
    """What one ear heard, and how loud a tone is in it at a time."""

    pcm: Pcm
    began: float

    @staticmethod
    def of(ear: Ear) -> Recording:
        pcm = ear.recording()
        assert ear._end is not None, "nothing was heard"
        return Recording(pcm, ear._end - len(pcm) / EAR_RATE)

    def loudness(self, pitch: float, start: float, end: float) -> NDArray[np.float64]:
        """The amplitude of a tone in each window between two times."""
        size = round(WINDOW * EAR_RATE)
        first, last = (round((when - self.began) * EAR_RATE) for when in (start, end))
        wave = np.hanning(size) * np.exp(-2j * np.pi * pitch * np.arange(size) / EAR_RATE)
        places = range(max(first, 0), min(last, len(self.pcm)) - size, size)
        windows = [abs(np.dot(self.pcm[at : at + size], wave)) * 4 / size for at in places]
        assert windows, "nothing was recorded then"
        return np.asarray(windows)


@pytest.mark.parametrize("track", ["own", "mixed"])
async def test_ambience_ducks_under_speech_and_thinking_sounds_with_the_state(house: House, track: str) -> None:
    entrance = open_room(house.server, agent=track, prefix="e2e", identity="caller")
    async with Listener(entrance) as caller:
        joined = await caller.wait_for_agent(timeout=20.0)
        greeted = await caller.reaches("speaking", after=joined - 5, timeout=20.0)
        await caller.reaches("listening", after=greeted, timeout=20.0)
        await asyncio.sleep(2.5)
        asked = await speak(caller, "When does the museum open?")
        thinking = await caller.reaches("thinking", after=asked.began, timeout=20.0)
        speaking = await caller.reaches("speaking", after=thinking, timeout=20.0)
        silent = await caller.reaches("listening", after=speaking, timeout=30.0)
        await asyncio.sleep(2.5)
    voice = Recording.of(caller.ear)
    heard = Recording.of(caller.behind) if track == "own" else voice

    def level(pitch: float, start: float, end: float) -> float:
        return float(np.median(heard.loudness(pitch, start, end)))

    quiet = level(AMBIENCE, asked.began - 1.5, asked.began)
    ducked = level(AMBIENCE, speaking + WAY, silent - 0.2)
    back = level(AMBIENCE, silent + WAY + 0.5, silent + 2.4)
    clatter = level(THINKING, thinking + WAY, speaking - 0.1)
    print(  # noqa: T201  # the figures of the recording
        f"\n{track}: ambience {quiet:.0f}, under speech {ducked:.0f}, after it {back:.0f}; thinking {clatter:.0f} for "
        f"{speaking - thinking:.1f} s, before it {level(THINKING, thinking - 2.0, thinking - 1.0):.0f}, "
        f"under speech {level(THINKING, speaking + WAY, silent):.0f}"
    )
    assert quiet == pytest.approx(LOUD, rel=0.25)
    assert ducked == pytest.approx(0.2 * LOUD, rel=0.4)
    assert back == pytest.approx(LOUD, rel=0.25)
    assert speaking - thinking > 2.0
    assert clatter == pytest.approx(LOUD, rel=0.25)
    assert level(THINKING, thinking - 2.0, thinking - 1.0) < 0.05 * LOUD  # its name may come later than its sound
    assert level(THINKING, speaking + WAY, silent) < 0.08 * LOUD
    if track == "own":
        for pitch, start, end in ((AMBIENCE, silent + 1.0, silent + 2.4), (THINKING, thinking + WAY, speaking - 0.1)):
            assert np.median(voice.loudness(pitch, start, end)) < 0.02 * LOUD
    else:
        assert caller.behind.last_audible is None
    said = caller.transcript.text("agent", since=asked.ended)
    assert "opens at nine" in said
