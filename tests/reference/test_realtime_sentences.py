"""What "Agent speech and audio" says of realtime models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from greenroom import Agent, AgentSession
from greenroom.audio import AudioFrame
from greenroom.providers import TTS
from greenroom.testing.loopback import LoopbackInput, LoopbackOutput
from greenroom.testing.providers import ScriptedTTS, ScriptedVAD
from greenroom.testing.realtime import ScriptedRealtime
from greenroom.testing.virtual_time import virtual_time

from .snippets import snippet


@asynccontextmanager
async def realtime(
    model: ScriptedRealtime, *, tts: TTS | None = None
) -> AsyncIterator[tuple[AgentSession, LoopbackInput]]:
    """A session of an agent that was told to be brief, with a realtime model and (``tts``) a voice."""
    session, user = AgentSession(vad=ScriptedVAD(), llm=model, tts=tts), LoopbackInput()
    await session.start(Agent(instructions="Be brief."), audio_in=user, audio_out=LoopbackOutput())
    try:
        yield session, user
    finally:
        await session.aclose()
        user.end()


def said(session: AgentSession) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in session.history.messages()]


@virtual_time
async def test_a_realtime_model_is_controlled_by_the_same_calls() -> None:
    model = ScriptedRealtime(["It is noon.", "Good evening!"], heard=["what time is it"])
    async with realtime(model) as (session, user):
        user.speak(1.0)
        await asyncio.sleep(5.0)
        handle = await session.generate_reply(instructions="Greet the user.")
        assert (handle.heard_text, handle.interrupted) == ("Good evening!", False)
        assert said(session) == [
            ("user", "what time is it"),
            ("assistant", "It is noon."),
            ("assistant", "Good evening!"),
        ]


@virtual_time
async def test_say_without_a_voice_names_the_two_ways_out() -> None:
    model = ScriptedRealtime(["Welcome!"])
    async with realtime(model) as (session, _):
        with pytest.raises(RuntimeError, match=r"Add a TTS plugin to the session .*, or use generate_reply\(\)"):
            await snippet("say").run(session=session)
        await session.generate_reply(instructions="Greet the user.")
        assert said(session) == [("assistant", "Welcome!")]
    async with realtime(ScriptedRealtime(), tts=ScriptedTTS()) as (session, _):
        await snippet("say").run(session=session)
        assert said(session) == [("assistant", "Hello. How can I help you today?")]


@virtual_time
async def test_audio_needs_no_voice() -> None:
    async def tone() -> AsyncIterator[AudioFrame]:
        yield AudioFrame(np.full(12_000, 1000, dtype=np.int16), 24_000)

    async with realtime(ScriptedRealtime()) as (session, _):
        handle = await session.say("Ding dong.", audio=tone())
        assert handle.heard_seconds == pytest.approx(0.5, abs=0.01)
        assert said(session) == [("assistant", "Ding dong.")]


@virtual_time
async def test_instructions_replace_those_of_the_agent_for_one_response() -> None:
    model = ScriptedRealtime(["Hello!", "Fine.", "Good morning!"])
    async with realtime(model) as (session, _):
        assert model.updates[0].instructions == "Be brief."
        await snippet("reply_to_instructions").run(session=session)
        assert session.current_speech is not None
        await session.current_speech
        await session.generate_reply(user_input="how are you")
        await snippet("reply_with_the_agents_instructions").run(session=session)
        assert [request.instructions for request in model.requests] == [
            "greet the user and ask where they are from",
            None,  # those of the session
            "Be brief.\n\nGreet the user warmly.",
        ]
        assert {update.instructions for update in model.updates} <= {"Be brief.", None}
