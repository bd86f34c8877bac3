"""An agent of the YAML on a realtime model: what follows for its turns, its guards and its greeting."""

from __future__ import annotations

import asyncio

import pytest

from greenroom.dialog.events import Detection
from greenroom.job.agentsettings import AgentProviders, session_options
from greenroom.job.runner import DeclaredAgent
from greenroom.providers import TTS
from greenroom.session.session import AgentSession
from greenroom.settings import AgentSettings, ProviderSettings, TurnSettings
from greenroom.testing.loopback import LoopbackOutput
from greenroom.testing.providers import ScriptedLLM, ScriptedTTS
from greenroom.testing.realtime import ScriptedRealtime
from greenroom.testing.virtual_time import virtual_time

ANY = ProviderSettings("any")


@pytest.mark.parametrize(
    ("vad", "written", "used"),
    [(None, "vad", "realtime"), (ANY, "vad", "vad"), (None, "manual", "manual"), (ANY, "realtime", "realtime")],
)
def test_who_tells_the_turns(vad: ProviderSettings | None, written: Detection, used: Detection) -> None:
    settings = AgentSettings(vad=vad, llm=ANY, turns=TurnSettings(detection=written))
    assert session_options(settings, model=ScriptedRealtime()).rules.turns.detection == used


def test_a_language_model_waits_for_a_voice_activity() -> None:
    assert session_options(AgentSettings(llm=ANY), model=ScriptedLLM([])).rules.turns.detection == "vad"


def test_nobody_says_to_hold_while_the_only_voice_is_busy() -> None:
    alone = session_options(AgentSettings(llm=ANY), model=ScriptedRealtime()).rules.dead_air
    voiced = session_options(AgentSettings(llm=ANY, tts=ANY), model=ScriptedRealtime()).rules.dead_air
    assert (alone.phrase("hold"), alone.enabled) == ("", True)
    assert alone.phrase("fallback") == voiced.phrase("fallback") != ""
    assert voiced.phrase("hold") != ""


def test_the_microphone_is_heard_at_the_models_rate() -> None:
    assert AgentProviders(llm=ScriptedRealtime(sample_rate=16000)).hearing_rate == 16000


@pytest.mark.parametrize("tts", [None, ScriptedTTS()])
@virtual_time
async def test_the_greeting_is_said_by_the_voice_there_is(tts: ScriptedTTS | None) -> None:
    model = ScriptedRealtime(["Good morning."])
    voice: TTS | None = tts
    session = AgentSession(llm=model, tts=voice)
    agent = DeclaredAgent(instructions="Be brief.", greeting="Good morning.")
    await session.start(agent, audio_in=None, audio_out=LoopbackOutput())
    await asyncio.sleep(5.0)
    assert [message.text for message in session.history.messages()] == ["Good morning."]
    asked = [request.instructions for request in model.requests]
    if tts is None:
        assert asked == ["Say exactly these words, and nothing else: Good morning."]
    else:
        assert (asked, tts.sentences) == ([], ["Good morning."])
    await session.aclose()
