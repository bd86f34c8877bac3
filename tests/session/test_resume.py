"""A conversation that another process began goes on in this one."""

from __future__ import annotations

import asyncio
from typing import Any

from greenroom import Agent, ChatContext, Message, StopResponse
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import SpeechRequested
from greenroom.dialog.history import ChatItem, FunctionCall, FunctionCallOutput
from greenroom.session.resume import Continuation, Resumed
from greenroom.session.resuming import CUT_OFF
from greenroom.session.session import SessionOptions
from greenroom.testing.virtual_time import virtual_time

from .stage import Scene, scene

QUESTION = Message("1.item_1", "user", "What is the weather?")
CUT = Message("1.reply_turn_1.1", "assistant", "It is sunny,", interrupted=True)


class Butler(Agent):
    """Notes what it is called with."""

    def __init__(self) -> None:
        super().__init__(instructions="Be brief.")
        self.calls: list[Any] = []

    async def on_enter(self) -> None:
        self.calls.append("enter")

    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: Message) -> None:
        self.calls.append(new_message.text)

    async def on_drain(self, seconds: float, last: bool) -> None:
        self.calls.append((seconds, last))


class Quiet(Butler):
    """Does nothing when it comes back."""

    async def on_resume(self, resumed: Resumed) -> None:
        self.calls.append(resumed)


class Clumsy(Butler):
    async def on_resume(self, resumed: Resumed) -> None:
        raise KeyError("customer")


def left(
    *history: ChatItem, resumed: Resumed | None = None, line: str = "", unanswered: tuple[str, ...] = (), **rest: Any
) -> Continuation:
    given = resumed or Resumed(2, "killed", 1.0, line=line, unanswered=unanswered)
    return Continuation(given, history=history, **rest)


def rest_of(text: str, *, allow_interruptions: bool = True) -> SpeechRequested:
    return SpeechRequested("", "say", place="next", allow_interruptions=allow_interruptions, text=text)


def told(s: Scene, request: int = 0) -> list[tuple[str, str]]:
    """What the model was told."""
    return [(message.role, message.text) for message in s.llm.contexts[request].messages()]


@virtual_time
async def test_what_was_being_said_is_said_from_where_it_was_cut() -> None:
    butler = Butler()
    resume = left(QUESTION, CUT, line="Here I am again.", rest=rest_of("and warm for the time of year."))
    async with scene(agent=butler, resume=resume) as s:
        await s.until(8.0)
        assert s.said() == [
            ("user", "What is the weather?"),
            ("assistant", "It is sunny,"),
            ("assistant", "Here I am again."),
            ("assistant", "and warm for the time of year."),
        ]
        assert butler.calls == [], "it does not enter a second time"
        assert s.llm.contexts == []


@virtual_time
async def test_in_silence_nothing_is_said() -> None:
    async with scene(agent=Butler(), resume=left(QUESTION)) as s:
        await s.until(5.0)
        assert s.out.heard == []


@virtual_time
async def test_what_the_user_said_last_is_a_turn_and_takes_the_place_of_what_was_being_said() -> None:
    butler = Butler()
    resume = left(QUESTION, CUT, unanswered=("And", "tomorrow?"), rest=rest_of("and warm."))
    async with scene(agent=butler, resume=resume, answers=["Rain."]) as s:
        await s.until(5.0)
        assert butler.calls == ["And tomorrow?"], "its hook is called"
        assert s.said()[2:] == [("user", "And tomorrow?"), ("assistant", "Rain.")]
        assert told(s)[-1] == ("user", "And tomorrow?")


@virtual_time
async def test_what_may_not_be_interrupted_is_said_to_its_end_first() -> None:
    resume = left(CUT, unanswered=("Well?",), rest=rest_of("and warm.", allow_interruptions=False))
    async with scene(agent=Butler(), resume=resume, answers=["Yes."]) as s:
        await s.until(6.0)
        assert [text for role, text in s.said() if role == "assistant"] == ["It is sunny,", "and warm.", "Yes."]


@virtual_time
async def test_an_answer_whose_words_are_not_known_to_the_end_is_gone_on_with_by_the_model() -> None:
    async with scene(agent=Butler(), resume=left(QUESTION, CUT, broken=True), answers=["and warm."]) as s:
        await s.until(5.0)
        assert told(s) == [
            ("system", f"Be brief.\n\n{CUT_OFF}"),
            ("user", "What is the weather?"),
            ("assistant", "It is sunny,"),
        ]
        assert s.said()[-1] == ("assistant", "and warm.")


@virtual_time
async def test_what_was_asked_for_is_asked_for_again() -> None:
    replies = (SpeechRequested("s", "generate_reply", instructions="Say hello.", user_input="Hello."),)
    waiting = (SpeechRequested("t", "say", text="By the way."), SpeechRequested("u", "say", text="Late.", ttl=0.5))
    async with scene(agent=Butler(), resume=left(replies=replies, waiting=waiting), answers=["Hello!"]) as s:
        await s.until(6.0)
        assert told(s) == [("system", "Be brief.\n\nSay hello.")], "what the user said is in the history already"
        assert s.said() == [("assistant", "Hello!"), ("assistant", "By the way.")]


@virtual_time
async def test_an_answer_that_is_owed_is_superseded_by_the_answer_to_what_the_user_says_meanwhile() -> None:
    resume = left(QUESTION, replies=(SpeechRequested("", "turn", place="next"),))
    async with scene(agent=Butler(), resume=resume, heard=["hello?"], answers=["Sunny.", "Sunny, as I said."]) as s:
        s.user.speak(0.5)
        await s.until(6.0)
        assert s.said() == [
            ("user", "What is the weather?"),
            ("user", "hello?"),
            ("assistant", "Sunny, as I said."),
        ]


@virtual_time
async def test_an_agent_that_decides_otherwise_loses_no_word_of_the_user() -> None:
    quiet = Quiet()
    resume = left(QUESTION, unanswered=("Well?",), rest=rest_of("and warm."))
    async with scene(agent=quiet, resume=resume) as s:
        await s.until(5.0)
        assert s.said() == [("user", "What is the weather?"), ("user", "Well?")]
        assert quiet.calls[0] == resume.resumed


@virtual_time
async def test_a_hook_that_fails_leaves_nobody_in_silence() -> None:
    async with scene(agent=Clumsy(), resume=left(QUESTION, CUT, rest=rest_of("and warm."))) as s:
        await s.until(5.0)
        assert s.said()[-1] == ("assistant", "and warm.")
        assert [event.source for _, name, event in s.events if name == "error"] == ["on_resume"]


@virtual_time
async def test_what_was_left_counts_as_taken_up_once_it_was_begun_with() -> None:
    taken: list[bool] = []
    parts: list[Scene] = []

    def taken_up() -> None:
        taken.append(True)

    class Slow(Butler):
        async def on_resume(self, resumed: Resumed) -> None:
            await self.session.say("One moment.")
            assert taken == []
            self.session.go_on()
            assert taken == [True]
            self.session.go_on()

    resume = left(CUT, rest=rest_of("and warm."), taken_up=taken_up)
    async with scene(agent=Slow(), resume=resume) as s:
        parts.append(s)
        await s.until(5.0)
        assert [text for _, text in s.said()] == ["It is sunny,", "One moment.", "and warm."], "once"


@virtual_time
async def test_an_agent_knows_what_it_knew() -> None:
    call = FunctionCall("1.c", "c", "look_up", "{}")
    output = FunctionCallOutput("1.o", "c", "look_up", "sunny")
    resume = left(QUESTION, call, output, CUT, known=(QUESTION,), instructions="Be long.")
    async with scene(agent=Butler(), resume=resume, heard=["and?"], answers=["Yes."]) as s:
        s.user.speak(0.5)
        await s.until(5.0)
        assert s.session.history.items[:4] == [QUESTION, call, output, CUT]
        assert told(s) == [("system", "Be long."), ("user", "What is the weather?"), ("user", "and?")]


@virtual_time
async def test_who_was_about_to_take_the_conversation_takes_it() -> None:
    butler, clerk = Butler(), Butler()
    async with scene(agent=butler, resume=left(CUT, rest=rest_of("and warm."), coming=clerk)) as s:
        await s.until(5.0)
        assert s.session.current_agent is clerk
        assert clerk.calls == ["enter"]
        assert s.said()[-1] == ("assistant", "and warm.")


@virtual_time
async def test_a_conversation_that_was_about_to_end_ends_when_all_has_been_said() -> None:
    async with scene(agent=Butler(), resume=left(CUT, rest=rest_of("Goodbye."), closing="all was said")) as s:
        assert await s.session.wait_closed() == "all was said"
        assert s.said()[-1] == ("assistant", "Goodbye.")


@virtual_time
async def test_nobody_is_muted_for_a_greeting_that_was_heard_before() -> None:
    options = SessionOptions(rules=DialogRules(mute=("greeting",)))
    resume = left(CUT, rest=rest_of("and warm, and it stays like that for a while."))
    async with scene(agent=Butler(), resume=resume, options=options, heard=["stop"], answers=["Yes?"]) as s:
        await s.until(1.0)
        s.user.speak(1.0)
        await s.until(6.0)
        assert s.said()[-1] == ("assistant", "Yes?")


@virtual_time
async def test_an_agent_may_have_the_hook_leave_a_turn_unanswered() -> None:
    class Deaf(Butler):
        async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: Message) -> None:
            raise StopResponse

    async with scene(agent=Deaf(), resume=left(QUESTION, unanswered=("Well?",))) as s:
        await s.until(5.0)
        assert s.out.heard == []


@virtual_time
async def test_the_agent_is_told_that_the_worker_is_to_stop() -> None:
    butler = Butler()
    async with scene(agent=butler) as s:
        s.session.drain(30.0, last=False)
        await asyncio.sleep(1.0)
        s.session.drain(5.0, last=True)
        await asyncio.sleep(1.0)
        assert butler.calls == ["enter", (30.0, False), (5.0, True)]
    s.session.drain(1.0, last=True)
    await asyncio.sleep(1.0)
    assert len(butler.calls) == 3, "it is over"
