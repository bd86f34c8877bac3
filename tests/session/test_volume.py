"""How loud the agent is: for all, for one speech, and while it is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from livekit import rtc

from greenroom import Agent, AgentSession, ModelSettings
from greenroom.audio import AudioFrame, Pcm
from greenroom.session.session import SessionOptions
from greenroom.testing.loopback import LoopbackOutput
from greenroom.testing.providers import ScriptedTTS
from greenroom.testing.realtime import Response, ScriptedRealtime
from greenroom.testing.virtual_time import virtual_time

from .stage import Scene, scene

RATE = 24_000
TONE = 8000
"""The peak of what ``ScriptedTTS`` speaks."""
STEP = TONE * 2 * np.pi * 440 / RATE + 2
"""The most that two neighbouring samples of it differ."""


def heard(out: LoopbackOutput) -> Pcm:
    return np.concatenate([frame.pcm for frame in out.heard])


def peak(pcm: Pcm, begin: float, end: float) -> int:
    return int(np.abs(pcm[round(begin * RATE) : round(end * RATE)].astype(np.int32)).max())


def assert_no_click(pcm: Pcm) -> None:
    assert np.abs(np.diff(pcm.astype(np.int32))).max() <= STEP


@virtual_time
async def test_a_speech_has_its_volume_times_the_sessions() -> None:
    async with scene(options=SessionOptions(volume=0.5), answers=["So it is."]) as s:
        await s.session.say("Hello there.", volume=0.5)
        assert peak(heard(s.out), 0.0, 0.7) == pytest.approx(TONE / 4, abs=2)
        handle = await s.session.generate_reply(volume=0.1)
        assert handle.volume == 0.1
        assert peak(heard(s.out), 0.8, 1.2) == pytest.approx(TONE / 20, abs=2)


@virtual_time
async def test_it_can_be_changed_while_it_is_heard_and_does_not_click() -> None:
    async with scene(tts=ScriptedTTS(durations=[4.0])) as s:
        handle = s.session.say("A long story.")
        await asyncio.sleep(1.0)
        handle.volume = 0.25
        await asyncio.sleep(1.0)
        s.session.volume = 0.0
        await asyncio.sleep(1.0)
        s.session.volume = 1.0
        await handle
        pcm = heard(s.out)
        assert_no_click(pcm)
        assert peak(pcm, 0.0, 0.9) == TONE
        assert peak(pcm, 1.4, 1.9) == pytest.approx(TONE / 4, abs=2)
        assert peak(pcm, 2.4, 2.9) == 0
        assert peak(pcm, 3.4, 3.9) == pytest.approx(TONE / 4, abs=2)
        assert handle.heard_seconds == 4.0, "however loud, every sample is heard once"
        assert handle.heard_text == "A long story."


@virtual_time
async def test_an_interruption_in_the_middle_of_a_change_does_not_click() -> None:
    async with scene(tts=ScriptedTTS(durations=[4.0])) as s:
        handle = s.session.say("A long story.")
        await asyncio.sleep(1.0)
        handle.volume = 0.0
        await asyncio.sleep(0.21)
        s.session.interrupt()
        await handle
        assert_no_click(heard(s.out))


@virtual_time
async def test_a_speech_that_waits_can_be_set_before() -> None:
    async with scene() as s:
        first, second = s.session.say("One sentence."), s.session.say("Another one.")
        second.volume = 0.5
        await first
        length = len(heard(s.out)) / RATE
        await second
        assert peak(heard(s.out), length, length + 0.5) == pytest.approx(TONE / 2, abs=2)


@virtual_time
async def test_audio_of_the_callers_own_has_it_too() -> None:
    async def frames() -> AsyncIterator[AudioFrame]:
        yield AudioFrame(np.full(RATE, 1000, dtype=np.int16), RATE)

    async with scene() as s:
        await s.session.say(audio=frames(), volume=0.5)
        assert peak(heard(s.out), 0.0, 1.0) == 500


@virtual_time
async def test_silence_that_was_asked_for_is_no_dead_air() -> None:
    async with scene(tts=ScriptedTTS(durations=[12.0])) as s:
        s.session.volume = 0.0
        handle = await s.session.say("A very long story.")
        assert handle.heard_seconds == 12.0
        assert dead_air(s) == []


def dead_air(s: Scene) -> list[float]:
    return s.times("dead_air")


@virtual_time
async def test_volumes_that_are_none_are_refused() -> None:
    async with scene() as s:
        for volume in (-0.1, 4.1, float("nan")):
            with pytest.raises(ValueError, match="expected 0"):
                s.session.say("Hello.", volume=volume)
            with pytest.raises(ValueError, match="expected 0"):
                s.session.volume = volume
        assert s.session.volume == 1.0
    with pytest.raises(ValueError, match="expected 0"):
        async with scene(options=SessionOptions(volume=9.0)):
            pass


class Adjustable(Agent):
    """As on LiveKit's page: a volume of its own from 0 to 100, applied to LiveKit's frames in the agent's nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.volume = 50

    async def tts_node(self, text: AsyncIterable[str], model_settings: ModelSettings) -> AsyncIterable[rtc.AudioFrame]:
        return self._adjusted(Agent.default.tts_node(self, text, model_settings))

    async def realtime_audio_output_node(
        self, audio: AsyncIterable[AudioFrame], model_settings: ModelSettings
    ) -> AsyncIterable[rtc.AudioFrame]:
        return self._adjusted(Agent.default.realtime_audio_output_node(self, audio, model_settings))

    async def _adjusted(self, audio: AsyncIterable[AudioFrame]) -> AsyncIterator[rtc.AudioFrame]:
        async for frame in audio:
            pcm = np.frombuffer(frame.data, dtype=np.int16).astype(np.float32) * self.volume / 100.0
            data = pcm.astype(np.int16).tobytes()
            yield rtc.AudioFrame(data, frame.sample_rate, frame.num_channels, frame.samples_per_channel)


@virtual_time
async def test_an_agents_own_volume_in_tts_node() -> None:
    agent = Adjustable()
    async with scene(agent=agent) as s:
        handle = await s.session.say("Hello there.")
        assert peak(heard(s.out), 0.0, 0.7) == pytest.approx(TONE / 2, abs=2)
        assert handle.heard_text == "Hello there."


@asynccontextmanager
async def realtime(model: ScriptedRealtime, agent: Agent) -> AsyncIterator[tuple[AgentSession, LoopbackOutput]]:
    session, out = AgentSession(llm=model), LoopbackOutput()
    await session.start(agent, audio_in=None, audio_out=out)
    try:
        yield session, out
    finally:
        await session.aclose("test over")


@virtual_time
async def test_an_agents_own_volume_of_a_realtime_model() -> None:
    async with realtime(ScriptedRealtime(["It is noon."]), Agent()) as (session, out):
        await session.generate_reply()
        full = peak(heard(out), 0.0, 0.6)
    async with realtime(ScriptedRealtime(["It is noon.", "Still."]), Adjustable()) as (session, out):
        handle = await session.generate_reply()
        assert peak(heard(out), 0.0, 0.6) == pytest.approx(full / 2, abs=2)
        assert handle.heard_text == "It is noon."
        assert handle.heard_seconds == pytest.approx(0.06 * len("It is noon."), abs=0.001)
        session.volume = 0.5
        length = len(heard(out)) / RATE
        await session.generate_reply()
        assert peak(heard(out), length, length + 0.3) == pytest.approx(full / 4, abs=2)


class Silent(Agent):
    def realtime_audio_output_node(self, audio: AsyncIterable[AudioFrame], model_settings: ModelSettings) -> None:
        return None


class Broken(Agent):
    async def realtime_audio_output_node(
        self, audio: AsyncIterable[AudioFrame], model_settings: ModelSettings
    ) -> AsyncIterator[AudioFrame]:
        async for frame in audio:
            yield frame
            raise ZeroDivisionError("one over nought")


@virtual_time
async def test_a_realtime_models_voice_can_be_left_out_and_a_node_that_fails_ends_its_speech() -> None:
    async with realtime(ScriptedRealtime(["Read this."]), Silent()) as (session, out):
        handle = await session.generate_reply()
        assert (handle.heard_text, out.heard) == ("Read this.", [])
    async with realtime(ScriptedRealtime(["Read this.", "And this."]), Broken()) as (session, out):
        handle = await session.generate_reply()
        assert str(handle.exception()) == "ZeroDivisionError: one over nought"
    model = ScriptedRealtime([Response("A long story that goes on and on.", real_time_factor=2.0)])
    async with realtime(model, Adjustable()) as (session, out):
        handle = session.generate_reply()
        await asyncio.sleep(1.0)
        session.interrupt()
        await handle
        await asyncio.sleep(0.1)
        assert model.closed_early == 1
