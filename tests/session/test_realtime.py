"""Conversations with a realtime model: its own ears and voice, our decisions, one memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from greenroom import Agent, ChatContext, Message, ProviderError, RunContext, function_tool
from greenroom.dialog.deadair import DeadAirRules
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import EndReason
from greenroom.dialog.turns import TurnRules
from greenroom.providers import STT, TTS, VAD, ToolCall
from greenroom.session.session import AgentSession, SessionOptions
from greenroom.testing.loopback import LoopbackInput, LoopbackOutput
from greenroom.testing.providers import Heard, ScriptedSTT, ScriptedTTS, ScriptedVAD
from greenroom.testing.realtime import Response, ScriptedRealtime
from greenroom.testing.virtual_time import virtual_time

BY_MODEL = SessionOptions(rules=DialogRules(turns=TurnRules(detection="realtime")))


@dataclass
class Call:
    session: AgentSession
    user: LoopbackInput
    out: LoopbackOutput
    errors: list[Any] = field(default_factory=list)

    def said(self) -> list[tuple[str, str]]:
        return [(message.role, message.text) for message in self.session.history.messages()]

    async def until(self, when: float) -> None:
        await asyncio.sleep(when - asyncio.get_running_loop().time())


@asynccontextmanager
async def call(
    model: ScriptedRealtime,
    *,
    agent: Agent | None = None,
    vad: VAD | None = None,
    stt: STT | None = None,
    tts: TTS | None = None,
    options: SessionOptions | None = None,
) -> AsyncIterator[Call]:
    session = AgentSession(llm=model, vad=vad, stt=stt, tts=tts, options=options)
    parts = Call(session, LoopbackInput(), LoopbackOutput())
    session.on("error", parts.errors.append)
    await session.start(agent or Agent(instructions="Be brief."), audio_in=parts.user, audio_out=parts.out)
    try:
        yield parts
    finally:
        await session.aclose("test over")
        parts.user.end()


@virtual_time
async def test_a_conversation_that_is_over_as_it_begins_leaves_no_model_behind() -> None:
    model = ScriptedRealtime(["Never."])
    async with call(model):
        pass
    assert (model.sessions, model.closed) == (1, 1)


@virtual_time
async def test_the_models_own_ears_and_voice() -> None:
    model = ScriptedRealtime(["It is noon."], heard=["what time is it"])
    async with call(model, options=BY_MODEL) as c:
        c.user.silence(1.0)
        question = c.user.speak(1.0)
        await c.until(6.0)
        (answer,) = c.out.heard
        assert question.end is not None
        # The model's own silence of 0.5 s, then its first word 0.2 s later; frames are 32 ms long.
        assert answer.at - question.end == pytest.approx(0.5 + 0.2, abs=0.05)
        assert answer.duration == pytest.approx(0.06 * len("It is noon."), abs=0.001)
        assert c.said() == [("user", "what time is it"), ("assistant", "It is noon.")]
        assert model.remembered() == c.said()
        assert [request.instructions for request in model.requests] == [None]
        assert model.updates[0].instructions == "Be brief."
        assert (model.sessions, model.closed) == (1, 0)
    assert model.closed == 1


@virtual_time
async def test_our_voice_activity_tells_the_model_where_utterances_are() -> None:
    model = ScriptedRealtime(["Rome is fine."], heard=["what about", "Rome"])
    async with call(model, vad=ScriptedVAD()) as c:
        c.user.speak(1.0)
        c.user.silence(0.35)
        c.user.speak(0.6)
        await c.until(6.0)
        assert c.said() == [("user", "what about Rome"), ("assistant", "Rome is fine.")]
        assert model.remembered() == [("user", "what about"), ("user", "Rome"), ("assistant", "Rome is fine.")]


@pytest.mark.parametrize("by_model", [True, False])
@virtual_time
async def test_an_interruption_leaves_the_model_with_what_was_heard(by_model: bool) -> None:
    story = "This is a long story. It goes on and on for quite a while. Nobody hears the end of it."
    model = ScriptedRealtime([story, "Yes?"], heard=["stop please"])
    options, vad = (BY_MODEL, None) if by_model else (None, ScriptedVAD())
    async with call(model, vad=vad, options=options) as c:
        handle = c.session.generate_reply(instructions="Tell a story.")
        await c.until(3.0)
        c.user.speak(1.0)
        await handle
        assert handle.reason is EndReason.INTERRUPTED
        (cut,) = model.truncated
        assert cut == (f"{handle.id}.1", handle.heard_seconds, handle.heard_text)
        assert handle.heard_seconds == pytest.approx(c.out.heard[0].duration, abs=0.001)
        assert 0 < len(handle.heard_text) < len(story)
        assert story.startswith(handle.heard_text)
        await c.until(9.0)
        assert c.said() == [("assistant", handle.heard_text), ("user", "stop please"), ("assistant", "Yes?")]
        assert sorted(model.remembered()) == sorted(c.said())


@virtual_time
async def test_what_nobody_heard_is_forgotten() -> None:
    model = ScriptedRealtime([Response("Never heard.", first=3.0), "Both answered."], heard=["one", "two"])
    async with call(model, vad=ScriptedVAD()) as c:
        c.user.speak(0.5)
        c.user.silence(1.2)  # the answer is being made, and not heard yet
        c.user.speak(0.5)
        await c.until(8.0)
        assert c.said() == [("user", "one"), ("user", "two"), ("assistant", "Both answered.")]
        assert [(seconds, text) for _, seconds, text in model.truncated] == [(0.0, "")]
        assert model.remembered() == c.said()


@virtual_time
async def test_an_answer_that_is_cut_off_while_it_is_made() -> None:
    slow = Response("One two three four five six seven eight.", real_time_factor=2.0)
    model = ScriptedRealtime([slow, "Yes?"])
    async with call(model) as c:
        handle = c.session.generate_reply()
        await c.until(1.5)
        c.session.interrupt()
        await handle
        await asyncio.sleep(0)
        assert model.closed_early == 1
        assert handle.heard_text
        assert model.remembered() == [("assistant", handle.heard_text)]
        assert (await c.session.generate_reply()).heard_text == "Yes?"


@virtual_time
async def test_an_answer_that_was_begun_too_early_is_forgotten() -> None:
    options = SessionOptions(rules=DialogRules(preemptive=True))
    model = ScriptedRealtime(["Half an answer.", "The answer."], heard=["what about", "Rome"])
    async with call(model, vad=ScriptedVAD(), options=options) as c:
        c.user.speak(1.0)
        c.user.silence(0.4)
        c.user.speak(0.6)
        await c.until(8.0)
        assert len(model.requests) == 2
        assert c.said() == [("user", "what about Rome"), ("assistant", "The answer.")]
        assert model.remembered() == [("user", "what about"), ("user", "Rome"), ("assistant", "The answer.")]


@virtual_time
async def test_responses_are_made_one_at_a_time() -> None:
    model = ScriptedRealtime(["The first.", "The second."])
    async with call(model) as c:
        first, second = c.session.generate_reply(), c.session.generate_reply()
        await asyncio.gather(first, second)
        assert [request.id for request in model.requests] == [f"{first.id}.1", f"{second.id}.1"]
        assert c.said() == [("assistant", "The first."), ("assistant", "The second.")]


@virtual_time
async def test_instructions_take_the_place_of_the_agents_for_one_response() -> None:
    model = ScriptedRealtime(["Welcome.", "Fine.", "Elsewhere."])
    async with call(model) as c:
        await c.session.generate_reply(instructions="Greet the user.")
        await c.session.generate_reply(user_input="how are you")
        assert [request.instructions for request in model.requests] == ["Greet the user.", None]
        assert model.remembered() == [("assistant", "Welcome."), ("user", "how are you"), ("assistant", "Fine.")]
        context = ChatContext([Message("m", "user", "something else")])
        await c.session.generate_reply(chat_ctx=context)
        assert model.requests[-1].chat_ctx == context
        assert model.remembered()[-1] == ("assistant", "Elsewhere.")
        assert ("user", "something else") not in model.remembered()


@virtual_time
async def test_say_needs_a_voice_of_its_own() -> None:
    async with call(ScriptedRealtime()) as c:
        with pytest.raises(
            RuntimeError, match=r"Add a TTS plugin to the session \(tts=...\), or use generate_reply\(\)"
        ):
            c.session.say("Hello.")
        assert c.session.current_speech is None


@virtual_time
async def test_what_another_voice_said_is_told() -> None:
    model = ScriptedRealtime(["Yes."])
    async with call(model, tts=ScriptedTTS()) as c:
        await c.session.say("Hello, this is a recording.")
        assert model.remembered() == []
        c.session.receive_text("are you there")
        await c.until(6.0)
        assert c.said() == [
            ("assistant", "Hello, this is a recording."),
            ("user", "are you there"),
            ("assistant", "Yes."),
        ]
        assert model.remembered() == c.said()


class Clerk(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Use tools.")
        self.hooked = False

    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: Message) -> None:
        self.hooked = True
        turn_ctx.add_message(role="system", content="The clock is slow.")

    @function_tool
    async def look_up(self, ctx: RunContext, what: str) -> str:
        """Look something up."""
        return f"{what}: 42"


@virtual_time
async def test_tools_run_once_and_their_results_are_told() -> None:
    lookup = ToolCall("c1", "look_up", '{"what": "price"}')
    model = ScriptedRealtime([Response("Let me see.", calls=(lookup,)), "It is 42.", "Goodbye."], heard=["the price"])
    agent = Clerk()
    async with call(model, agent=agent, vad=ScriptedVAD()) as c:
        c.user.speak(0.5)
        await c.until(8.0)
        assert agent.hooked
        assert c.said() == [("user", "the price"), ("assistant", "Let me see."), ("assistant", "It is 42.")]
        assert model.remembered() == [
            ("user", "the price"),
            ("system", "The clock is slow."),
            ("assistant", "Let me see."),
            ("call", 'look_up {"what": "price"}'),
            ("output", "price: 42"),
            ("assistant", "It is 42."),
        ]
        assert model.updates[0].tools is not None
        assert [tool.name for tool in model.updates[0].tools] == ["look_up"]
        c.session.receive_text("bye")  # the hook has the words under another id than the history
        await c.until(14.0)
        assert [part for part in model.remembered() if part[0] == "user"] == [("user", "the price"), ("user", "bye")]


@virtual_time
async def test_changes_are_told_before_the_next_response() -> None:
    model = ScriptedRealtime(["One.", "Two.", "Three."])
    agent = Clerk()
    async with call(model, agent=agent) as c:
        await c.session.generate_reply()
        assert len(model.updates) == 1
        await agent.update_instructions("Be kind.")
        await agent.update_tools([])
        await c.session.generate_reply()
        assert [(u.instructions, u.tools, u.chat_ctx) for u in model.updates[1:]] == [("Be kind.", (), None)]
        await agent.update_chat_ctx(ChatContext([Message("m", "user", "All that matters.")]))
        await c.session.generate_reply()
        assert model.remembered() == [("user", "All that matters."), ("assistant", "Three.")]


@virtual_time
async def test_a_tool_that_takes_something_else_is_another_tool() -> None:
    @function_tool(name="look_up")
    async def by_number(number: int) -> str:
        """Look something up."""
        return str(number)

    model = ScriptedRealtime(["One.", "Two.", "Three."])
    agent = Clerk()
    async with call(model, agent=agent) as c:
        await c.session.generate_reply()
        await agent.update_tools([by_number])
        await c.session.generate_reply()
        await c.session.generate_reply()
        (told,) = model.updates[1:]
        assert told.tools is not None
        assert [(tool.name, list(tool.parameters["properties"])) for tool in told.tools] == [("look_up", ["number"])]


@virtual_time
async def test_an_agent_with_ears_of_its_own_has_a_conversation_that_hears_so() -> None:
    model = ScriptedRealtime(["Reception.", "Rome is fine."], heard=["what about Rome"])
    async with call(model) as c:
        await c.session.generate_reply()
        c.session.update_agent(Agent(vad=ScriptedVAD(), chat_ctx=c.session.current_agent.chat_ctx))
        await asyncio.sleep(0.1)
        assert (model.sessions, model.closed) == (2, 1)
        c.user.speak(1.0)
        await c.until(8.0)
        assert c.said() == [("assistant", "Reception."), ("user", "what about Rome"), ("assistant", "Rome is fine.")]
        assert model.remembered() == c.said()


@virtual_time
async def test_another_agent_goes_on_with_the_same_model() -> None:
    model = ScriptedRealtime(["Reception.", "Sales."])
    async with call(model) as c:
        await c.session.generate_reply()
        c.session.update_agent(Agent(instructions="Sell.", chat_ctx=c.session.current_agent.chat_ctx))
        await asyncio.sleep(0.1)
        await c.session.generate_reply()
        assert (model.sessions, model.closed) == (1, 0)
        assert model.updates[-1].instructions == "Sell."
        assert model.remembered() == c.said() == [("assistant", "Reception."), ("assistant", "Sales.")]


@virtual_time
async def test_a_model_that_fails_ends_the_speech_and_not_the_call() -> None:
    model = ScriptedRealtime(
        [Response("It breaks here.", failure="raise", failure_at=2), "Here I am."], heard=["hello"]
    )
    async with call(model, options=BY_MODEL) as c:
        handle = await c.session.generate_reply()
        assert handle.reason is EndReason.FAILED
        assert handle.heard_text == "It", "where words are is estimated, and never to more than was heard"
        (error,) = c.errors
        assert error.source == "llm"
        assert isinstance(error.error, ProviderError)
        c.user.speak(0.5)
        await c.until(8.0)
        assert c.said()[-2:] == [("user", "hello"), ("assistant", "Here I am.")]


@virtual_time
async def test_a_failure_is_admitted_by_the_model_itself_where_it_is_the_only_voice() -> None:
    guard = DeadAirRules(enabled=True, fallback_phrase="Could you say that again?")
    rules = DialogRules(turns=TurnRules(detection="realtime"), dead_air=guard)
    model = ScriptedRealtime(
        [Response("Never heard.", failure="raise"), "Could you say that again?", "It is noon."],
        heard=["what time is it", "the time"],
    )
    async with call(model, agent=Clerk(), options=SessionOptions(rules=rules)) as c:
        c.user.speak(0.5)
        c.user.silence(15.0)
        c.user.speak(0.5)
        await c.until(25.0)
        assert c.said() == [
            ("user", "what time is it"),
            ("assistant", "Could you say that again?"),
            ("user", "the time"),
            ("assistant", "It is noon."),
        ]
        asked = model.requests[1]
        assert asked.instructions == "Say exactly these words, and nothing else: Could you say that again?"
        assert (asked.tools, asked.tool_choice) == ((), "none")
        assert [part for part in model.remembered() if part[0] != "system"] == c.said()


@virtual_time
async def test_ears_that_fail_hear_again() -> None:
    model = ScriptedRealtime(["Yes."], heard=[Heard("x", failure="raise"), "still there"])
    async with call(model, vad=ScriptedVAD()) as c:
        c.user.speak(0.5)
        c.user.silence(2.0)
        c.user.speak(0.5)
        await c.until(14.0)
        assert [error.source for error in c.errors] == ["llm"]
        assert c.said() == [("user", "still there"), ("assistant", "Yes.")]


@virtual_time
async def test_a_model_that_writes_is_read_aloud() -> None:
    model = ScriptedRealtime(["It is noon."], heard=["what time is it"], speaks=False)
    tts = ScriptedTTS()
    async with call(model, tts=tts, options=BY_MODEL) as c:
        c.user.speak(0.5)
        await c.until(6.0)
        assert tts.sentences == ["It is noon."]
        assert c.said() == [("user", "what time is it"), ("assistant", "It is noon.")]


@virtual_time
async def test_the_sessions_transcriber_goes_before_the_models() -> None:
    model = ScriptedRealtime(["Yes."], heard=["what the model understood"], transcribes=False)
    async with call(model, vad=ScriptedVAD(), stt=ScriptedSTT(["what was said"])) as c:
        c.user.speak(0.5)
        await c.until(6.0)
        assert c.said() == [("user", "what was said"), ("assistant", "Yes.")]
        assert model.remembered()[0] == ("user", "what the model understood")


@virtual_time
async def test_ears_that_would_hear_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="ScriptedRealtime does not tell what the user says; add an stt"):
        async with call(ScriptedRealtime(transcribes=False), vad=ScriptedVAD()):
            pass
    session = AgentSession(vad=ScriptedVAD(), options=BY_MODEL)
    with pytest.raises(ValueError, match="the agent's llm is no realtime model"):
        await session.start(Agent(), audio_in=LoopbackInput(), audio_out=LoopbackOutput())
    await session.aclose()
