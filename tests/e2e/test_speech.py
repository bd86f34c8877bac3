"""What the scheduler promises, as a caller hears it: the real server, real speech, the worker as in production."""

from __future__ import annotations

import asyncio
import itertools
import re
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from livekit import rtc

from greenroom.audio import AudioFrame, Pcm, Resampler
from greenroom.embedded.caller import EAR_RATE, Caller
from greenroom.embedded.microphone import SAMPLE_RATE
from greenroom.embedded.utterance import spoken
from greenroom.errors import LinkLost
from greenroom.providers.registry import build
from greenroom.settings import ProviderSettings

from .alignment import stretches
from .conftest import House, open_house, speak
from .speaking import RATE, VERDICT, WORDS, signature

pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]

HERE = Path(__file__).parent
ADAPTATION = 0.015
"""Seconds that a jitter buffer may take from a sound's last moment before a silence, or its first one after, when it
adapts to the network. It seldom does: what was measured at the cut is 0.1 to 1.5 ms, which is what ``stretches`` can
tell; one in ten times on a machine that is four times too busy it was 8."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("house")
    shutil.copy(HERE / "speaking.py", folder)
    async with open_house(folder, HERE / "speech.yaml") as house:
        yield house


async def cough() -> Pcm:
    """200 ms of a voice that says nothing: the loudest part of a cry, which sets in and breaks off in some ms."""
    cry = (await spoken("Ha!", sample_rate=SAMPLE_RATE)).pcm.astype(np.float64)
    size = round(0.2 * SAMPLE_RATE)
    loudness = np.convolve(cry**2, np.ones(size), "valid")
    burst = cry[np.argmax(loudness) :][:size]
    at = np.arange(size) / SAMPLE_RATE
    burst = burst * np.minimum(1, at / 0.005) * np.minimum(1, (0.2 - at) / 0.02)
    return np.asarray(burst / np.abs(burst).max() * 20_000, dtype=np.int16)


async def test_a_cough_pauses_the_agent_and_no_sample_is_lost(house: House) -> None:
    async with house.call() as caller:
        verdict, burst = told(caller, VERDICT), await cough()
        question = await speak(caller, "Please play some music.")
        began = await caller.wait_for_voice(after=question.ended, timeout=20.0)
        await asyncio.sleep(2.5)
        await caller.speak(burst)
        await caller.wait_for_pause(since=began + signature_seconds(), timeout=30.0)
        # At the agent's end to the sample: each left once, in order, and nothing else.
        assert await asyncio.wait_for(verdict, 10.0) == f"exact {np.count_nonzero(signature())}"
        assert caller.transcript.text("agent", since=question.ended) == "This is some music."
    # At the caller's as exactly as it can be heard.
    heard = stretches(caller.ear.recording(), signature(), sample_rate=EAR_RATE)
    before, after = max(itertools.pairwise(heard), key=lambda pair: pair[1].at - pair[0].until)
    assert after.at - before.until > 0.2 * EAR_RATE, heard  # a pause, not a hole
    for lost in (heard[0].begin, after.begin - before.end, len(signature()) - heard[-1].end):
        assert abs(lost) < ADAPTATION * EAR_RATE, heard


async def test_twenty_concurrent_speeches_are_heard_in_order(house: House) -> None:
    async with house.call() as caller:
        question = await speak(caller, "Please count for me.")
        began = await caller.wait_for_voice(after=question.ended, timeout=20.0)
        while caller.transcript.text("agent", since=question.ended).count("Number") < len(WORDS):
            await caller.wait_for_voice(after=time.monotonic(), timeout=10.0)
        await caller.wait_for_pause(since=began, timeout=20.0)
        shown = caller.transcript.text("agent", since=question.ended)
    heard = await transcribed(caller.ear.recording(), sample_rate=EAR_RATE)
    assert [word for word in words(shown) if word in WORDS] == list(WORDS)
    recognised = [WORDS.index(word) for word in heard if word in WORDS]
    assert recognised == sorted(set(recognised)), " ".join(heard)
    assert len(recognised) > 0.8 * len(WORDS), " ".join(heard)  # a small transcriber mishears one in fifty


async def test_the_last_sentence_is_heard_before_the_room_is_deleted(house: House) -> None:
    async with house.call() as caller:
        question = await speak(caller, "Please end the call.")
        began = await caller.wait_for_voice(after=question.ended, timeout=20.0)
        with pytest.raises(LinkLost, match="ROOM_DELETED"):
            await caller.wait_for_pause(since=began + 60.0, timeout=30.0)
    heard = await transcribed(caller.ear.recording(), sample_rate=EAR_RATE)
    assert heard[-1] == "umbrella", " ".join(heard)
    job = caller.agent_identity.removeprefix("agent-")
    # The server counts it right too: it was told before it saw the agent go.
    (line,) = [line for line in server_log(house) if job in line and "job ended" in line]
    assert "JS_SUCCESS" in line
    _, finished = await house.wait_line("job finished", since=began, timeout=10.0)
    assert (finished.fields["job"], finished.fields["outcome"]) == (job, "success")


def server_log(house: House) -> list[str]:
    return house.server_log.read_text().splitlines()


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def signature_seconds() -> float:
    return len(signature()) / RATE


def told(caller: Caller, topic: str) -> asyncio.Future[str]:
    """The first text that comes on a topic."""
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    tasks = []

    async def read(reader: rtc.TextStreamReader) -> None:
        future.set_result(await reader.read_all())

    def opened(reader: rtc.TextStreamReader, _identity: str) -> None:
        tasks.append(asyncio.create_task(read(reader)))

    caller._room.register_text_stream_handler(topic, opened)
    return future


async def transcribed(pcm: Pcm, *, sample_rate: int) -> list[str]:
    """The words that another pair of ears hears."""
    stt = build("stt", ProviderSettings("whisper", {"model": "tiny.en"}))
    stt.load()
    resampler = Resampler(sample_rate, stt.sample_rate)
    audio = np.concatenate((resampler.push(pcm), resampler.flush()))
    return words((await stt.recognize(AudioFrame(audio, stt.sample_rate))).text)  # type: ignore[attr-defined]
