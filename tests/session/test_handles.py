"""Handles wherever asyncio takes a coroutine, in both vocabularies."""

from __future__ import annotations

import asyncio

import pytest

from greenroom import Agent, RunContext, UtteranceHandle, function_tool
from greenroom.dialog.events import EndReason
from greenroom.providers import ToolCall
from greenroom.testing.providers import Answer, ScriptedTTS
from greenroom.testing.virtual_time import virtual_time

from .stage import scene


@virtual_time
async def test_twenty_concurrent_tasks_are_heard_in_order() -> None:
    async with scene(tts=ScriptedTTS(durations=[0.5] * 20)) as s:
        tasks = [asyncio.create_task(s.session.say(f"Number {n}.")) for n in range(20)]
        handles = await asyncio.gather(*tasks)
        assert [handle.heard_text for handle in handles] == [f"Number {n}." for n in range(20)]
        assert s.out.heard_seconds == pytest.approx(10.0)
        assert [text for _, text in s.said()] == [f"Number {n}." for n in range(20)]


@virtual_time
async def test_a_handle_goes_wherever_a_coroutine_goes() -> None:
    async with scene() as s:
        assert (await asyncio.wait_for(s.session.say("One."), 5.0)).done()
        first, second = await asyncio.gather(s.session.say("Two."), s.session.say("Three."))
        assert first.heard_text == "Two."
        assert second.heard_text == "Three."
        shared = s.session.say("Four.")
        both = await asyncio.gather(asyncio.create_task(shared), asyncio.shield(shared), shared)
        assert all(handle is shared for handle in both)
        patient = s.session.say("A long sentence that nobody waits for to the end.")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(patient, 0.5)
        assert not patient.done(), "giving up the wait does not stop the speech"
        cancelled = asyncio.create_task(patient)
        await asyncio.sleep(0.1)
        cancelled.cancel()
        assert (await asyncio.gather(cancelled, return_exceptions=True))[0].__class__ is asyncio.CancelledError
        assert (await patient).reason is EndReason.FINISHED


@virtual_time
async def test_what_was_heard_and_what_was_not() -> None:
    text = "The first sentence. The second sentence is never heard to its end."
    async with scene() as s:
        handle = s.session.say(text)
        await s.until(2.0)
        await s.session.interrupt()
        await s.until(2.1)  # the end of it fades
        assert handle.heard_seconds == pytest.approx(s.out.heard_seconds)
        assert f"{handle.heard_text} {handle.remaining_text}" == text
        assert not handle.heard_exactly
        whole = await s.session.say("All of it.")
        assert (whole.heard_text, whole.remaining_text, whole.heard_exactly) == ("All of it.", "", True)


@virtual_time
async def test_waiting_for_other_work_ends_with_an_interruption() -> None:
    async with scene() as s:
        work: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        handle = s.session.say("Let me look that up for you, it may take a moment.")
        waiting = asyncio.create_task(handle.wait_if_not_interrupted([work]))
        await s.until(1.0)
        assert not waiting.done()
        s.session.interrupt()
        await waiting
        assert not work.cancelled()
        finished = s.session.say("Done.")
        waiting = asyncio.create_task(finished.wait_if_not_interrupted([work]))
        await finished
        assert not waiting.done()
        work.set_result("found")
        await waiting


class Caller(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Use tools.")
        self.log: list[str] = []

    @function_tool
    async def end_call(self, ctx: RunContext) -> None:
        """Use this tool when the user has signaled they wish to end the current call."""
        await ctx.wait_for_playout()
        self.log.append(f"said: {ctx.speech_handle.heard_text}")

    @function_tool
    async def wait_for_myself(self) -> str:
        """Awaits the speech that runs it, which would never end."""
        utterance: UtteranceHandle | None = self.session.current_utterance
        assert utterance is not None
        assert utterance is self.session.current_speech
        await utterance
        self.log.append(f"waited: {utterance.heard_text}")
        handle = self.session.say("One moment.")
        await handle
        self.log.append(f"then: {handle.heard_text}")
        return "done"


@virtual_time
async def test_a_tool_lets_the_sentence_finish() -> None:
    agent = Caller()
    async with scene(agent=agent, answers=[Answer("Goodbye then.", calls=(ToolCall("c1", "end_call", "{}"),))]) as s:
        handle = s.session.generate_reply(user_input="bye")
        await handle
        assert agent.log == ["said: Goodbye then."]
        assert handle.reason is EndReason.FINISHED


@virtual_time
async def test_awaiting_the_own_speech_in_its_tool_waits_for_the_step() -> None:
    agent = Caller()
    answers = [Answer("Let me see.", calls=(ToolCall("c1", "wait_for_myself", "{}"),)), "That is all."]
    async with scene(agent=agent, answers=answers) as s:
        handle = await s.session.generate_reply(user_input="go")
        assert agent.log == ["waited: Let me see.", "then: One moment."]
        assert handle.heard_text == "Let me see. That is all."
        assert handle.num_steps == 2
        assert [text for role, text in s.said() if role == "assistant"] == [
            "Let me see.",
            "One moment.",
            "That is all.",
        ]


@virtual_time
async def test_videosdk_words() -> None:
    answers = ["A summary that is quite long.", "Second.", "A third one, protected from everybody."]
    async with scene(heard=["stop it"], answers=answers) as s:
        first = s.session.reply(instructions="Please summarize the conversation so far")
        second = s.session.reply("And then the next steps", wait_for_playback=False)
        assert (first.is_interruptible, second.is_interruptible) == (False, True)
        await s.until(0.5)
        s.user.speak(0.5)
        await s.until(1.2)
        assert s.session.current_utterance is first, "the user does not interrupt it"
        s.session.interrupt()
        assert (first.interrupted, second.interrupted) == (True, True), "the program does"
        third = s.session.reply("Listen", interruptible=False)
        await s.until(3.0)
        s.session.interrupt()
        assert s.session.current_utterance is third
        await third
        assert third.heard_text == "A third one, protected from everybody."


class Closer(Agent):
    @function_tool
    async def end_call(self, ctx: RunContext) -> None:
        """Use this tool when the user wishes to end the call."""
        await ctx.wait_for_playout()
        await self.session.aclose("the user said goodbye")


@virtual_time
async def test_a_tool_may_end_the_conversation() -> None:
    answers = [Answer("Goodbye then.", calls=(ToolCall("c1", "end_call", "{}"),))]
    async with scene(agent=Closer(), answers=answers) as s:
        handle = s.session.generate_reply(user_input="bye")
        assert await s.session.wait_closed() == "the user said goodbye"
        assert handle.heard_text == "Goodbye then."
        late = s.session.say("Nobody is there.")
        await late
        assert late.reason is EndReason.CLOSED
