"""A user speaks, the agent answers: times, words and samples."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from greenroom import Agent, ChatContext, Message, ProviderError, RunContext, StopResponse, function_tool
from greenroom.dialog.dialog import Dialog, DialogRules
from greenroom.dialog.events import AgentState
from greenroom.providers import ToolCall
from greenroom.session.session import SessionOptions
from greenroom.testing.providers import Answer, Heard, ScriptedTTS
from greenroom.testing.virtual_time import virtual_time

from .stage import scene


@virtual_time
async def test_a_question_is_answered() -> None:
    async with scene(heard=["what time is it"], answers=["It is noon."]) as s:
        s.user.silence(1.0)
        question = s.user.speak(1.0)
        await s.until(8.0)
        assert s.said() == [("user", "what time is it"), ("assistant", "It is noon.")]
        (answer,) = s.out.heard
        assert question.end is not None
        # 0.5 s end of turn, 0.1 first token, 2 x 0.02 tokens, 0.05 first audio; frames are 32 ms long.
        assert answer.at - question.end == pytest.approx(0.5 + 0.1 + 0.04 + 0.05, abs=0.05)
        assert answer.duration == pytest.approx(0.06 * len("It is noon."), abs=0.001)
        states = [event.new_state for _, name, event in s.events if name == "agent_state_changed"]
        assert states == ["listening", "thinking", "speaking", "listening"]
        assert s.times("agent_state_changed", new_state=AgentState.SPEAKING) == [pytest.approx(answer.at, abs=0.06)]


@virtual_time
async def test_the_model_is_told_the_instructions_and_the_history() -> None:
    async with scene(heard=["one", "two"], answers=["First.", "Second."]) as s:
        s.user.speak(0.5)
        await s.until(4.0)
        s.user.speak(0.5)
        await s.until(8.0)
        assert [(m.role, m.text) for m in s.llm.contexts[1].messages()] == [
            ("system", "Be brief."),
            ("user", "one"),
            ("assistant", "First."),
            ("user", "two"),
        ]


@virtual_time
async def test_barge_in_stops_the_voice_and_keeps_what_was_heard() -> None:
    story = "This is a long story. It goes on and on for quite a while. Nobody hears the end of it."
    async with scene(heard=["stop please"], answers=["Yes?"]) as s:
        handle = s.session.say(story)
        await s.until(3.0)
        interruption = s.user.speak(1.0)
        await handle
        assert handle.interrupted
        assert interruption.start is not None
        first = s.out.heard[0]
        stopped = first.at + first.duration
        assert stopped - interruption.start == pytest.approx(0.08, abs=0.04)  # silent as soon as a voice is noticed
        # Exactly the words whose samples had left by then, of a voice that needs 0.06 s for each character.
        assert story.startswith(handle.heard_text)
        assert len(handle.heard_text) == pytest.approx(first.duration / 0.06, abs=8)
        await s.until(9.0)
        assert s.said() == [("assistant", handle.heard_text), ("user", "stop please"), ("assistant", "Yes?")]
        assert s.session.history.messages()[0].interrupted


@virtual_time
async def test_a_cough_pauses_the_voice_and_not_a_sample_is_lost() -> None:
    text = "This goes on in spite of a cough."
    async with scene(heard=[""]) as s:
        handle = s.session.say(text)
        await s.until(0.5)
        s.user.speak(0.2)
        await handle
        assert not handle.interrupted
        assert handle.heard_text == text
        before, after = s.out.heard
        assert 0.3 < after.at - (before.at + before.duration) < 1.0
        whole = [frame async for frame in ScriptedTTS().speak(text)]
        made = np.concatenate([frame.pcm for frame in whole])
        assert np.array_equal(np.concatenate([before.pcm, after.pcm]), made)
        assert s.times("agent_false_interruption", resumed=True)
        states = [event.new_state for _, name, event in s.events if name == "agent_state_changed"]
        assert states == ["listening", "speaking", "listening", "speaking", "listening"]


@virtual_time
async def test_many_speeches_are_heard_one_after_another_without_a_gap() -> None:
    async with scene(tts=ScriptedTTS(durations=[1.0] * 5)) as s:
        handles = [s.session.say(f"Number {n} of five.") for n in range(5)]
        await asyncio.gather(*(handle.wait_for_playout() for handle in handles))
        assert [text for _, text in s.said()] == [f"Number {n} of five." for n in range(5)]
        assert s.out.heard_seconds == pytest.approx(5.0)
        pauses = [b.at - (a.at + a.duration) for a, b in itertools.pairwise(s.out.heard)]
        assert all(pause < 0.02 for pause in pauses)


@virtual_time
async def test_speech_waits_until_somebody_can_hear() -> None:
    async with scene(ready=False) as s:
        handle = s.session.say("Hello.")
        await s.until(3.0)
        assert not s.out.heard
        s.out.set_ready(True)
        await handle
        assert s.out.heard[0].at == pytest.approx(3.0, abs=0.001)


@virtual_time
async def test_a_failing_model_is_reported_and_the_next_turn_is_answered() -> None:
    answers = [Answer("never", failure="raise"), "Here I am."]
    async with scene(heard=["hello", "hello again"], answers=answers) as s:
        s.user.speak(0.5)
        await s.until(4.0)
        s.user.speak(0.5)
        await s.until(8.0)
        (error,) = [event for _, name, event in s.events if name == "error"]
        assert error.source == "llm"
        assert isinstance(error.error, ProviderError)
        assert s.said()[-1] == ("assistant", "Here I am.")


@virtual_time
async def test_a_voice_that_fails_midway_leaves_what_was_heard() -> None:
    async with scene(tts=ScriptedTTS(failures={1: "raise"}, failure_at=0.3)) as s:
        handle = s.session.say("The first sentence is fine. The second one breaks.")
        await handle
        assert handle.exception() is not None
        assert s.said()[0][1].startswith("The first sentence is fine.")
        assert "breaks" not in s.said()[0][1]


@virtual_time
async def test_a_failing_transcriber_is_tried_again() -> None:
    async with scene(heard=[Heard("x", failure="raise"), "still there"], answers=["Yes."]) as s:
        s.user.speak(0.5)
        s.user.silence(2.0)
        s.user.speak(0.5)
        await s.until(14.0)
        assert s.times("error", source="stt")
        assert ("user", "still there") in s.said()
        assert s.said()[-1] == ("assistant", "Yes.")


class Tools(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Use tools.")
        self.entered = False

    async def on_enter(self) -> None:
        self.entered = True

    @function_tool
    async def look_up(self, context: RunContext, city: str, days: int = 1) -> str:
        """Look up the weather.

        Args:
            city: where
        """
        await context.wait_for_playout()
        return f"sunny in {city} for {days} days"


@virtual_time
async def test_a_tool_runs_and_the_answer_goes_on_with_its_result() -> None:
    call = ToolCall("c1", "look_up", '{"city": "Rome", "days": "2"}')
    answers = [Answer("Let me look.", calls=(call,)), "Sunny."]
    agent = Tools()
    async with scene(agent=agent, heard=["weather in Rome"], answers=answers) as s:
        assert s.session.current_agent is agent
        s.user.speak(0.5)
        await s.until(8.0)
        assert agent.entered
        kinds = [type(item).__name__ for item in s.session.history]
        assert kinds == ["Message", "Message", "FunctionCall", "FunctionCallOutput", "Message"]
        assert [(type(i).__name__, getattr(i, "output", "")) for i in s.llm.contexts[1]][-1] == (
            "FunctionCallOutput",
            "sunny in Rome for 2 days",
        )
        assert s.said()[-1] == ("assistant", "Sunny.")
        schema = s.llm.tools[0][0]
        assert schema.name == "look_up"
        assert schema.description == "Look up the weather."
        assert schema.parameters["properties"]["city"] == {"type": "string", "description": "where"}
        assert schema.parameters["required"] == ["city"]


class Hooked(Agent):
    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: Message) -> Message | None:
        if "computer" not in new_message.text:
            raise StopResponse
        turn_ctx.add_message(role="system", content="The door is open.")
        return None


@virtual_time
async def test_a_hook_adds_to_one_answer_or_ends_the_turn() -> None:
    async with scene(agent=Hooked(), heard=["mumble", "computer what about the door"], answers=["Open."]) as s:
        s.user.speak(0.5)
        s.user.silence(3.0)
        s.user.speak(0.5)
        await s.until(8.0)
        assert [(m.role, m.text) for m in s.llm.contexts[0].messages()] == [
            ("system", "The door is open."),
            ("user", "computer what about the door"),
        ]
        assert s.said() == [("user", "computer what about the door"), ("assistant", "Open.")]


@virtual_time
async def test_typed_text_is_answered() -> None:
    async with scene(answers=["Hello."]) as s:
        s.session.receive_text("hi")
        await s.until(3.0)
        assert s.said() == [("user", "hi"), ("assistant", "Hello.")]
        assert s.times("user_input_transcribed", transcript="hi", is_final=True, item_id="") == [0.0]


@virtual_time
async def test_generate_reply_with_instructions_and_with_user_input() -> None:
    async with scene(answers=["Welcome.", "Fine."]) as s:
        await s.session.generate_reply(instructions="Greet the user.")
        await s.session.generate_reply(user_input="how are you")
        assert s.llm.contexts[0].items[0] == Message("instructions", "system", "Be brief.\n\nGreet the user.")
        assert s.said() == [("assistant", "Welcome."), ("user", "how are you"), ("assistant", "Fine.")]
        with pytest.raises(ValueError, match="both instructions and chat_ctx"):
            s.session.generate_reply(instructions="x", chat_ctx=ChatContext())


@virtual_time
async def test_audio_alone_leaves_no_trace_and_with_text_the_text_is_heard() -> None:
    from collections.abc import AsyncIterator

    from greenroom.audio import AudioFrame

    async def tone(seconds: float, rate: int) -> AsyncIterator[AudioFrame]:
        for _ in range(round(seconds * 10)):
            yield AudioFrame(np.full(rate // 10, 1000, dtype=np.int16), rate)

    async with scene() as s:
        await s.session.say(audio=tone(1.0, 48_000))
        assert s.said() == []
        assert s.out.heard_seconds == pytest.approx(1.0, abs=0.01)
        await s.session.say("Ding dong.", audio=tone(0.5, 24_000))
        assert s.said() == [("assistant", "Ding dong.")]
        await s.session.say("Not in the history.", add_to_chat_ctx=False)
        assert s.said() == [("assistant", "Ding dong.")]
        with pytest.raises(ValueError, match="neither text nor audio"):
            s.session.say()


@virtual_time
async def test_handles_tell_their_end_and_never_hang() -> None:
    done: list[str] = []
    async with scene() as s:
        first = s.session.say("One.", allow_interruptions=False)
        second = s.session.say("Two.")
        first.add_done_callback(lambda handle: done.append(handle.id))
        assert s.session.current_speech is first
        await s.until(0.1)
        await s.session.interrupt()
        assert second.interrupted
        assert not first.done()
        assert (await first) is first
        assert not first.interrupted
        assert done == [first.id]
        third = s.session.say("Three is long enough to be cut off by the end of the session.")
        await s.until(1.0)
    assert third.done()
    assert third.interrupted
    assert s.times("close", reason="test over")


@virtual_time
async def test_a_journal_replays_to_the_same_commands() -> None:
    story = "A story that is long enough. It is cut off by the user. Nobody knows its end."
    async with scene(heard=["hello", "stop"], answers=[story, "Fine."]) as s:
        s.user.speak(1.0)
        await s.until(4.0)
        s.user.speak(1.0)
        await s.until(12.0)
        assert s.said()[-1] == ("assistant", "Fine.")
        dialog = Dialog(SessionOptions().rules)
        commands = [command for now, event in s.journal for command in dialog.handle(event, now)]
        history = [c.item for c in commands if type(c).__name__ == "Commit"]  # type: ignore[union-attr]
        assert history == list(s.session.history)


def early() -> SessionOptions:
    return SessionOptions(rules=DialogRules(preemptive=True))


@virtual_time
async def test_an_early_answer_saves_the_models_time() -> None:
    slow = Answer("It is noon.", first_token=0.3)
    gaps: list[float] = []
    for options in (SessionOptions(), early()):
        async with scene(heard=["what time is it"], answers=[slow], options=options) as s:
            question = s.user.speak(1.0)
            await s.until(asyncio.get_running_loop().time() + 6.0)
            assert question.end is not None
            gaps.append(s.out.heard[-1].at - question.end)
            assert s.said() == [("user", "what time is it"), ("assistant", "It is noon.")]
            assert s.session.wasted_tokens == 0
    assert gaps[0] - gaps[1] > 0.1
    assert gaps[1] < 0.9


@virtual_time
async def test_an_early_answer_to_half_a_question_is_dropped_and_counted() -> None:
    answers = [Answer("You never hear this.", first_token=0.01), "Rome is fine."]
    async with scene(heard=["what about", "Rome"], answers=answers, options=early()) as s:
        s.user.speak(1.0)
        s.user.silence(0.4)
        s.user.speak(0.6)
        await s.until(8.0)
        assert s.said() == [("user", "what about Rome"), ("assistant", "Rome is fine.")]
        assert s.llm.closed_early + s.session.wasted_tokens > 0
        assert len(s.times("speech_created")) == 1
