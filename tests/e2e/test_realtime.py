"""A realtime model on the phone: the real media server, real speech, and a server of the model's protocol that hears it
with Whisper and speaks with Piper. The worker is as in production; its YAML names the model and nothing else."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from greenroom.audio import AudioFrame, Pcm, Resampler
from greenroom.embedded.caller import EAR_RATE, Caller
from greenroom.embedded.microphone import SAMPLE_RATE, Spoken
from greenroom.embedded.utterance import Utterance, spoken
from greenroom.providers import BatchSTT
from greenroom.providers.registry import build
from greenroom.session.realtime import word_for_word
from greenroom.settings import ProviderSettings
from tests.plugins.openai_realtime.conversation import RATE, Answer, Asked, Mind, pieces
from tests.plugins.openai_realtime.server import RealtimeServer

from .conftest import House, open_house

pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]

AGENTS = """\
agents:
  - name: e2e
    instructions: You are a friendly receptionist.
    greeting: {greeting}
    llm: {{plugin: openai_realtime, base_url: "{url}", api_key: {key}, patience: 60, timeout: 60, stall: 60}}
    turns:
      dead_air: {{enabled: false}}  # Whisper and Piper are slower than a model when this machine has other things to do
worker:
  max_jobs: 2
  warm: 1
"""
QUESTION = "What time is it?"
INTERRUPTION = "Excuse me, what time is it?"
LATER = "What did I say before?"
REMEMBERED = "You asked me what time it is."
GREETING = "Good morning, this is the office."
TIME = "It is half past four in the afternoon."
STORY = (
    "Once upon a time there was an old fisherman who lived in a small house near the harbour. Every morning he went "
    "out with his boat before the sun had risen. One day he caught a fish that could speak, and it promised him three "
    "wishes if he would let it go. The fisherman thought about it for a very long time."
)


@dataclass
class Office:
    house: House
    model: RealtimeServer


async def think(asked: Asked) -> Answer:
    """The model's wit. It makes speech five times as fast as it is heard."""
    greeting = asked.instructions.removeprefix(word_for_word(""))
    if greeting != asked.instructions:
        return Answer(greeting)
    said = next((text.lower() for role, text in reversed(asked.memory) if role == "user" and text), "")
    if "story" in said:
        return Answer(STORY, pace=0.2)
    if "before" in said:
        told = [words(text) for role, text in asked.memory if role == "user"]
        return Answer(REMEMBERED if words(QUESTION) in told else "I do not remember.")
    return Answer(TIME if "time" in said else "I did not understand that.")


@lru_cache
def sound(text: str, sample_rate: int) -> asyncio.Task[Utterance]:
    """Piper says it, once."""
    return asyncio.create_task(spoken(text, sample_rate=sample_rate))


async def ring(caller: Caller, text: str) -> Spoken:
    """Say something into the phone."""
    return await caller.speak((await sound(text, SAMPLE_RATE)).pcm)


async def ask(caller: Caller, text: str) -> str:
    """Say something and wait for the end of the answer; its text."""
    began = time.monotonic()
    said = await ring(caller, text)
    answered = await caller.wait_for_voice(after=said.ended, timeout=60.0)
    await caller.wait_for_pause(since=answered, timeout=60.0)
    return caller.transcript.text("agent", since=began)


async def say(text: str) -> list[tuple[str, Pcm]]:
    """The model's voice; where each word is in it is estimated by its letters."""
    pcm = (await sound(text, RATE)).pcm
    words = list(pieces(text))
    ends = np.cumsum([len(word) for word in words]) * len(pcm) // len(text)
    return list(zip(words, np.split(pcm, ends[:-1]), strict=True))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def office(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    stt = build("stt", ProviderSettings("whisper", {"model": "tiny.en"}))
    assert isinstance(stt, BatchSTT)
    await asyncio.to_thread(stt.load)

    async def transcribe(pcm: Pcm) -> str:
        resampler = Resampler(RATE, stt.sample_rate)
        audio = np.concatenate((resampler.push(pcm), resampler.flush()))
        return (await stt.recognize(AudioFrame(audio, stt.sample_rate))).text

    for text in (GREETING, TIME, STORY, REMEMBERED):
        await sound(text, RATE)
    for text in (QUESTION, INTERRUPTION, LATER):
        await sound(text, SAMPLE_RATE)
    folder = tmp_path_factory.mktemp("office")
    async with (
        RealtimeServer(mind=Mind(think, transcribe, say)).started() as model,
        open_house(folder, _settings(folder, model)) as house,
    ):
        yield Office(house, model)


def _settings(folder: Path, model: RealtimeServer) -> Path:
    config = folder / "realtime.yaml"
    config.write_text(AGENTS.format(greeting=GREETING, url=model.url, key=model.key))
    return config


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


async def recognised(pcm: Pcm) -> list[str]:
    """The words that another pair of ears hears."""
    stt = build("stt", ProviderSettings("whisper", {"model": "tiny.en"}))
    assert isinstance(stt, BatchSTT)
    resampler = Resampler(EAR_RATE, stt.sample_rate)
    audio = np.concatenate((resampler.push(pcm), resampler.flush()))
    return words((await stt.recognize(AudioFrame(audio, stt.sample_rate))).text)


async def test_a_spoken_question_gets_an_answer_that_is_heard(office: Office) -> None:
    async with office.house.call() as caller:
        assert await ask(caller, QUESTION) == TIME
        assert words(caller.transcript.text("user", since=0.0)) == words(QUESTION)
        heard = await recognised(caller.ear.recording())
    assert " ".join(heard).startswith("good morning this is the office")
    assert len(set(words(TIME)) & set(heard)) >= 6, heard
    assert office.model.complaints == []


async def test_an_interruption_leaves_the_model_with_what_was_heard(office: Office) -> None:
    async with office.house.call() as caller:
        told = await ring(caller, "Tell me a story.")
        began = await caller.wait_for_voice(after=told.ended, timeout=60.0)
        await asyncio.sleep(3.0)
        asked = time.monotonic()
        question = await ring(caller, INTERRUPTION)
        answered = await caller.wait_for_voice(after=question.ended + 0.3, timeout=60.0)
        await caller.wait_for_pause(since=answered, timeout=60.0)
        shown = caller.transcript.text("agent", since=asked)
        assert TIME in shown
        memory = office.model.conversation
        story = next(element for element in memory.elements if element.text.startswith("Once upon a time"))
        # The agent stops half a second into the question. On a busy machine its voice had holes: it was heard for less.
        assert 0 < story.samples / RATE < question.ended - began + 0.5
        assert 0 < len(story.text) < len(STORY) / 2
        told_so = [event for event in memory.told if event.get("item_id") == story.id]
        assert {event["type"] for event in told_so} == {"conversation.item.truncate"}
        assert told_so[-1]["audio_end_ms"] == story.samples * 1000 // RATE
        assert memory.remembered()[-1] == ("assistant", TIME)
    assert office.model.complaints == []


async def test_a_lost_connection_is_not_noticed(office: Office) -> None:
    async with office.house.call() as caller:
        assert await ask(caller, QUESTION) == TIME
        before = len(office.model.conversations)
        office.model.cut()
        assert await ask(caller, LATER) == REMEMBERED
        assert len(office.model.conversations) == before + 1
    assert office.model.complaints == []
