"""What a subclass of ``Agent`` may do, and what it is told when it may not."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom import Agent, ChatContext, RunContext, function_tool
from greenroom.dialog.history import FunctionCallOutput
from greenroom.providers.llm import ToolCall
from greenroom.testing.providers import Answer
from greenroom.testing.virtual_time import virtual_time
from tests.session.stage import scene


def subclass(**members: Any) -> type[Agent]:
    return type("Reception", (Agent,), members)


@pytest.mark.parametrize("name", ["id", "instructions", "tools", "chat_ctx", "vad", "stt", "llm", "tts", "mcp_servers"])
def test_what_an_agent_is_given_is_no_attribute_of_its_class(name: str) -> None:
    with pytest.raises(TypeError, match=rf"Reception\.{name}: .*super\(\)\.__init__\({name}=\.\.\.\)"):
        subclass(**{name: "something"})


@pytest.mark.parametrize(
    "name",
    ["session", "known", "enter", "find_tool", "update_instructions", "update_tools", "update_chat_ctx"],
)
def test_what_every_agent_has_is_not_to_be_overridden(name: str) -> None:
    with pytest.raises(TypeError, match=rf"Reception\.{name}: every Agent has {name} already; choose another name"):
        subclass(**{name: lambda self: None})


def test_nor_by_what_it_is_mixed_with() -> None:
    class Sessions:
        session = None

    with pytest.raises(TypeError, match=r"Reception\.session"):
        type("Reception", (Sessions, Agent), {})


def test_an_agent_that_is_not_made_says_so() -> None:
    class Hasty(Agent):
        def __init__(self) -> None:
            self.shop = "Blue Door"

    with pytest.raises(RuntimeError, match=r"Hasty\.__init__ has not called super\(\)\.__init__\(\)"):
        Hasty().known  # noqa: B018


class Secretary(Agent):
    """It uses names that are not greenroom's: nothing of a conversation may break by them."""

    def __init__(self) -> None:
        super().__init__(instructions="Take notes.")
        self.context = self.restore = self.revision = "my own"
        self._session = self._tools = self._knowledge = self._id = None

    @function_tool
    async def remember(self, context: RunContext, what: str) -> str:
        """Keep a note."""
        return f"Noted: {what}."


@virtual_time
async def test_other_names_are_free() -> None:
    notes = Answer("", calls=(ToolCall("c1", "remember", '{"what": "milk"}'),))
    async with scene(agent=Secretary(), answers=[notes, "It is noted."]) as s:
        await s.session.generate_reply(user_input="We need milk.")
        agent = s.session.current_agent
        assert [item.output for item in agent.chat_ctx if isinstance(item, FunctionCallOutput)] == ["Noted: milk."]
        assert s.said() == [("user", "We need milk."), ("assistant", "It is noted.")]
        await agent.update_chat_ctx(ChatContext())
        assert [item.text for item in agent.chat_ctx.messages()] == ["Take notes."]
