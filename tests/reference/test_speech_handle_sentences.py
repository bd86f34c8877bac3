"""What "Speech Handle" says in words: the session's three calls, and the handle that each speech has."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Generator
from typing import Any

import pytest

from greenroom import Agent, AgentSession, SpeechHandle, UtteranceHandle, function_tool
from greenroom.dialog.events import EndReason
from greenroom.providers import ToolCall
from greenroom.testing.providers import Answer
from greenroom.testing.virtual_time import virtual_time
from tests.session.stage import scene

STORY = "This is a long story. It goes on and on for quite a while. Nobody hears the end of it."


def test_the_parameters_and_defaults_of_reply_are_those_of_the_text() -> None:
    parameters = inspect.signature(AgentSession.reply).parameters
    assert list(parameters)[:3] == ["self", "instructions", "wait_for_playback"]
    assert parameters["instructions"].default is inspect.Parameter.empty
    assert parameters["wait_for_playback"].default is True
    kinds = {parameters[name].kind for name in ("instructions", "wait_for_playback")}
    assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


@pytest.mark.parametrize("choice", [{}, {"wait_for_playback": True}, {"wait_for_playback": False}])
@virtual_time
async def test_wait_for_playback_keeps_the_user_from_interrupting(choice: dict[str, bool]) -> None:
    async with scene(heard=["stop"], answers=[STORY, "Yes?"]) as s:
        handle = s.session.reply("Tell a story.", **choice)
        s.user.silence(2.0)
        s.user.speak(0.5)
        await handle
        assert handle.interrupted == (choice.get("wait_for_playback") is False)
        assert (handle.heard_text == STORY) != handle.interrupted
        await asyncio.sleep(3.0)
        assert s.said()[-1] == ("assistant", "Yes?")


@virtual_time
async def test_a_reply_during_a_reply_is_queued_and_not_lost() -> None:
    async with scene(answers=["The summary.", "The next steps."]) as s:
        first = s.session.reply("Summarise.")
        second = s.session.reply("Explain the next steps.")
        assert first is not second
        await second
        assert first.done()
        assert [text for _, text in s.said()] == ["The summary.", "The next steps."]


@virtual_time
async def test_a_second_say_waits_for_the_first_even_if_that_is_protected() -> None:
    async with scene() as s:
        first = s.session.say("Listen to me.", allow_interruptions=False)
        await s.until(0.3)
        second = s.session.say("And to me.")
        await second
        assert (first.reason, second.reason) == (EndReason.FINISHED, EndReason.FINISHED)
        assert [text for _, text in s.said()] == ["Listen to me.", "And to me."]


@virtual_time
async def test_interrupt_silences_at_once_what_is_heard_and_what_waits() -> None:
    async with scene() as s:
        playing, waiting = s.session.say(STORY), s.session.say("And another thing.")
        await s.until(2.0)
        s.session.interrupt()
        assert playing.interrupted
        assert waiting.interrupted
        await s.until(2.1)
        heard = s.out.heard_seconds
        assert heard == pytest.approx(2.0 - s.out.heard[0].at, abs=0.05)
        await s.until(6.0)
        assert s.out.heard_seconds == heard


@virtual_time
async def test_interrupting_a_protected_speech_is_a_result_and_no_error() -> None:
    async with scene() as s:
        handle = s.session.say("Nothing stops this.", allow_interruptions=False)
        await s.until(0.3)
        assert handle.interrupt() is handle
        await asyncio.wait_for(s.session.interrupt(), 0.0)
        assert not handle.interrupted
        assert not handle.done()
        await s.session.interrupt(force=True)
        assert handle.interrupted
        assert handle.done()


@virtual_time
async def test_each_handle_is_one_utterance_from_creation_to_completion() -> None:
    async with scene() as s:
        handles = [s.session.say(f"Number {n}.") for n in range(3)]
        assert len({handle.id for handle in handles}) == 3
        assert not any(handle.done() for handle in handles)
        for number, handle in enumerate(handles):
            await handle
            assert handle.heard_text == f"Number {number}."
            assert [each.done() for each in handles] == [n <= number for n in range(3)]
        times = [time for handle in handles for time in (handle.started, handle.ended)]
        assert times == sorted(time for time in times if time is not None)


@virtual_time
async def test_an_utterance_completes_naturally() -> None:
    async with scene() as s:
        handle = await s.session.say("That is all.")
        assert (handle.done(), handle.interrupted, handle.reason) == (True, False, EndReason.FINISHED)
        assert s.out.heard_seconds == pytest.approx(0.06 * len("That is all."))


@virtual_time
async def test_an_utterance_completes_when_the_user_starts_speaking() -> None:
    async with scene(heard=["wait"], answers=["Yes?"]) as s:
        handle = s.session.say(STORY)
        await s.until(2.0)
        voice = s.user.speak(0.5)
        await handle
        assert (handle.done(), handle.interrupted, handle.reason) == (True, True, EndReason.INTERRUPTED)
        assert voice.start is not None
        assert s.out.heard[0].at + s.out.heard[0].duration - voice.start < 0.2


@virtual_time
async def test_the_handle_has_what_the_table_lists() -> None:
    assert UtteranceHandle is SpeechHandle
    async with scene() as s:
        handle = s.session.say(STORY)
        assert isinstance(handle, UtteranceHandle)
        assert isinstance(handle.id, str)
        assert handle.id
        assert handle.done() is False
        assert handle.interrupted is False
        waiting = handle.__await__()
        assert isinstance(waiting, Generator)
        waiting.close()
        await s.until(1.0)
        handle.interrupt()
        assert handle.interrupted is True
        await handle
        assert handle.done() is True


@virtual_time
async def test_a_waiting_utterance_can_be_interrupted_alone() -> None:
    async with scene() as s:
        first, second, third = (s.session.say(f"Number {n}.") for n in range(3))
        second.interrupt()
        assert second.interrupted
        assert second.done()
        await third
        assert not first.interrupted
        assert [text for _, text in s.said()] == ["Number 0.", "Number 2."]


class Worker(Agent):
    """Its tool speaks in parts."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    @function_tool
    async def explain(self) -> str:
        """Explain it."""
        self.seen.append(self.session.current_utterance)
        for part in ("First this.", "Then that."):
            await self.session.say(part)
        self.seen.append(self.session.current_utterance)
        return "explained"


@virtual_time
async def test_a_tool_speaks_several_sentences_in_sequence() -> None:
    agent = Worker()
    answers = [Answer("Let me explain.", calls=(ToolCall("call_1", "explain", "{}"),)), "Is that clear?"]
    async with scene(agent=agent, answers=answers) as s:
        handle = await s.session.generate_reply(user_input="how")
        spoken = [text for role, text in s.said() if role == "assistant"]
        assert spoken == ["Let me explain.", "First this.", "Then that.", "Is that clear?"]
        assert agent.seen == [handle, handle], "in a tool it is the utterance that called it"


@virtual_time
async def test_current_utterance_outside_a_tool_is_the_one_that_is_heard_or_none() -> None:
    async with scene() as s:
        assert s.session.current_utterance is None
        handle = s.session.say("Hello.")
        await s.until(0.2)
        assert s.session.current_utterance is handle
        await handle
        assert s.session.current_utterance is None


@virtual_time
async def test_awaited_utterances_follow_each_other_closely() -> None:
    async with scene() as s:
        first = await s.session.say("First.")
        second = await s.session.say("Second.")
        assert first.ended is not None
        assert second.started is not None
        # What the voice needs until its first audio is there, and nothing on top of it.
        assert second.started - first.ended == pytest.approx(0.05, abs=0.01)


@virtual_time
async def test_a_kept_handle_tells_later() -> None:
    async with scene() as s:
        kept = {"greeting": s.session.say("Hello."), "story": s.session.say(STORY)}
        await s.until(2.0)
        s.session.interrupt()
        await s.until(5.0)
        assert not kept["greeting"].interrupted
        assert kept["story"].interrupted
        assert kept["story"].remaining_text


@virtual_time
async def test_interrupt_stops_a_reply_that_waits_for_playback() -> None:
    """``wait_for_playback`` keeps *users* from interrupting, and ``interrupt()`` stops the speech at once."""
    async with scene(answers=["A summary that is quite long, and protected."]) as s:
        handle = s.session.reply("Please summarize the conversation so far")
        await s.until(1.0)
        s.session.interrupt()
        assert handle.interrupted


class Summing(Agent):
    @function_tool
    async def get_summary(self) -> str:
        """Summarise."""
        await self.session.reply("Summarise.")
        return "done"


@virtual_time
async def test_a_reply_made_in_a_tool_calls_no_tool_unless_it_is_asked_to() -> None:
    """As in LiveKit: else the model, told to summarise, may call the tool again from the reply that the tool awaits,
    without end (each reply is a speech of its own, so ``max_tool_steps`` does not count them)."""
    call = ToolCall("call_1", "get_summary", "{}")
    async with scene(agent=Summing(), answers=[Answer("", calls=(call,)), "A summary.", "More?"]) as s:
        await s.session.generate_reply(user_input="sum it up")
        assert s.llm.choices == ["auto", "none", "auto"]
