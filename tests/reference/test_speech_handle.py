"""Each Python snippet of "Speech Handle" does what the page says of it, those marked incorrect do better."""

from __future__ import annotations

import asyncio
import gc
import itertools

import pytest

from greenroom import FunctionCallOutput, SpeechHandle, UtteranceHandle
from greenroom.dialog.events import EndReason
from greenroom.providers import ToolCall
from greenroom.testing.providers import Answer
from greenroom.testing.virtual_time import virtual_time
from tests.session.stage import Scene, scene

from .snippets import snippet

STORY = "This is a long story. It goes on and on for quite a while. Nobody hears the end of it."


@virtual_time
async def test_say_speaks_to_its_end() -> None:
    async with scene() as s:
        await snippet("basic_say").run(session=s.session)
        assert s.said() == [("assistant", "Hello! How can I help you today?")]
        assert heard_to_the_end(s)


@virtual_time
async def test_an_agent_speaks_when_it_enters() -> None:
    found = await snippet("say_on_enter").run()
    async with scene(agent=found["MyAgent"]()) as s:
        await s.until(3.0)
        assert s.said() == [("assistant", "Welcome to the meeting!")]
        assert s.out.heard_seconds == pytest.approx(0.06 * len("Welcome to the meeting!"))


@virtual_time
async def test_reply_follows_its_instructions_in_the_context_of_the_conversation() -> None:
    async with scene(answers=["Sunny.", "You asked for the weather."]) as s:
        await s.session.generate_reply(user_input="how is the weather")
        await snippet("reply").run(session=s.session)
        assert told(s) == [
            ("system", "Be brief.\n\nPlease summarize the conversation so far"),
            ("user", "how is the weather"),
            ("assistant", "Sunny."),
        ]
        assert s.said()[-1] == ("assistant", "You asked for the weather.")
        assert heard_to_the_end(s)


@virtual_time
async def test_reply_with_wait_for_playback_takes_no_input_before_its_end() -> None:
    steps = "First you do this. Then you do that."
    async with scene(heard=["what about me"], answers=[steps, "You wait."]) as s:
        s.user.silence(0.6)
        s.user.speak(0.5)
        await snippet("reply_and_wait").run(session=s.session)
        assert ("assistant", steps) in s.said()
        assert heard_to_the_end(s)
        assert len(s.out.heard) == 1, "not even a pause"
        await asyncio.sleep(2.0)
        assert ("user", "what about me") in s.said()
        assert s.said()[-1] == ("assistant", "You wait.")


@virtual_time
async def test_a_tool_may_await_a_reply_of_its_own_session() -> None:
    found = await snippet("reply_in_a_tool").run()
    call = ToolCall("call_1", "get_summary", "{}")
    answers = [Answer("One moment.", calls=(call,)), "We spoke of the weather.", "Anything else?"]
    async with scene(agent=found["MyAgent"](), heard=["sum it up"], answers=answers) as s:
        s.user.speak(0.5)
        await s.until(8.0)
        spoken = [text for role, text in s.said() if role == "assistant"]
        assert spoken == ["One moment.", "We spoke of the weather.", "Anything else?"]
        assert s.llm.contexts[1].messages()[0].text == "Based on our conversation, let me provide a summary..."
        assert result(s) == "Summary generated"
        assert sounds_one_at_a_time(s)
        assert s.session.current_utterance is None


@virtual_time
async def test_interrupt_stops_the_speech_at_once_and_need_not_be_awaited() -> None:
    async with scene() as s:
        handle = s.session.say(STORY)
        await s.until(2.0)
        await snippet("interrupt").run(session=s.session)
        assert handle.interrupted
        assert handle.done()
        gc.collect()  # a coroutine that nobody awaited would warn here, and a warning is an error
        await s.until(2.1)
        heard = s.out.heard_seconds
        assert heard == pytest.approx(2.0 - s.out.heard[0].at, abs=0.03)
        await s.until(4.0)
        assert s.out.heard_seconds == heard
        assert s.said() == [("assistant", handle.heard_text)]
        assert STORY.startswith(handle.heard_text)
        await snippet("interrupt").run(session=s.session)  # nothing to stop is no error


@virtual_time
async def test_an_agent_interrupts_itself_and_replies_anew() -> None:
    found = await snippet("interrupt_in_an_agent").run()
    agent = found["InteractiveAgent"]()
    async with scene(agent=agent, answers=["What can I do for you?"]) as s:
        story = s.session.say(STORY)
        await s.until(1.0)
        await agent.handle_user_input("Go on")
        assert not story.interrupted
        await s.until(2.0)
        await agent.handle_user_input("Please STOP that")
        assert story.interrupted
        assert told(s)[-1] == ("assistant", story.heard_text)
        assert s.said() == [("assistant", story.heard_text), ("assistant", "What can I do for you?")]
        assert heard_to_the_end(s)


@virtual_time
async def test_a_tool_stops_the_speech_that_called_it() -> None:
    found = await snippet("interrupt_in_an_agent").run()
    call = ToolCall("call_1", "emergency_stop", "{}")
    answers = [Answer(STORY, calls=(call,)), "Yes?"]
    async with scene(agent=found["InteractiveAgent"](), heard=["say something", "hello"], answers=answers) as s:
        created: list[SpeechHandle] = []
        s.session.on("speech_created", lambda event: created.append(event.speech_handle))
        s.user.speak(0.5)
        await s.until(6.0)
        (handle,) = created
        assert handle.interrupted
        assert STORY.startswith(handle.heard_text)
        assert len(handle.heard_text) < len(STORY)
        assert s.said() == [("user", "say something"), ("assistant", handle.heard_text)], "and nothing after it"
        assert result(s) == "Agent stopped successfully"
        schema = s.llm.tools[0][0]
        assert (schema.name, schema.description) == ("emergency_stop", "Stop current agent operation immediately")
        s.user.speak(0.5)
        await s.until(9.0)
        assert s.said()[-2:] == [("user", "hello"), ("assistant", "Yes?")], "the conversation goes on"


@virtual_time
async def test_awaited_handles_are_spoken_in_sequence() -> None:
    async with scene() as s:
        agent = s.session.current_agent
        found = await snippet("sequential_speech").run(self=agent, temperature=21)
        assert [text for _, text in s.said()] == ["The current temperature is 21°C.", "Do you live in this city?"]
        assert found["handle1"].ended <= found["handle2"].created
        assert found["handle1"].done()
        assert found["handle2"].done()
        assert not found["handle1"].interrupted
        assert sounds_one_at_a_time(s)


class Logger:
    def __init__(self) -> None:
        self.lines: list[tuple[float, str]] = []

    def info(self, line: str) -> None:
        self.lines.append((asyncio.get_running_loop().time(), line))


LONG_TASK = """class Worker(Agent):
    @function_tool
    async def long_task(self) -> str:"""
AT_ITS_END = {"await asyncio.sleep(1)\n": 'await asyncio.sleep(1)\nreturn "done"\n'}


@pytest.mark.parametrize("silent", [False, True])
@virtual_time
async def test_a_long_tool_sees_that_the_user_interrupted(silent: bool) -> None:
    """While the agent still speaks, and when it has fallen silent and only the tool works."""
    log = Logger()
    found = await snippet("interruption_status").run(within=LONG_TASK, fill=AT_ITS_END, logger=log)
    text = "One moment." if silent else "One moment. " + STORY
    answers = [Answer(text, calls=(ToolCall("call_1", "long_task", "{}"),)), "All right."]
    async with scene(agent=found["Worker"](), heard=["do it", "stop that"], answers=answers) as s:
        s.user.speak(0.5)
        await s.until(4.0)
        assert log.lines == []
        s.user.speak(0.5)
        await s.until(12.0)
        ((when, line),) = log.lines
        assert line == "Task was interrupted by the user."
        assert 4.5 < when < 6.5, "noticed at the next check"
        cancelled = "The task was cancelled because you interrupted me."
        assert result(s) == cancelled
        assert s.said()[-2:] == [("user", "stop that"), ("assistant", "All right.")]


@virtual_time
async def test_a_long_tool_that_nobody_interrupts_runs_to_its_end() -> None:
    log = Logger()
    found = await snippet("interruption_status").run(within=LONG_TASK, fill=AT_ITS_END, logger=log)
    answers = [Answer("One moment.", calls=(ToolCall("call_1", "long_task", "{}"),)), "All done."]
    async with scene(agent=found["Worker"](), heard=["do it"], answers=answers) as s:
        s.user.speak(0.5)
        await s.until(15.0)
        assert log.lines == []
        assert result(s) == "done"
        assert s.said()[-1] == ("assistant", "All done.")


@virtual_time
async def test_correct_usage_is_in_sequence() -> None:
    async with scene() as s:
        await snippet("correct_usage").run(session=s.session)
        assert [text for _, text in s.said()] == ["First", "Second"]
        assert sounds_one_at_a_time(s)
        assert heard_to_the_end(s)


@virtual_time
async def test_what_is_marked_incorrect_is_in_sequence_too() -> None:
    async with scene() as s:
        handles: list[UtteranceHandle] = []
        s.session.on("speech_created", lambda event: handles.append(event.speech_handle))
        await snippet("incorrect_usage").run(session=s.session)
        first, second = handles
        await asyncio.gather(first, second)
        assert [text for _, text in s.said()] == ["First", "Second"]
        assert (first.reason, second.reason) == (EndReason.FINISHED, EndReason.FINISHED)
        assert first.ended is not None
        assert second.started is not None
        assert first.ended <= second.started + 1e-9
        assert s.out.heard_seconds == pytest.approx(0.06 * len("FirstSecond"))
        assert sounds_one_at_a_time(s)


# --- pieces ---------------------------------------------------------------------------------------------------------


def told(s: Scene) -> list[tuple[str, str]]:
    """What the model was told last."""
    return [(message.role, message.text) for message in s.llm.contexts[-1].messages()]


def result(s: Scene) -> str:
    """What the tool of the conversation returned to the model."""
    (output,) = [item for item in s.session.history if isinstance(item, FunctionCallOutput)]
    return output.output


def heard_to_the_end(s: Scene) -> bool:
    """The last sound of the agent ends now."""
    last = s.out.heard[-1]
    return abs(last.at + last.duration - asyncio.get_running_loop().time()) < 0.01


def sounds_one_at_a_time(s: Scene) -> bool:
    return all(one.at + one.duration <= next_.at + 1e-6 for one, next_ in itertools.pairwise(s.out.heard))
