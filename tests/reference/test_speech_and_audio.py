"""Each Python snippet of "Agent speech and audio" does what the page says of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from greenroom import Agent, AgentSession, ChatContext, Message, SpeechHandle
from greenroom.providers import ToolCall
from greenroom.testing.loopback import LoopbackInput, LoopbackOutput
from greenroom.testing.providers import Answer, ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from greenroom.testing.virtual_time import virtual_time
from tests.session.stage import Scene, scene

from .snippets import snippet


class Stopwatch:
    """When the model was asked, and when the user's turn was over."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.committed: list[float] = []
        self.providers: dict[str, Any] = {
            "vad": ScriptedVAD(),
            "stt": ScriptedSTT(["what time is it"]),
            "llm": ScriptedLLM([self.answer]),
            "tts": ScriptedTTS(),
        }

    def answer(self, context: ChatContext) -> str:
        self.asked.append(asyncio.get_running_loop().time())
        return "It is noon."

    async def time(self, session: AgentSession) -> None:
        """Ask the session one question. Times count from the end of the question."""
        user, out = LoopbackInput(), LoopbackOutput()

        def note(event: Any) -> None:
            if event.is_final:
                self.committed.append(asyncio.get_running_loop().time())

        session.on("user_input_transcribed", note)
        await session.start(Agent(), audio_in=user, audio_out=out)
        question = user.speak(1.0)
        await question.played()
        await asyncio.sleep(5.0)
        assert [(m.role, m.text) for m in session.history.messages()] == [
            ("user", "what time is it"),
            ("assistant", "It is noon."),
        ]
        await session.aclose()
        user.end()
        assert question.end is not None
        self.asked = [when - question.end for when in self.asked]
        self.committed = [when - question.end for when in self.committed]


@virtual_time
async def test_preemptive_generation_begins_before_the_turn_is_over() -> None:
    early = Stopwatch()
    fill = {"... # STT": "**providers, # STT"}
    found = await snippet("preemptive_generation").run(fill=fill, providers=early.providers)
    await early.time(found["session"])
    usual = Stopwatch()
    await usual.time(AgentSession(**usual.providers))
    # The transcript is there 0.25 s (the voice has ended) and 0.1 s (the transcriber) after the question.
    assert early.asked == [pytest.approx(0.35, abs=0.04)]
    assert early.committed == usual.committed == [pytest.approx(0.5, abs=0.04)]
    assert usual.asked == usual.committed


@virtual_time
async def test_say_speaks_and_is_not_interrupted() -> None:
    async with scene(heard=["wait a moment"], answers=["Yes?"]) as s:
        s.user.silence(1.0)
        s.user.speak(0.5)
        await snippet("say").run(session=s.session)
        assert s.tts.sentences == ["Hello.", "How can I help you today?"]
        assert s.said()[0] == ("assistant", "Hello. How can I help you today?")
        (speech,) = s.out.heard
        assert speech.at + speech.duration == pytest.approx(asyncio.get_running_loop().time(), abs=0.01)
        await asyncio.sleep(2.0)
        assert s.said()[1:] == [("user", "wait a moment"), ("assistant", "Yes?")], "kept, and answered after it"


@virtual_time
async def test_generate_reply_with_instructions() -> None:
    async with scene(answers=["Hello! Where are you from?"]) as s:
        await snippet("reply_to_instructions").run(session=s.session)
        await current(s)
        assert told(s) == [("system", "Be brief.\n\ngreet the user and ask where they are from")]
        assert s.said() == [("assistant", "Hello! Where are you from?")]


@virtual_time
async def test_generate_reply_with_user_input() -> None:
    async with scene(answers=["Sunny."]) as s:
        await snippet("reply_to_user_input").run(session=s.session)
        await current(s)
        assert told(s) == [("system", "Be brief."), ("user", "how is the weather today?")]
        assert s.said() == [("user", "how is the weather today?"), ("assistant", "Sunny.")]


@virtual_time
async def test_generate_reply_with_the_agents_instructions() -> None:
    async with scene(answers=["Good morning!"]) as s:
        await snippet("reply_with_the_agents_instructions").run(session=s.session)
        assert told(s) == [("system", "Be brief.\n\nBe brief.\n\nGreet the user warmly.")]
        assert s.said() == [("assistant", "Good morning!")]


@virtual_time
async def test_a_custom_chat_context_is_all_that_the_model_is_told() -> None:
    modify = "# Then pass"
    change = "ctx.items[:] = [*new, *ctx.items[2:]]\n# Then pass"
    new = [Message("mine", "system", "Speak like a pirate.")]
    async with scene(answers=["Good day.", "Good day, as I said.", "Arr."]) as s:
        await s.session.generate_reply(user_input="hello")
        await snippet("custom_chat_context").run(session=s.session)
        assert told(s) == [("system", "Be brief."), ("user", "hello"), ("assistant", "Good day.")]
        await snippet("custom_chat_context").run(session=s.session, fill={modify: change}, new=new)
        assert told(s) == [
            ("system", "Speak like a pirate."),
            ("assistant", "Good day."),
            ("assistant", "Good day, as I said."),
        ]
        assert s.session.current_agent.instructions == "Be brief."
        assert [text for _, text in s.said()] == ["hello", "Good day.", "Good day, as I said.", "Arr."]


@virtual_time
async def test_awaiting_say_is_a_shortcut_for_waiting_for_playout() -> None:
    shortcut = 'await session.say("Goodbye for now.", allow_interruptions=False)'
    spelled_out = {"# handle": "handle", "# await": "await", f"\n{shortcut}": ""}
    lasted: list[float] = []
    for fill in ({}, spelled_out):
        async with scene(heard=["one more thing"], answers=["Yes?"]) as s:
            began = asyncio.get_running_loop().time()
            s.user.speak(0.6)
            s.user.silence(0.3)
            await snippet("say_and_wait").run(session=s.session, fill=fill)
            lasted.append(asyncio.get_running_loop().time() - began)
            assert s.said() == [("assistant", "Goodbye for now.")], "its end was waited for, and nothing cut it off"
            assert s.out.heard_seconds == pytest.approx(0.06 * len("Goodbye for now."))
    assert lasted[0] == pytest.approx(lasted[1], abs=0.001)


@pytest.mark.parametrize("seconds", [1.0, 10.0])
@virtual_time
async def test_the_agent_speaks_during_a_slow_operation(seconds: float) -> None:
    heard_meanwhile: list[float] = []
    text = "I am about to run something that takes a while."

    async def operate() -> None:
        await asyncio.sleep(seconds)
        heard_meanwhile.append(s.out.heard_seconds)

    async with scene(answers=[text]) as s:
        fill = {"\n...\n": "\nawait operate()\n"}
        found = await snippet("wait_after_slow_operations").run(session=s.session, fill=fill, operate=operate)
        spoken = 0.06 * len(text)
        assert heard_meanwhile[0] == pytest.approx(min(spoken, seconds), abs=0.4)
        assert found["handle"].done()
        assert found["handle"].heard_text == text
        assert asyncio.get_running_loop().time() == pytest.approx(max(spoken, seconds), abs=0.4)


@asynccontextmanager
async def slow_server() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A web server on this machine: an address that answers when the event is set."""
    answer = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        await answer.wait()
        return web.Response(text="data")

    app = web.Application()
    app.router.add_get("/data", handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/data", answer
    finally:
        answer.set()
        await runner.cleanup()


WEB_REQUEST = {
    "client_session.get('https://api.example.com/data')": "asyncio.create_task(client_session.get(url))",
    "    if handle.interrupted:": "    at_the_end(web_request)\n    if handle.interrupted:",
}
QUICK = ScriptedTTS(seconds_per_character=0.02, first_audio=0.01)  # while a socket is open, time is real


@virtual_time
async def test_an_interruption_cancels_the_web_request() -> None:
    async with slow_server() as (url, _), scene(heard=["never mind"], answers=["Processing. " * 20, "Fine."]) as s:
        found: dict[str, Any] = {}
        s.user.silence(0.5)
        s.user.speak(0.4)
        names: dict[str, Any] = {"aiohttp": aiohttp, "url": url, "at_the_end": lambda request: None}
        found = await snippet("cancel_web_request").run(session=s.session, fill=WEB_REQUEST, **names)
        assert found["handle"].interrupted
        await asyncio.wait([found["web_request"]])
        assert found["web_request"].cancelled()


@virtual_time
async def test_without_an_interruption_the_web_request_is_answered() -> None:
    async with slow_server() as (url, answer), scene(answers=["Processing."], tts=QUICK) as s:
        answer.set()
        statuses: list[int] = []

        def at_the_end(request: asyncio.Task[aiohttp.ClientResponse]) -> None:
            statuses.append(request.result().status)
            request.result().release()

        names: dict[str, Any] = {"aiohttp": aiohttp, "url": url, "at_the_end": at_the_end}
        found = await snippet("cancel_web_request").run(session=s.session, fill=WEB_REQUEST, **names)
        assert not found["handle"].interrupted
        assert statuses == [200]
        assert s.said() == [("assistant", "Processing.")]


@virtual_time
async def test_a_done_callback_is_called_when_the_speech_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    async with scene() as s:
        found = await snippet("done_callback").run(session=s.session)
        await s.until(0.6)
        assert not found["handle"].done()
        assert capsys.readouterr().out == ""
        await found["handle"]
        assert s.out.heard_seconds == pytest.approx(0.06 * len("Hello world"))
        assert capsys.readouterr().out == "speech done\n"
    assert capsys.readouterr().out == ""


END_CALL = ToolCall("call_1", "end_call", "{}")


@virtual_time
async def test_end_call_lets_the_agent_finish_speaking() -> None:
    created: list[SpeechHandle] = []
    deleted: list[tuple[Any, str]] = []

    async def delete_room() -> None:
        deleted.append((s.out.heard_seconds, created[0].heard_text))
        await s.session.aclose("room deleted")

    found = await snippet("end_call").run(
        within="class Caller(Agent):", fill={"    ...\n": "    await delete_room()\n"}, delete_room=delete_room
    )
    goodbye = "Thank you for calling, and goodbye."
    async with scene(agent=found["Caller"](), heard=["goodbye"], answers=[Answer(goodbye, calls=(END_CALL,))]) as s:
        s.session.on("speech_created", lambda event: created.append(event.speech_handle))
        s.user.speak(0.5)
        assert await asyncio.wait_for(s.session.wait_closed(), 30.0) == "room deleted"
        (speech,) = created
        assert deleted == [(pytest.approx(0.06 * len(goodbye)), goodbye)]
        assert speech.heard_text == goodbye
        (tool,) = s.llm.tools[0]
        assert (tool.name, tool.parameters["properties"]) == ("end_call", {}), "the model does not see ctx"
        assert tool.description.startswith("Use this tool when the user has signaled they wish to end")


# --- pieces ---------------------------------------------------------------------------------------------------------


def told(s: Scene) -> list[tuple[str, str]]:
    """What the model was told last."""
    return [(message.role, message.text) for message in s.llm.contexts[-1].messages()]


async def current(s: Scene) -> SpeechHandle:
    """The speech that was begun, at its end."""
    assert s.session.current_speech is not None
    return await s.session.current_speech
