"""The scripted model: which rule answers, what it says, and that it depends on the conversation alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.errors import ProviderError
from greenroom.providers import (
    LLM,
    ChatContext,
    FunctionCall,
    FunctionCallOutput,
    LLMChunk,
    OptionError,
    TextDelta,
    ToolCall,
    ToolChoice,
    ToolSchema,
    registry,
)
from greenroom.settings import ProviderSettings
from greenroom.testing.contract import LLMContract
from greenroom.testing.contract.llm import conversation
from greenroom.testing.virtual_time import virtual_time
from greenroom_plugins import script as script_package
from greenroom_plugins.script import ScriptLLM

RULES = r"""
rules:
  - instructions: [greet, welcome]
    say: ["Hello, this is the Blue Door.", "Welcome back."]
  - when: what time
    say: ["It is {time}.", "Still {time}, on {date}."]
  - when: 'weather in (?P<city>\w+)'
    say: Let me look.
    call: {tool: get_weather, arguments: {city: "{city}", days: [1, "{1}"], literally: "{{city}}"}}
  - after: get_weather
    when: 'weather in (?P<city>\w+)'
    say: "In {city}: {output}"
  - failed: get_weather
    say: The weather service says {output}
  - when: both
    call: [{tool: get_weather}, {tool: get_time}]
  - when: '^(sales|one)$'
    state: start
    goto: sales
    say: Sales. New order or open order?
  - when: new
    state: sales
    goto: start
    say: I connect you.
  - when: help
    say: You are in {0}.
otherwise: ["Sorry?", "Please say that again."]
unprompted: ["Are you there?", "Hello?"]
"""

TOOLS = [ToolSchema(name, "", {"type": "object"}) for name in ("get_weather", "get_time")]


def clock() -> datetime:
    return datetime(2026, 3, 4, 15, 42, tzinfo=UTC)


def script(written: str = RULES, **more: Any) -> ScriptLLM:
    options = registry.check("llm", "script", {**yaml.safe_load(written), **more})
    return ScriptLLM(options, now=clock)


async def chunks(
    llm: LLM, context: ChatContext, *, tools: Sequence[ToolSchema] = tuple(TOOLS), tool_choice: ToolChoice = "auto"
) -> list[LLMChunk]:
    async with aclosing(llm.chat(context, tools=tools, tool_choice=tool_choice)) as answer:
        return [chunk async for chunk in answer]


async def text(llm: LLM, context: ChatContext) -> str:
    return "".join(chunk.text for chunk in await chunks(llm, context) if isinstance(chunk, TextDelta))


def talk(*texts: str) -> ChatContext:
    return conversation("You are a receptionist.", *texts)


def tool_step(context: ChatContext, *outputs: tuple[str, str, bool]) -> ChatContext:
    for number, (name, _, _) in enumerate(outputs):
        context.add(FunctionCall(f"c{number}", f"call_{number}", name, "{}"))
    for number, (name, output, is_error) in enumerate(outputs):
        context.add(FunctionCallOutput(f"o{number}", f"call_{number}", name, output, is_error))
    return context


class TestScript(LLMContract):
    @pytest.fixture
    def provider(self) -> LLM:
        return script(first_token=0.01, gap=0.001)

    @pytest.fixture
    def calling(self) -> ChatContext | None:
        return talk("What is the weather in Berlin?")

    @pytest.fixture
    def failing(self) -> LLM | None:
        return script("rules: [{when: time, call: {tool: no_such_tool}}]")


async def test_the_first_rule_that_matches_answers() -> None:
    llm = script()
    assert await text(llm, talk("So WHAT TIME is it?")) == "It is 3:42 PM."
    assert await text(llm, talk("Nonsense.")) == "Sorry?"


async def test_several_texts_take_turns_by_the_conversation() -> None:
    llm = script()
    again = talk("What time is it?", "It is 3:42 PM.", "Nonsense.", "Sorry?", "What time is it now?")
    assert await text(llm, again) == "Still 3:42 PM, on Wednesday, March 4."
    assert await text(llm, again) == "Still 3:42 PM, on Wednesday, March 4."
    third = talk("what time", "x", "what time", "x", "what time")
    assert await text(llm, third) == "It is 3:42 PM."
    assert await text(llm, talk("Nonsense.", "Sorry?", "Rubbish.")) == "Please say that again."


async def test_a_tool_is_called_with_what_was_said() -> None:
    found = await chunks(script(), talk("The weather in Berlin, please."))
    assert "".join(chunk.text for chunk in found if isinstance(chunk, TextDelta)) == "Let me look."
    assert found[-1] == ToolCall(
        "call_1", "get_weather", '{"city": "Berlin", "days": [1, "Berlin"], "literally": "{city}"}'
    )


async def test_calls_are_numbered_over_the_conversation() -> None:
    context = tool_step(talk("The weather in Berlin."), ("get_weather", "Rain.", False))
    context.add_message(role="assistant", content="Rain.")
    context.add_message(role="user", content="both")
    assert [chunk.call_id for chunk in await chunks(script(), context) if isinstance(chunk, ToolCall)] == [
        "call_2",
        "call_3",
    ]


async def test_what_a_tool_returned_is_told() -> None:
    llm = script()
    rain = tool_step(talk("The weather in Berlin."), ("get_weather", '"Rain, all day."', False))
    assert await text(llm, rain) == "In Berlin: Rain, all day."
    broken = tool_step(talk("The weather in Berlin."), ("get_weather", "no.", True))
    assert await text(llm, broken) == "The weather service says no."


async def test_a_tool_for_which_there_is_no_rule_is_told_as_it_is() -> None:
    llm = script()
    both = tool_step(talk("both"), ("get_time", '"Noon."', False), ("get_date", '{"day": 1}', False))
    assert await text(llm, both) == 'Noon. {"day": 1}'
    assert await text(llm, tool_step(talk("both"), ("get_time", "broken", True))) == "Sorry?"
    assert await chunks(llm, tool_step(talk("both"), ("get_time", "", False))) == []


async def test_without_tools_a_rule_only_speaks() -> None:
    llm = script()
    found = await chunks(llm, talk("The weather in Berlin."), tool_choice="none")
    assert "".join(chunk.text for chunk in found if isinstance(chunk, TextDelta)) == "Let me look."
    assert not [chunk for chunk in found if isinstance(chunk, ToolCall)]
    assert await chunks(llm, talk("both"), tool_choice="none") == [TextDelta("Sorry?")]


async def test_a_tool_that_the_agent_does_not_have() -> None:
    with pytest.raises(ProviderError, match="`get_weather`, which the agent does not have; it has: get_time"):
        await chunks(script(), talk("The weather in Berlin."), tools=TOOLS[1:])


async def test_a_reply_that_nobody_asked_for() -> None:
    llm = script()
    assert await text(llm, ChatContext()) == "Are you there?"
    greeted = conversation("Greet whoever calls.")
    assert await text(llm, greeted) == "Hello, this is the Blue Door."
    greeted.add_message(role="assistant", content="Hello, this is the Blue Door.")
    assert await text(llm, greeted) == "Welcome back."
    asked = talk("Nonsense.", "Sorry?")
    assert await text(llm, asked) == "Are you there?"
    asked.add_message(role="system", content="Welcome the user back.")
    assert await text(llm, asked) == "Hello, this is the Blue Door."


async def test_instructions_for_one_reply_come_before_what_was_said() -> None:
    context = talk("What time is it?")
    context.add_message(role="system", content="Welcome the user.")
    assert await text(script(), context) == "Hello, this is the Blue Door."
    context.add_message(role="system", content="Be brief.")
    assert await text(script(), context) == "It is 3:42 PM."


async def test_states_make_a_menu() -> None:
    llm = script()
    said: list[str] = []
    for user in ("new", "one", "new", "new", "sales"):
        said += [user, await text(llm, talk(*said, user))]
    assert said[1::2] == [
        "Sorry?",
        "Sales. New order or open order?",
        "I connect you.",
        "Please say that again.",
        "Sales. New order or open order?",
    ]


async def test_an_answer_that_was_not_heard_still_leads_on() -> None:
    context = talk("one")
    context.add_message(role="user", content="new")
    assert await text(script(), context) == "I connect you."


@virtual_time
async def test_words_come_on_a_schedule() -> None:
    loop = asyncio.get_running_loop()
    llm = script(first_token=0.5, gap=0.1)
    times: list[tuple[float, str]] = []
    async with aclosing(llm.chat(talk("What time is it?"))) as answer:
        async for chunk in answer:
            assert isinstance(chunk, TextDelta)
            times.append((round(loop.time(), 6), chunk.text))
            await asyncio.sleep(0.07)  # a slow reader does not make it later
    assert times == [(0.5, "It"), (0.6, " is"), (0.7, " 3:42"), (0.8, " PM.")]


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.sampled_from(["one", "new", "what time", "both", "weather in Rome", "help", "x"]), min_size=1))
def test_the_same_conversation_gets_the_same_answer(said: list[str]) -> None:
    async def twice() -> tuple[str, str]:
        used = script()
        for user in said:
            await text(used, talk(user))
        return await text(used, talk(*said)), await text(script(), talk(*said))

    first, second = asyncio.run(twice())
    assert first == second


@pytest.mark.parametrize(
    ("written", "path", "said"),
    [
        ("rules: [{when: '(', say: x}]", ("rules", 0, "when"), "not a regular expression"),
        ("rules: [{when: [a, '['], say: x}]", ("rules", 0, "when", 1), "not a regular expression"),
        ("rules: [{say: x}]", ("rules", 0), "the rule never fits"),
        ("rules: [{when: x}]", ("rules", 0), "the rule does nothing"),
        ("rules: [{wehn: x, say: y}]", ("rules", 0, "wehn"), "did you mean `when`?"),
        ("rules: [{when: x, call: {toll: y}}]", ("rules", 0, "call", "toll"), "did you mean `tool`?"),
        ("rules: [{when: x, say: 'In {city}'}]", ("rules", 0, "say"), "nothing is called {city}"),
        ("rules: [{when: x, say: [a, '{output}']}]", ("rules", 0, "say", 1), "nothing is called {output}"),
        ("rules: [{when: x, call: {tool: t, arguments: {a: ['{1}']}}}]", None, "nothing is called {1}"),
        ("rules: [{when: x, goto: nowhere}]", ("rules", 0, "goto"), "no rule has the state `nowhere`"),
        ("rules: [{when: x, state: island, say: y}]", ("rules", 0, "state"), "no rule leads to the state `island`"),
        ("rules: [{instructions: x, when: y, say: z}]", ("rules", 0, "instructions"), "no other trigger"),
        ("rules: [{instructions: x, goto: start}]", ("rules", 0, "goto"), "cannot change the state"),
        ("timezone: Europe/Nowhere", ("timezone",), "no time zone is named"),
        ("gap: -1", ("gap",), "0"),
        ("rulez: []", ("rulez",), "did you mean `rules`?"),
    ],
)
def test_mistakes_are_found_before_anybody_speaks(written: str, path: tuple[str | int, ...] | None, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        script(written)
    assert said in str(caught.value)
    assert caught.value.path == (path or ("rules", 0, "call", "arguments", "a", 0))


def test_the_documented_rules_are_right() -> None:
    """The example in the package's docstring is one that works."""
    documented = yaml.safe_load(
        (script_package.__doc__ or "").split("::", 1)[1].split("The first rule that fits", 1)[0]
    )
    options = dict(documented["llm"])
    assert isinstance(registry.build("llm", ProviderSettings(options.pop("plugin"), options)), ScriptLLM)


async def test_the_clock_of_a_time_zone() -> None:
    options = registry.check(
        "llm", "script", {"rules": [{"when": "zone", "say": "{time}"}], "timezone": "UTC", "time_format": "%z"}
    )
    assert await text(ScriptLLM(options), talk("zone")) == "+0000"
