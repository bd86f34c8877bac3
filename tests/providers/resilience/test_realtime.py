"""A realtime model whose place others take, with its memory."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import numpy as np
import pytest

from greenroom.audio import AudioFrame
from greenroom.dialog.history import ChatContext, FunctionCall, FunctionCallOutput, Message
from greenroom.errors import ProviderError
from greenroom.providers import RealtimeRequest, RealtimeSession, TextDelta, ToolCall
from greenroom.providers.plugin import PluginError
from greenroom.providers.realtime import RealtimeHeard
from greenroom.providers.resilience.memory import Memory
from greenroom.providers.resilience.realtime import ResilientRealtime
from greenroom.providers.resilience.rules import GaveUp
from greenroom.testing.providers import Heard
from greenroom.testing.realtime import Response, ScriptedRealtime
from greenroom.testing.virtual_time import virtual_time
from tests.providers.resilience.models import Told, candidates


async def said(session: RealtimeSession, name: str) -> str:
    async with aclosing(session.respond(RealtimeRequest(name))) as chunks:
        return "".join([chunk.text async for chunk in chunks if isinstance(chunk, TextDelta)])


def speak(session: RealtimeSession, utterance: str) -> None:
    at = asyncio.get_running_loop().time()
    session.start_of_speech(utterance, at=at)
    session.push(AudioFrame(np.ones(2400, dtype=np.int16), 24000, at))
    session.end_of_speech(utterance)


async def listen(session: RealtimeSession, into: list[RealtimeHeard]) -> None:
    async for heard in session:
        into.append(heard)  # noqa: PERF401  # what came before a failure counts too


@virtual_time
async def test_a_response_that_fails_is_asked_for_again() -> None:
    model = ResilientRealtime(candidates(ScriptedRealtime([Response(failure="raise"), "Hello there."])))
    told, session = Told(model.chain), model.session(detect_speech=False)
    assert await said(session, "r1") == "Hello there."
    assert [one[1:3] for one in told.actions()] in ([("error", "retried")], [("refused", "gave_up")])
    await session.aclose()


@virtual_time
async def test_who_takes_the_place_knows_the_conversation() -> None:
    first = ScriptedRealtime(["Good day to you.", Response(failure="stall")], heard=["What time is it?"])
    second = ScriptedRealtime(["It is noon.", "And again."], heard=["Thanks"])
    model = ResilientRealtime(candidates(first, second))
    told, session = Told(model.chain), model.session(detect_speech=False)
    heard: list[RealtimeHeard] = []
    listening = asyncio.create_task(listen(session, heard))
    session.update(instructions="Be brief.", tools=[])
    assert await said(session, "r1") == "Good day to you."
    session.truncate("r1", seconds=0.5, text="Good day")
    session.add(Message("typed", "user", "By the way"))
    speak(session, "u1")
    await asyncio.sleep(0.5)
    assert await said(session, "r2") == "It is noon."
    assert told.actions() == [("a", "timeout", "fell_back", "b")]
    assert second.updates[0].instructions == "Be brief."
    context = second.updates[1].chat_ctx
    assert context is not None
    assert [(message.role, message.text) for message in context.messages()] == [
        ("assistant", "Good day"),
        ("user", "By the way"),
        ("user", "What time is it?"),
    ]
    await asyncio.sleep(30)  # the first may be well again: the memory stays where it is
    speak(session, "u2")
    assert await said(session, "r3") == "And again."
    await asyncio.sleep(1)
    assert [getattr(one, "text", None) for one in heard] == ["What time is it?", "Thanks"]
    assert first.closed == 1 + (first.sessions - 1)
    await session.aclose()
    await listening
    await model.aclose()


@virtual_time
async def test_an_utterance_without_words_is_heard_again() -> None:
    first = ScriptedRealtime([Response(failure="stall")], heard=[Heard("", failure="stall")])
    second = ScriptedRealtime(["I heard you."], heard=["Can you hear me?"])
    model = ResilientRealtime(candidates(first, second))
    session = model.session(detect_speech=False)
    heard: list[RealtimeHeard] = []
    listening = asyncio.create_task(listen(session, heard))
    speak(session, "u1")
    assert await said(session, "r1") == "I heard you."
    await asyncio.sleep(1)
    assert [getattr(one, "text", None) for one in heard] == ["Can you hear me?"]
    assert len(second.audio) == 1
    await session.aclose()
    await listening
    await model.aclose()


@virtual_time
async def test_words_are_not_said_twice() -> None:
    first = ScriptedRealtime([Response("one two three", failure="raise", failure_at=2)])
    model = ResilientRealtime(candidates(first, ScriptedRealtime(["four"])))
    session = model.session(detect_speech=False)
    with pytest.raises(GaveUp):
        await said(session, "r1")
    assert await said(session, "r2") == "four"
    await session.aclose()
    await model.aclose()


@virtual_time
async def test_a_failure_to_hear_is_told() -> None:
    model = ResilientRealtime(candidates(ScriptedRealtime(heard=[Heard("", failure="raise")])))
    session = model.session(detect_speech=False)
    speak(session, "u1")
    with pytest.raises(ProviderError, match="as the script says"):
        await listen(session, [])
    await session.aclose()


@virtual_time
async def test_who_does_not_hear_again_is_left_with_what_it_did_not_hear() -> None:
    first = Deaf()
    second = ScriptedRealtime(heard=["Can you hear me?"])
    model = ResilientRealtime(candidates(first, second))
    told, session = Told(model.chain), model.session(detect_speech=False)
    speak(session, "u1")
    heard: list[RealtimeHeard] = []
    with pytest.raises(ProviderError, match="no connection"):
        await listen(session, heard)
    listening = asyncio.create_task(listen(session, heard))
    await asyncio.sleep(3)
    assert told.actions() == [("a", "error", "fell_back", "b")]
    assert [getattr(one, "text", None) for one in heard] == ["Can you hear me?"]
    await session.aclose()
    await listening
    await model.aclose()


class Deaf(ScriptedRealtime):
    """Says once that it has no connection, and nothing after that."""

    def session(self, *, detect_speech: bool) -> RealtimeSession:
        made = super().session(detect_speech=detect_speech)
        made._heard.put_nowait(ProviderError("no connection", provider="deaf", retryable=True))  # type: ignore[attr-defined]
        made.end_of_speech = lambda utterance: None  # type: ignore[method-assign]
        return made


def test_who_cannot_stand_in_is_refused() -> None:
    with pytest.raises(PluginError, match="`b` does not speak or transcribe as the first"):
        ResilientRealtime(candidates(ScriptedRealtime(), ScriptedRealtime(speaks=False)))


def test_a_memory() -> None:
    memory = Memory()
    memory.update("Be kind.", None, ChatContext([Message("m0", "user", "before")]))
    memory.utterance("u1")
    memory.said("r1", TextDelta("Let me "))
    memory.heard("u1", "What is")
    memory.said("r1", TextDelta("see. "))
    memory.said("r1", ToolCall("c1", "look", "{}"))
    memory.heard("u1", "the time?")
    memory.add(FunctionCallOutput("o1", "c1", "look", "noon"))
    memory.said("r2", TextDelta("It is noon, my friend."))
    memory.truncate("r2", "It is")
    memory.said("r3", TextDelta(""))
    memory.response_over("r3")
    memory.utterance("u2")
    assert memory.context() == ChatContext(
        [
            Message("m0", "user", "before"),
            Message("u1", "user", "What is the time?"),
            Message("r1", "assistant", "Let me see."),
            FunctionCall("c1", "c1", "look", "{}"),
            FunctionCallOutput("o1", "c1", "look", "noon"),
            Message("r2", "assistant", "It is"),
        ]
    )
    memory.update(None, None, ChatContext())
    assert (len(memory.context()), memory.instructions) == (0, "Be kind.")
