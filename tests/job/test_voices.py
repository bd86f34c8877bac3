"""The voices of an agent: what is rendered before a call, once on a machine, and that it can fail."""

from __future__ import annotations

import asyncio
import fcntl
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from greenroom import Agent
from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.job.voices import Voices, fixed_phrases, spoken_as
from greenroom.providers import TTS, SynthesizedAudio
from greenroom.settings import (
    AgentSettings,
    DeadAirSettings,
    ProviderSettings,
    RecoverySettings,
    ServerSettings,
    Settings,
    SpeechCacheSettings,
    SpeechSettings,
    TurnSettings,
    WorkerSettings,
)
from greenroom.speech.cached import CachedTTS
from greenroom.testing.providers import ScriptedTTS

GREETING = "Good day, we run **nginx**. How can I help you?"


class Quick(ScriptedTTS):
    """Speaks at once."""

    def __init__(self, **more: Any) -> None:
        super().__init__(first_audio=0, real_time_factor=0, **more)
        self.closed = 0

    async def aclose(self) -> None:
        self.closed += 1


def agent(**cache: Any) -> AgentSettings:
    speech = SpeechSettings(pronunciation={"nginx": "engine x"}, cache=SpeechCacheSettings(**cache))
    quiet = TurnSettings(dead_air=DeadAirSettings(enabled=False))
    return AgentSettings(greeting=GREETING, speech=speech, turns=quiet, recovery=RecoverySettings(attempts=0))


def voices(folder: Path, settings: AgentSettings) -> Voices:
    server = ServerSettings(url="ws://localhost", api_key="key", api_secret="secret")
    return Voices(Settings(server=server, agents=(settings,), worker=WorkerSettings(state_dir=str(folder))), settings)


def boot(folder: Path, tts: TTS, settings: AgentSettings | None = None) -> TTS:
    """As a process does: its voice, with its phrases prepared."""
    settings = settings or agent()
    made = voices(folder, settings)
    voice: TTS = made.around(lambda kind, options: tts)("tts", ProviderSettings("piper"))
    made.prepare(fixed_phrases(settings, None))
    return voice


async def said(tts: TTS, text: str) -> list[SynthesizedAudio]:
    async def given() -> AsyncGenerator[str, None]:
        yield text

    return [piece async for piece in tts.synthesize(given())]


def test_what_is_certain_to_be_said() -> None:
    class Reception(Agent):
        phrases = ("One moment.", "Hello.")

    settings = AgentSettings(
        greeting="Hello.",
        recovery=RecoverySettings(line="I am back.", farewell="Goodbye."),
        turns=TurnSettings(dead_air=DeadAirSettings(hold_phrase="Wait.", fallback_phrase=" ", end_phrase="Bye.")),
        speech=SpeechSettings(cache=SpeechCacheSettings(phrases=("One more.",))),
    )
    assert fixed_phrases(settings, Reception) == [
        "Hello.",
        "One moment.",
        "One more.",
        "Wait.",
        "Bye.",
        "I am back.",
        "Goodbye.",
    ]
    assert fixed_phrases(agent(), None) == [GREETING]


async def test_the_yaml_says_what_becomes_of_words() -> None:
    settings = AgentSettings(speech=SpeechSettings(filters=("markdown", "numbers"), pronunciation={"SQL": "sequel"}))
    assert await spoken_as(settings).apply("*SQL* 👋 12345678") == "sequel 👋 1 2 3 4 5 6 7 8"
    assert await spoken_as(AgentSettings()).apply("*SQL* 👋 12345678") == "SQL  12345678"


def test_phrases_are_rendered_once_on_a_machine(tmp_path: Path) -> None:
    first, second, threads = Quick(), Quick(), threading.active_count()
    with capture_logs() as logs:
        boot(tmp_path, first)
        boot(tmp_path, second)
    assert first.sentences == ["Good day, we run engine x.", "How can I help you?"]
    assert second.sentences == []
    assert [line["event"] for line in logs] == ["phrases rendered"]
    assert first.closed == 1
    assert threading.active_count() <= threads, "a warm process has no threads of ours"


async def test_in_the_call_they_are_there(tmp_path: Path) -> None:
    tts = Quick()
    voice = await asyncio.to_thread(boot, tmp_path, tts)
    pieces = await said(voice, "Good day, we run engine x. And so on.")
    assert [piece.cached for piece in pieces if piece.text] == [True, False]
    assert tts.sentences[2:] == ["And so on."]


async def test_one_process_renders_and_the_others_find_it_later(tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    with (tmp_path / "speech" / ".rendering").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tts = Quick()
        voice = await asyncio.to_thread(boot, tmp_path, tts)
    assert tts.sentences == []
    await asyncio.to_thread(boot, tmp_path, Quick())
    assert all(piece.cached for piece in await said(voice, "Good day, we run engine x."))
    assert tts.sentences == []


class Failing(Quick):
    async def speak(self, sentence: str) -> AsyncGenerator[AudioFrame, None]:
        if sentence:
            raise ProviderError("no credit left", provider="failing")
        yield AudioFrame(np.zeros(0, dtype=np.int16), self.sample_rate)


class Slow(Quick):
    async def speak(self, sentence: str) -> AsyncGenerator[AudioFrame, None]:
        await asyncio.get_running_loop().create_future()
        yield AudioFrame(np.zeros(0, dtype=np.int16), self.sample_rate)


@pytest.mark.parametrize(
    ("tts", "error"), [(Failing(), "no credit left"), (Slow(), "TimeoutError"), (Quick(failures={0: "empty"}), None)]
)
def test_a_voice_that_fails_then_fails_nothing(
    tmp_path: Path, tts: Quick, error: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.job.voices.PATIENCE", 0.001)
    with capture_logs() as logs:
        boot(tmp_path, tts)
    if error is not None:
        (line,) = logs
        assert (line["event"], line["log_level"]) == ("phrases not rendered", "warning")
        assert error in line["error"]
    assert tts.closed == 1


def test_without_a_cache_there_is_none(tmp_path: Path) -> None:
    tts = Quick()
    assert boot(tmp_path, tts, agent(enabled=False)) is tts
    assert tts.sentences == []
    assert list(tmp_path.iterdir()) == []


def test_each_voice_of_a_chain_has_its_own_and_models_of_other_kinds_none(tmp_path: Path) -> None:
    settings = AgentSettings(speech=SpeechSettings(language="de"))
    made = voices(tmp_path, settings)
    first, second, other = Quick(), Quick(), object()
    build = made.around(lambda kind, options: {"a": first, "b": second, "c": other}[options.plugin])
    voice, fallback = build("tts", ProviderSettings("a")), build("tts", ProviderSettings("b"))
    assert isinstance(voice, CachedTTS)
    assert build("llm", ProviderSettings("c")) is other
    assert first.language == second.language == "de"
    made.prepare(["Guten Tag."])
    assert (first.sentences, second.sentences) == (["Guten Tag."], [])
    assert voice.recall("Guten Tag.")
    assert not fallback.recall("Guten Tag.")
