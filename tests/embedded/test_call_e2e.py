"""The simulated caller against the real thing: the command, as a person runs it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from greenroom.audio import AudioFrame, Resampler, read_wav, write_wav
from greenroom.embedded.callreport import CallExit
from greenroom.embedded.measure import audible_span
from greenroom.embedded.microphone import SAMPLE_RATE, Microphone
from greenroom.embedded.utterance import spoken
from greenroom.providers.registry import build
from greenroom.providers.stt import BatchSTT
from greenroom.settings import ProviderSettings

pytestmark = [pytest.mark.e2e, pytest.mark.models]

TIMEOUT = 90.0
SILENT_AGENT = """\
agents:
  - name: silent
    vad: {plugin: silero}
    stt: {plugin: whisper, model: tiny.en}
    llm: {plugin: script, otherwise: ""}
worker: {warm: 1}
"""


async def call(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run the command; its exit code, its JSON, what it said on standard error."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LIVEKIT_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "greenroom", "call", "--json", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environ,
    )
    out, err = await asyncio.wait_for(process.communicate(), TIMEOUT)
    assert process.returncode is not None
    return process.returncode, json.loads(out), err.decode()


async def transcribe(path: Path) -> str:
    stt = build("stt", ProviderSettings("whisper", {"model": "tiny.en"}))
    assert isinstance(stt, BatchSTT)
    await asyncio.to_thread(stt.load)
    audio = read_wav(path)
    resampler = Resampler(audio.sample_rate, stt.sample_rate)
    pcm = np.concatenate([resampler.push(audio.pcm), resampler.flush()])
    return (await stt.recognize(AudioFrame(pcm, stt.sample_rate))).text


async def test_an_embedded_call_is_answered(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    recording = tmp_path / "answer.wav"
    code, report, said = await call(
        "--embedded", "--say", "What is your name?", "--say", "Thank you.", "--out", str(recording)
    )
    assert code == CallExit.OK, said
    assert report["error"] is None
    assert 0 < report["joined_seconds"] < 10
    assert "welcome" in report["greeting"].lower()
    first, second = report["turns"]
    assert first["user"] == "What is your name?"
    assert "name" in first["transcript"].lower()
    assert "My name is Joe" in first["answer"]
    assert "welcome" in second["answer"].lower()
    assert all(0.2 < turn["response_seconds"] < 10 for turn in report["turns"])
    assert report["recording"] == str(recording)
    heard = re.findall(r"[a-z]+", (await transcribe(recording)).lower())
    answer = re.findall(r"[a-z]+", first["answer"].lower())
    # Another pair of ears may take a name for another one.
    assert sum(word in heard for word in answer) >= 0.8 * len(answer), f"the recording says {heard}"
    for shown in ("What is your name?", "My name is Joe", "answered after"):
        assert shown in said
    assert set(psutil.Process().children(recursive=True)) <= before


async def test_a_recording_is_played_and_a_name_that_nobody_has_is_explained(tmp_path: Path) -> None:
    question = await spoken("Hello there.", sample_rate=SAMPLE_RATE)
    resampler = Resampler(SAMPLE_RATE, 16000)
    write_wav(tmp_path / "hello.wav", AudioFrame(resampler.push(question.pcm), 16000))
    code, report, said = await call(
        "--embedded", "--wav", str(tmp_path / "hello.wav"), "--agent", "nobody", "--agent-timeout", "6"
    )
    assert code == CallExit.NO_AGENT, said
    assert "no agent came within 6 s" in report["error"]
    assert "'nobody'" in report["error"]
    assert report["turns"] == []


async def test_an_agent_that_says_nothing_is_no_answer(tmp_path: Path) -> None:
    config = tmp_path / "silent.yaml"
    config.write_text(SILENT_AGENT)
    code, report, said = await call("--embedded", "-c", str(config), "--say", "Hello.", "--answer-timeout", "4")
    assert code == CallExit.UNANSWERED, said
    assert report["error"] == "no answer to 'Hello.' was heard within 4 s"
    assert report["turns"][0]["response_seconds"] is None
    assert "hello" in report["turns"][0]["transcript"].lower(), "it was understood all the same"


async def test_the_microphone_keeps_real_time() -> None:
    """What it says about when words left is when they had to, on its schedule."""
    tone = np.asarray(6000 * np.sin(np.arange(SAMPLE_RATE // 2) / 20), dtype=np.int16)
    pcm = np.concatenate([np.zeros(SAMPLE_RATE // 4, dtype=np.int16), tone, np.zeros(SAMPLE_RATE // 4, dtype=np.int16)])
    span = audible_span(pcm, sample_rate=SAMPLE_RATE)
    assert span is not None
    microphone = Microphone()
    microphone.start()
    try:
        started = time.monotonic()
        words = await microphone.speak(pcm)
        returned = time.monotonic()
    finally:
        await microphone.aclose()
    assert words.ended - words.began == pytest.approx((span[1] - span[0]) / SAMPLE_RATE, abs=0.06)
    assert 0.2 < words.began - started < 0.5
    assert words.ended <= returned < words.ended + 0.1
