"""What a long conversation holds: its history, and nothing of the speeches that are over."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter, deque

from greenroom import Agent, RunContext, function_tool
from greenroom.dialog.history import FunctionCall, FunctionCallOutput
from greenroom.providers import ToolCall
from greenroom.session.handle import SpeechHandle
from greenroom.session.reply import Making
from greenroom.session.stage import REMEMBERED
from greenroom.session.voice import Voice
from greenroom.session.words import Shown, TextChannel
from greenroom.testing.providers import Answer
from greenroom.testing.virtual_time import virtual_time

from .stage import Scene, scene

PARTS = (Making, Voice, TextChannel, Shown, SpeechHandle, asyncio.Task, asyncio.Future, asyncio.Queue, deque)
TURNS = 20


def parts(s: Scene | None = None) -> Counter[str]:
    """How many there are, those of other tests with them."""
    if s is not None:
        s.events.clear()  # the test's own list of them
    gc.collect()
    return Counter(type(one).__name__ for one in gc.get_objects() if type(one) in PARTS)


@virtual_time
async def test_turns_leave_nothing_but_words() -> None:
    others = parts()
    async with scene(heard=["and then"] * 3 * TURNS, answers=["Then that."] * 3 * TURNS) as s:
        held: list[Counter[str]] = []
        for turn in range(1, 3 * TURNS + 1):
            s.user.silence(1.0)
            s.user.speak(0.5)
            await s.until(6.0 * turn)
            if turn % TURNS == 0:
                held.append(parts(s))
        assert len(s.said()) == 2 * 3 * TURNS
        _, before, after = held
        assert after["Making"] - others["Making"] <= REMEMBERED + 1
        assert {name: more for name in after if (more := after[name] - before[name]) >= TURNS / 2} == {}


@virtual_time
async def test_what_is_said_leaves_nothing_either() -> None:
    others = parts()
    async with scene() as s:
        for number in range(2 * TURNS):
            await s.session.say(f"number {number}")
        held = parts(s)
        for part in ("Making", "SpeechHandle"):
            assert held[part] - others[part] <= REMEMBERED + 1


class Slow(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Be brief.")
        self.called = False

    @function_tool(on_interrupt="finish")
    async def book(self, context: RunContext) -> str:
        """Book it."""
        self.called = True
        await asyncio.sleep(60.0)
        return "booked"


@virtual_time
async def test_a_tool_that_goes_on_keeps_its_speech_however_many_come_after_it() -> None:
    agent = Slow()
    async with scene(
        agent=agent, answers=[Answer("", calls=(ToolCall("call_1", "book", "{}"),)), "It is booked."]
    ) as s:
        handle = s.session.generate_reply()
        await s.until(1.0)
        handle.interrupt(force=True)
        await handle
        for number in range(2 * REMEMBERED):
            await s.session.say(f"number {number}")
        assert agent.called
        await s.until(70.0)
        assert [type(item) for item in handle.chat_items] == [FunctionCall, FunctionCallOutput]
