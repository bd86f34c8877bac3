"""Whole conversations: the session decides, the model's server hears and speaks, and both remember the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from greenroom import Agent, AgentSession, ProviderError, RunContext, function_tool
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import EndReason
from greenroom.dialog.turns import TurnRules
from greenroom.providers import TTS, VAD
from greenroom.session.session import SessionOptions
from greenroom.testing.loopback import LoopbackInput, LoopbackOutput
from greenroom.testing.providers import ScriptedTTS, ScriptedVAD
from tests.plugins import tones

from .cases import model
from .conversation import RATE, Answer, Call
from .server import RealtimeServer, spoken

BY_MODEL = SessionOptions(rules=DialogRules(turns=TurnRules(detection="realtime")))
STORY = "the quick brown fox jumps over a lazy dog and goes on to find some water near old mill"


class Clerk(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Be brief.")

    @function_tool
    async def look_up(self, ctx: RunContext, what: str) -> str:
        """Look something up."""
        return f"{what}: 42"


@dataclass
class Phone:
    session: AgentSession
    user: LoopbackInput
    out: LoopbackOutput
    errors: list[Any] = field(default_factory=list)
    states: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def until(self, state: str) -> None:
        async with asyncio.timeout(10.0):
            while await self.states.get() != state:
                pass

    def say(self, text: str) -> None:
        self.user.play(spoken(text), RATE)

    def said(self) -> list[tuple[str, str]]:
        return [(message.role, message.text) for message in self.session.history.messages()]

    def heard(self) -> str:
        """The words that left the loudspeaker."""
        whole = np.concatenate([frame.pcm for frame in self.out.heard])
        return " ".join(placed.word for placed in tones.read(whole, RATE))


@asynccontextmanager
async def phone(
    server: RealtimeServer,
    *,
    vad: VAD | None = None,
    tts: TTS | None = None,
    options: SessionOptions | None = None,
    **given: Any,
) -> AsyncIterator[Phone]:
    session = AgentSession(llm=model(server.url, **given), vad=vad, tts=tts, options=options)
    parts = Phone(session, LoopbackInput(frame=0.02), LoopbackOutput(sample_rate=RATE))
    session.on("error", parts.errors.append)
    session.on("agent_state_changed", lambda event: parts.states.put_nowait(event.new_state.value))
    await session.start(Clerk(), audio_in=parts.user, audio_out=parts.out)
    try:
        yield parts
    finally:
        await session.aclose("test over")
        parts.user.end()
        await server.until(lambda: server.under_way == 0)


@pytest.mark.parametrize("by_model", [True, False])
async def test_a_question_is_heard_and_answered(server: RealtimeServer, by_model: bool) -> None:
    server.answers.extend([Answer("one moment", calls=(Call("look_up", '{"what": "time"}'),)), Answer("it is ten")])
    options, vad = (BY_MODEL, None) if by_model else (None, ScriptedVAD())
    async with phone(server, options=options, vad=vad) as call:
        call.say("what time is it")
        await call.until("speaking")
        await call.until("speaking")
        await call.until("listening")
        assert call.heard() == "one " + tones.read(spoken("moment"), RATE)[0].word + " it is ten"
        assert call.said() == [
            ("user", "what time is it"),
            ("assistant", "one moment"),
            ("assistant", "it is ten"),
        ]
        assert server.conversation.remembered() == [
            ("user", "what time is it"),
            ("assistant", "one moment"),
            ("function_call", 'look_up {"what": "time"}'),
            ("function_call_output", "time: 42"),
            ("assistant", "it is ten"),
        ]
        assert call.errors == []


@pytest.mark.parametrize("by_model", [True, False])
async def test_an_interruption_leaves_the_server_with_what_was_heard(server: RealtimeServer, by_model: bool) -> None:
    server.answers.extend([Answer(STORY), Answer("hello")])
    options, vad = (BY_MODEL, None) if by_model else (None, ScriptedVAD())
    async with phone(server, options=options, vad=vad) as call:
        handle = call.session.generate_reply(instructions="Tell a story.")
        await call.until("speaking")
        call.user.silence(0.7)
        call.say("one two three four")
        await handle
        left = call.out.heard_seconds
        assert handle.reason is EndReason.INTERRUPTED
        await call.until("speaking")
        await call.until("listening")
        story = next(element for element in server.conversation.elements if element.role == "assistant")
        heard = round(handle.heard_seconds * RATE)
        assert 0 <= heard - story.samples < RATE // 1000, "to the millisecond, and never more than was heard"
        assert handle.heard_seconds == pytest.approx(left, abs=0.001)
        assert STORY.startswith(handle.heard_text)
        # Where words are in the sound the protocol does not say: the history has them by their letters.
        assert abs(len(handle.heard_text.split()) - len(story.text.split())) <= 2
        assert call.said() == [("assistant", handle.heard_text), ("user", "one two three four"), ("assistant", "hello")]
        assert [role for role, _ in server.conversation.remembered()] == ["assistant", "user", "assistant"]
        assert [asked.instructions for asked in server.conversation.asked] == ["Tell a story.", "Be brief."]


async def test_say_needs_a_voice_and_the_model_is_told_what_it_said(server: RealtimeServer) -> None:
    async with phone(server, options=BY_MODEL) as call:
        with pytest.raises(
            RuntimeError, match=r"Add a TTS plugin to the session \(tts=...\), or use generate_reply\(\)"
        ):
            call.session.say("Hello.")
    async with phone(server, options=BY_MODEL, tts=ScriptedTTS(seconds_per_character=0.01)) as call:
        await call.session.say("Hello.")
        await call.session.generate_reply(user_input="are you there")
        assert server.conversation.asked[0].memory == [("assistant", "Hello."), ("user", "are you there")]


async def test_a_written_answer_is_read_aloud(server: RealtimeServer) -> None:
    tts = ScriptedTTS(seconds_per_character=0.01)
    async with phone(server, options=BY_MODEL, tts=tts, output="text") as call:
        handle = await call.session.generate_reply(instructions="Greet.")
        assert tts.sentences == ["Very well, thank you."]
        assert handle.heard_text == "Very well, thank you."
        assert server.conversation.remembered() == [("assistant", "Very well, thank you.")]


async def test_a_lost_connection_costs_a_pause(server: RealtimeServer) -> None:
    server.answers.extend([Answer("one"), Answer(STORY, first=30.0), Answer("two")])
    async with phone(server, vad=ScriptedVAD()) as call:
        await call.session.generate_reply(user_input="hello")
        handle = call.session.generate_reply(user_input="what time is it")
        await server.until(lambda: server.conversation.active and not server.conversation.active.done())
        server.cut()
        await handle
        assert handle.heard_text == "two"
        assert server.conversation.asked[0].memory == [
            ("user", "hello"),
            ("assistant", "one"),
            ("user", "what time is it"),
        ]
        (error,) = call.errors
        assert isinstance(error.error, ProviderError)
        assert (error.source, error.error.provider, error.error.retryable) == ("llm", "openai_realtime", True)
