"""A spoken question gets an answer that is heard: the real media server, the worker as in production, and a model, ears
and a voice behind OpenAI's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from greenroom.audio import AudioFrame, Pcm, Resampler
from greenroom.embedded.caller import EAR_RATE
from greenroom_plugins.piper import PiperTTS
from greenroom_plugins.whisper import WhisperOptions, WhisperSTT
from tests.e2e.conftest import ask, open_house
from tests.e2e.test_speech import transcribed
from tests.plugins.openai.server import RATE, OpenAIServer, Said

pytestmark = [pytest.mark.e2e, pytest.mark.models]

DEMO = Path(__file__).parents[3] / "config" / "demo-openai.yaml"
ANSWER = "It is time for the red umbrella behind the kitchen door."
ALL_THREE = """\
agents:
  - name: e2e
    greeting: Hello.
    vad: {{plugin: silero}}
    stt: {{plugin: openai, base_url: "{url}", model: gpt-4o-transcribe, stream: true}}
    llm: {{plugin: openai, base_url: "{url}"}}
    tts: {{plugin: openai, base_url: "{url}"}}
    turns: {{dead_air: {{enabled: false}}}}
worker:
  max_jobs: 2
  warm: 1
"""


def brain(body: dict[str, Any]) -> Said:
    asked = str(body["messages"][-1]["content"]).lower()
    return Said(ANSWER if "time" in asked else f"I heard {asked}")


async def answered(folder: Path, settings: str) -> tuple[str, list[str]]:
    """What is shown of the answer to one question, and the words that are heard of it."""
    config = folder / "config.yaml"
    config.write_text(settings)
    async with open_house(folder, config) as house, house.call() as caller:
        before = len(caller.ear.recording())
        shown = await ask(caller, "What time is it, please?")
        heard = caller.ear.recording()[before:]
        assert not house.lines("provider failed")
    return shown, await transcribed(heard, sample_rate=EAR_RATE)


async def test_the_demonstration_answers_with_the_model_at_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with OpenAIServer(key="sk-of-this-house") as server:
        server.brain = brain
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-this-house")
        shown, heard = await answered(tmp_path, DEMO.read_text().replace("name: demo", "name: e2e"))
    assert shown == ANSWER
    assert {"umbrella", "behind", "kitchen", "door"} <= set(heard), heard
    (first, *_) = server.asked
    assert first.body["messages"][0]["content"].startswith("You are Joe")


async def test_ears_model_and_voice_at_an_address(tmp_path: Path, voice: PiperTTS) -> None:
    ears = WhisperSTT(WhisperOptions())
    await asyncio.to_thread(ears.load)

    async def ear(audio: AudioFrame) -> str:
        return (await ears.recognize(audio)).text

    async def speak(text: str) -> AsyncIterator[Pcm]:
        resampler = Resampler(voice.sample_rate, RATE)
        async with aclosing(voice.speak(text)) as audio:
            async for frame in audio:
                yield resampler.push(frame.pcm)
        yield resampler.flush()

    async with OpenAIServer() as server:
        server.brain, server.ear, server.voice = brain, ear, speak
        shown, heard = await answered(tmp_path, ALL_THREE.format(url=server.url))
    assert shown == ANSWER
    assert {"umbrella", "behind", "kitchen", "door"} <= set(heard), heard
    assert [one.body["input"] for one in server.asked if one.path == "/v1/audio/speech"].count(ANSWER) == 1
    assert sum(one.path == "/v1/chat/completions" for one in server.asked) == 1
    assert any(one.path == "/v1/audio/transcriptions" for one in server.asked)
    assert server.warmed_up
