"""Calls as a user has them: the real server, real speech, the worker as it is started in production."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from greenroom.audio import AudioFrame, Resampler, read_wav
from greenroom.providers.registry import build
from greenroom.settings import ProviderSettings

from .conftest import House, ask, speak

pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


async def transcribed(path: Path) -> str:
    """What another pair of ears hears in a recording."""
    stt = build("stt", ProviderSettings("whisper", {"model": "tiny.en"}))
    stt.load()
    audio = read_wav(path)
    resampler = Resampler(audio.sample_rate, stt.sample_rate)
    pcm = resampler.push(audio.pcm)
    heard = await stt.recognize(AudioFrame(pcm, stt.sample_rate))  # type: ignore[attr-defined]
    return str(heard.text)


async def test_the_call_command_says_what_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "answer.wav"
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "greenroom", "call", "--embedded", "--say", "What is your name?", "--json"),
        *("--out", str(out)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    assert time.monotonic() - began < 60
    report = json.loads(stdout)
    assert 0 < report["joined_seconds"] < 10
    (turn,) = report["turns"]
    assert turn["user"] == "What is your name?"
    assert words(turn["transcript"]) == words("What is your name?")
    assert turn["answer"].startswith("My name is Joe.")
    assert 0.3 < turn["response_seconds"] < 10
    assert report["recording"] == str(out)
    heard = words(await transcribed(out))
    answer = words(turn["answer"])
    found = sum(word in heard for word in answer)
    assert found >= 0.8 * len(answer), f"the recording says {heard}"


async def test_a_question_is_answered_and_shown(house: House) -> None:
    async with house.call() as caller:
        assert await ask(caller, "What time is it?") == "It is half past four in the afternoon."
        assert words(caller.transcript.text("user", since=0.0)) == words("What time is it?")


async def test_talking_over_the_agent_stops_it(house: House) -> None:
    async with house.call() as caller:
        told = await speak(caller, "Tell me a story.")
        await caller.wait_for_voice(after=told.ended, timeout=20.0)
        await asyncio.sleep(2.0)
        began = time.monotonic()
        question = await speak(caller, "Excuse me, what time is it?")
        # The story would go on for twenty seconds more. What is heard after the question is its answer alone.
        answered = await caller.wait_for_voice(after=question.ended + 0.3, timeout=20.0)
        await caller.wait_for_pause(since=answered, timeout=60.0)
        answer = caller.transcript.text("agent", since=began)
        assert answer.endswith("It is half past four in the afternoon.")
        assert "nobody could hear the play" not in caller.transcript.text("agent", since=0.0)
        assert caller.ear.last_audible is not None
        assert caller.ear.last_audible - answered < 6.0


async def test_of_two_calls_one_loses_its_process_and_both_go_on(house: House) -> None:
    async with house.call() as first, house.call() as second:
        pids = house.pid_of(first), house.pid_of(second)
        assert pids[0] != pids[1]
        told = await speak(second, "Tell me a story.")
        await second.wait_for_voice(after=told.ended, timeout=20.0)
        killed = time.monotonic()
        os.kill(pids[0], signal.SIGKILL)
        await asyncio.sleep(3.0)
        assert second.ear.last_audible is not None
        assert second.ear.last_audible > killed + 2.5, "the other call went silent"
        _, lost = await house.wait_line("process finished", since=killed, timeout=5.0)
        assert (lost.fields["outcome"], lost.fields["pid"]) == ("crashed", pids[0])
        assert await ask(first, "What time is it?") == "It is half past four in the afternoon."
    # The pool has made new processes: two more calls at once are served.
    async with house.call() as third, house.call() as fourth:
        assert len({*pids, house.pid_of(third), house.pid_of(fourth)}) == 4
        assert await ask(third, "What time is it?") == "It is half past four in the afternoon."


async def test_a_job_ends_well_when_its_caller_leaves(house: House) -> None:
    async with house.call():
        left = time.monotonic()
    _, finished = await house.wait_line("job finished", since=left, timeout=10.0)
    assert finished.fields["outcome"] == "success"


async def test_a_media_server_that_returns_finds_the_worker(house: House) -> None:
    killed = time.monotonic()
    await house.media.kill()
    await asyncio.sleep(4.0)
    attempts = len(house.lines("not registered", since=killed)) + len(house.lines("link lost", since=killed))
    assert 1 <= attempts <= 8, "no hot loop"
    await house.media.start()
    back = time.monotonic()
    registered, _ = await house.wait_line("registered", since=killed, timeout=10.0)
    assert registered - back < 5.0
    async with house.call() as caller:
        assert await ask(caller, "What time is it?") == "It is half past four in the afternoon."
