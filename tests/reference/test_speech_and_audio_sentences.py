"""What "Agent speech and audio" says in words: defaults, parameters, and what becomes of text and audio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from livekit import rtc

from greenroom import Agent, AgentSession, ChatContext, Message, SpeechHandle, function_tool
from greenroom.audio import AudioFrame, Pcm
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import UserState
from greenroom.dialog.interruption import InterruptionRules
from greenroom.session.session import SessionOptions
from greenroom.testing.providers import Answer
from greenroom.testing.virtual_time import virtual_time
from tests.session.stage import Scene, scene

STORY = "This is a long story. It goes on and on for quite a while. Nobody hears the end of it."


# --- preemptive speech generation -----------------------------------------------------------------------------------


class Changing(Agent):
    """Its hook changes what the text says makes an early answer worthless."""

    def __init__(self, what: str) -> None:
        super().__init__(instructions="Be brief.")
        self.what = what

    @function_tool
    async def old_tool(self) -> str:
        """Before."""
        return ""

    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: Message) -> Message | None:
        if self.what == "context":
            turn_ctx.add_message(role="system", content="The door is open.")
        elif self.what == "tools":
            await self.update_tools([])
        return None


@pytest.mark.parametrize("changed", ["context", "tools"])
@virtual_time
async def test_what_the_hook_changes_replaces_the_early_answer(changed: str) -> None:
    options = SessionOptions(rules=DialogRules(preemptive=True))
    answers = [Answer("You never hear this.", first_token=0.05), "This is the answer."]
    agent = Changing(changed)
    async with scene(agent=agent, heard=["what about the door"], answers=answers, options=options) as s:
        s.user.speak(1.0)
        await s.until(6.0)
        assert len(s.llm.contexts) == 2
        assert s.llm.contexts[0].messages()[-1].text == "what about the door"
        assert s.llm.contexts[1].messages()[-1].text == "what about the door"
        new = [message.text for message in s.llm.contexts[1].messages()]
        assert ("The door is open." in new) == (changed == "context")
        assert [len(tools) for tools in s.llm.tools] == ([1, 1] if changed == "context" else [1, 0])
        assert s.said() == [("user", "what about the door"), ("assistant", "This is the answer.")]
        assert s.tts.finished == ["This is the answer."]
        assert len(s.times("speech_created")) == 1


@virtual_time
async def test_an_early_answer_is_kept_when_nothing_changed() -> None:
    options = SessionOptions(rules=DialogRules(preemptive=True))
    agent = Changing("nothing")
    async with scene(agent=agent, heard=["what about the door"], answers=["It is open."], options=options) as s:
        s.user.speak(1.0)
        await s.until(6.0)
        assert len(s.llm.contexts) == 1
        assert s.said() == [("user", "what about the door"), ("assistant", "It is open.")]


# --- initiating speech ----------------------------------------------------------------------------------------------


@virtual_time
async def test_the_agent_waits_for_the_user_and_then_answers_by_itself() -> None:
    async with scene(heard=["hello"], answers=["Good evening."]) as s:
        await s.until(30.0)
        assert s.out.heard == []
        assert s.llm.contexts == []
        s.user.speak(0.5)
        await s.until(35.0)
        assert s.said() == [("user", "hello"), ("assistant", "Good evening.")]


class Host(Agent):
    async def on_enter(self) -> None:
        self.session.on("user_state_changed", self.check_in)
        self.session.generate_reply(instructions="Greet the user.")

    def check_in(self, event: Any) -> None:
        if event.new_state == UserState.AWAY:
            self.session.say("Are you still there?")


@virtual_time
async def test_an_agent_greets_and_checks_in_after_silence() -> None:
    options = SessionOptions(rules=DialogRules(away_after=10.0))
    async with scene(agent=Host(), answers=["Welcome."], options=options) as s:
        await s.until(15.0)
        assert s.said() == [("assistant", "Welcome."), ("assistant", "Are you still there?")]
        greeting, question = s.out.heard
        assert greeting.at < 1.0
        assert question.at - (greeting.at + greeting.duration) == pytest.approx(10.0, abs=0.2)


@virtual_time
async def test_audio_made_beforehand_skips_the_voice_and_begins_sooner() -> None:
    begins: list[float] = []
    for audio in (None, tone(1.0)):
        async with scene() as s:
            asked = asyncio.get_running_loop().time()
            await s.session.say("Hello there.", audio=audio)
            begins.append(s.out.heard[0].at - asked)
            assert s.said() == [("assistant", "Hello there.")]
            assert s.tts.sentences == (["Hello there."] if audio is None else [])
    assert begins == [pytest.approx(0.05, abs=0.001), pytest.approx(0.0, abs=0.001)]


# --- session.say ----------------------------------------------------------------------------------------------------


@virtual_time
async def test_text_alone_is_in_the_sound_the_transcript_and_the_chat_context() -> None:
    async with scene() as s:
        handle = s.session.say("Good evening.")
        await s.until(0.5)
        assert s.said() == [], "the chat context has it after playback"
        await handle
        assert s.tts.finished == ["Good evening."]
        assert transcript(s) == "Good evening."
        assert s.said() == [("assistant", "Good evening.")]
        assert s.session.current_agent.chat_ctx.messages()[-1].text == "Good evening."


@virtual_time
async def test_without_add_to_chat_ctx_text_is_in_the_transcript_only() -> None:
    async with scene() as s:
        await s.session.say("Good evening.", add_to_chat_ctx=False)
        assert s.tts.finished == ["Good evening."]
        assert transcript(s) == "Good evening."
        assert s.said() == []


@pytest.mark.parametrize("in_chat_ctx", [True, False])
@pytest.mark.parametrize("text", [None, ""])
@virtual_time
async def test_audio_alone_is_in_neither(text: str | None, in_chat_ctx: bool) -> None:
    async with scene() as s:
        await s.session.say(text, audio=tone(0.5), add_to_chat_ctx=in_chat_ctx)
        assert s.out.heard_seconds == pytest.approx(0.5, abs=0.01)
        assert transcript(s) == ""
        assert s.said() == []
        assert s.tts.sentences == []


@virtual_time
async def test_of_text_and_audio_the_audio_is_played_and_the_text_is_written_down() -> None:
    async with scene() as s:
        await s.session.say("Ding dong.", audio=tone(0.5, amplitude=1234))
        (sound,) = s.out.heard
        assert np.all(sound.pcm == 1234)
        assert s.tts.sentences == []
        assert transcript(s) == "Ding dong."
        assert s.said() == [("assistant", "Ding dong.")]


@virtual_time
async def test_text_may_come_piece_by_piece() -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "The first sentence. "
        await asyncio.sleep(5.0)
        yield "The second one."

    async with scene() as s:
        handle = s.session.say(pieces())
        await s.until(3.0)
        assert s.tts.finished == ["The first sentence."], "it is spoken before the rest is there"
        assert s.out.heard_seconds == pytest.approx(0.06 * len("The first sentence."))
        await handle
        assert s.said() == [("assistant", "The first sentence. The second one.")]


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (24_000, 1), (44_100, 2), (48_000, 2)])
@virtual_time
async def test_audio_is_livekits_frames_of_any_rate_and_channels(rate: int, channels: int) -> None:
    async def frames() -> AsyncIterator[rtc.AudioFrame]:
        for _ in range(50):
            samples = np.full(rate // 100 * channels, 1000, dtype=np.int16)
            yield rtc.AudioFrame(samples.tobytes(), rate, channels, rate // 100)

    async with scene() as s:
        await s.session.say(audio=frames())
        (sound,) = s.out.heard
        assert sound.duration == pytest.approx(0.5, abs=0.01)
        middle = sound.pcm[len(sound.pcm) // 4 : -len(sound.pcm) // 4]
        assert np.all(np.abs(middle.astype(int) - 1000) < 20)


@virtual_time
async def test_interruptible_is_the_default_and_protection_is_a_choice() -> None:
    choices: list[dict[str, Any]] = [{}, {"allow_interruptions": True}, {"allow_interruptions": False}]
    for choice in choices:
        async with scene(heard=["stop"], answers=["Yes?"]) as s:
            handle = s.session.say(STORY, **choice)
            assert handle.allow_interruptions == choice.get("allow_interruptions", True)
            s.user.silence(1.0)
            s.user.speak(0.5)
            await handle
            assert handle.interrupted == handle.allow_interruptions
            assert (handle.heard_text == STORY) != handle.interrupted
            await asyncio.sleep(3.0)
            assert ("user", "stop") in s.said(), "kept in any case"
            assert s.said()[-1] == ("assistant", "Yes?")


def test_defaults_are_those_of_the_text() -> None:
    say = inspect.signature(AgentSession.say).parameters
    assert next(name for name in say if name != "self") == "text"
    assert say["allow_interruptions"].default is True
    assert say["add_to_chat_ctx"].default is True
    generate_reply = inspect.signature(AgentSession.generate_reply).parameters
    assert generate_reply["allow_interruptions"].default is True
    assert generate_reply["chat_ctx"].default is None


@virtual_time
async def test_speech_returns_a_handle_and_is_announced_once() -> None:
    async with scene(answers=["One.", "Two."]) as s:
        created: list[Any] = []
        s.session.on("speech_created", created.append)
        say = s.session.say("Hello.")
        generated = s.session.generate_reply(user_input="hi")
        replied = s.session.reply("Greet.")
        assert all(isinstance(handle, SpeechHandle) for handle in (say, generated, replied))
        assert [event.speech_handle for event in created] == [say, generated, replied]
        assert [event.source for event in created] == ["say", "generate_reply", "generate_reply"]
        assert all(event.user_initiated for event in created)
        await asyncio.gather(say, generated, replied)
        assert len(created) == 3


# --- generate_reply -------------------------------------------------------------------------------------------------


@virtual_time
async def test_instructions_are_appended_for_one_reply_and_the_chat_context_is_the_default() -> None:
    async with scene(answers=["Welcome.", "Fine."]) as s:
        await s.session.generate_reply(instructions="Greet the user.")
        await s.session.generate_reply(user_input="how are you")
        assert told(s, 0) == [("system", "Be brief.\n\nGreet the user.")]
        assert told(s, 1) == [("system", "Be brief."), ("assistant", "Welcome."), ("user", "how are you")]


@virtual_time
async def test_a_reply_may_be_protected_too() -> None:
    async with scene(heard=["stop", "stop"], answers=[STORY, "Yes?", STORY, "Yes?"]) as s:
        for protected in (True, False):
            handle = s.session.generate_reply(user_input="tell me", allow_interruptions=not protected)
            s.user.silence(1.5)
            s.user.speak(0.5)
            await handle
            assert handle.interrupted != protected
            await asyncio.sleep(3.0)
            assert s.said()[-1] == ("assistant", "Yes?")


@virtual_time
async def test_a_chat_context_may_leave_out_and_add_messages() -> None:
    async with scene(answers=["Noted.", "The answer."]) as s:
        await s.session.generate_reply(user_input="my number is 1234")
        ctx = ChatContext()
        ctx.add_message(role="system", content="Speak like a pirate.")
        ctx.add_message(role="user", content="What lies north?")
        await s.session.generate_reply(chat_ctx=ctx)
        assert told(s, 1) == [("system", "Speak like a pirate."), ("user", "What lies north?")]
        assert len(ctx) == 2, "the caller's own is not touched"
        assert [text for _, text in s.said()] == ["my number is 1234", "Noted.", "The answer."]


# --- controlling agent speech ---------------------------------------------------------------------------------------


@virtual_time
async def test_a_handle_tracks_the_speech() -> None:
    async with scene() as s:
        handle = s.session.say("Good evening.")
        assert (handle.done(), handle.interrupted, handle.started, handle.ended) == (False, False, None, None)
        await s.until(0.5)
        assert not handle.done()
        assert handle.started == s.out.heard[0].at
        assert (await handle) is handle
        assert (handle.done(), handle.interrupted, handle.exception()) == (True, False, None)
        assert handle.ended == pytest.approx(s.out.heard[0].at + s.out.heard_seconds)


@virtual_time
async def test_done_callbacks_are_those_of_a_future() -> None:
    called: list[SpeechHandle] = []
    never: list[SpeechHandle] = []
    async with scene() as s:
        handle = s.session.say("Hello.")
        handle.add_done_callback(called.append)
        handle.add_done_callback(never.append)
        handle.remove_done_callback(never.append)
        await handle
        assert called == [handle]
        handle.add_done_callback(called.append)
        assert called == [handle], "never from inside the call"
        await asyncio.sleep(0)
        assert called == [handle, handle]
        assert never == []


@virtual_time
async def test_current_speech_is_the_one_that_is_active_or_none() -> None:
    async with scene() as s:
        assert s.session.current_speech is None
        first, second = s.session.say("One."), s.session.say("Two.")
        await s.until(0.1)
        assert s.session.current_speech is first
        await first
        await asyncio.sleep(0.05)
        assert s.session.current_speech is second
        await second
        assert s.session.current_speech is None


# --- interruptions --------------------------------------------------------------------------------------------------


@virtual_time
async def test_interruptions_can_be_turned_off() -> None:
    rules = DialogRules(interruption=InterruptionRules(enabled=False))
    async with scene(heard=["stop"], answers=["Yes?"], options=SessionOptions(rules=rules)) as s:
        handle = s.session.say("This goes on for a little while.")
        s.user.silence(0.5)
        s.user.speak(0.2)
        s.user.silence(0.5)
        await s.until(1.2)
        assert s.out.heard_seconds == pytest.approx(1.15, abs=0.05), "not even a pause"
        await handle
        assert ("user", "stop") in s.said()


# --- pieces ---------------------------------------------------------------------------------------------------------


async def tone(seconds: float, *, rate: int = 24_000, amplitude: int = 1000) -> AsyncIterator[AudioFrame]:
    pcm: Pcm = np.full(rate // 10, amplitude, dtype=np.int16)
    for _ in range(round(seconds * 10)):
        yield AudioFrame(pcm, rate)


def told(s: Scene, request: int) -> list[tuple[str, str]]:
    """What the model was told in this request."""
    return [(message.role, message.text) for message in s.llm.contexts[request].messages()]


def transcript(s: Scene) -> str:
    """What the user can read of the agent's words."""
    return "".join(event.delta for _, name, event in s.events if name == "agent_text")


@virtual_time
async def test_an_empty_chat_context_is_a_chat_context() -> None:
    """``chat_ctx`` replaces the context wholly, also when it holds nothing (``ChatContext`` is falsy when empty)."""
    async with scene(answers=["One.", "Two."]) as s:
        await s.session.generate_reply(user_input="hello")
        await s.session.generate_reply(chat_ctx=ChatContext())
        assert s.llm.contexts[1].messages() == []


@virtual_time
async def test_the_users_input_is_told_after_a_chat_context() -> None:
    """Both are parameters of one call; the model must be told both, the input last."""
    async with scene(answers=["Two."]) as s:
        ctx = ChatContext()
        ctx.add_message(role="system", content="Speak like a pirate.")
        await s.session.generate_reply(user_input="hello", chat_ctx=ctx)
        assert [(m.role, m.text) for m in s.llm.contexts[0].messages()] == [
            ("system", "Speak like a pirate."),
            ("user", "hello"),
        ]


@virtual_time
async def test_the_model_knows_what_is_being_said_when_it_answers_a_turn_taken_over_it() -> None:
    """A turn during a protected speech: its answer is made when the speech is part of what the model knows."""
    async with scene(heard=["what about me"], answers=["You wait."]) as s:
        handle = s.session.say("Listen to this long announcement, please, which goes on.", allow_interruptions=False)
        s.user.silence(0.5)
        s.user.speak(0.5)
        await handle
        await asyncio.sleep(3.0)
        assert ("assistant", handle.heard_text) in [(m.role, m.text) for m in s.llm.contexts[0].messages()]
        assert [(m.role, m.text) for m in s.llm.contexts[0].messages()][-1] == ("user", "what about me")
