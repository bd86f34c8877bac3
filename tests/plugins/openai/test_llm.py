"""What is asked for, what is learned from refusals, and that a stop reaches the endpoint."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from greenroom.errors import ProviderError
from greenroom.providers import ChatContext, FunctionCall, FunctionCallOutput, LLMChunk, TextDelta, ToolCall, ToolSchema
from greenroom.testing.contract.llm import conversation
from greenroom_plugins.openai.llm import OpenAILLM, request
from greenroom_plugins.openai.options import LLMOptions
from greenroom_plugins.openai.profiles import PROFILES, Abilities
from tests.plugins.openai.server import OpenAIServer, Said

WEATHER = ToolSchema("get_weather", "The weather in a city.", {"type": "object", "properties": {}})
CONTEXT = conversation("Be kind.", "Hello?")


async def asked(provider: OpenAILLM, context: ChatContext = CONTEXT, **how: Any) -> list[LLMChunk]:
    async with aclosing(provider.chat(context, **how)) as chunks:
        return [chunk async for chunk in chunks]


def words(chunks: list[LLMChunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))


def body(
    abilities: Abilities = PROFILES["openai"].abilities, tools: Any = (), how: Any = "auto", **options: Any
) -> Any:
    made = request(LLMOptions(**options), abilities, CONTEXT, tools=tools, tool_choice=how)
    return {key: value for key, value in made.items() if key not in ("messages", "stream")}


def test_what_a_request_holds() -> None:
    assert body(model="gpt-4.1") == {"model": "gpt-4.1", "stream_options": {"include_usage": True}}
    assert body(PROFILES["other"].abilities, model="m", max_tokens=50, temperature=0.2) == {
        "model": "m",
        "stream_options": {"include_usage": True},
        "max_tokens": 50,
        "temperature": 0.2,
    }
    assert body(model="m", max_tokens=50)["max_completion_tokens"] == 50
    assert body(PROFILES["mistral"].abilities, model="m") == {"model": "m"}
    assert body(model="m", extra={"top_k": 3})["extra_body"] == {"top_k": 3}


def test_tools_and_the_choice_of_them() -> None:
    auto = body(tools=[WEATHER], parallel_tool_calls=False)
    assert auto["tools"][0]["function"]["name"] == "get_weather"
    assert auto["parallel_tool_calls"] is False
    assert "tool_choice" not in auto
    assert body(tools=[WEATHER], how="required")["tool_choice"] == "required"
    # Without tools the model could not read what it called before; where a choice is not read, they must go.
    assert body(tools=[WEATHER], how="none")["tool_choice"] == "none"
    ollama = body(PROFILES["ollama"].abilities, tools=[WEATHER], how="none")
    assert not {"tools", "tool_choice"} & set(ollama)
    assert "tool_choice" not in body(PROFILES["ollama"].abilities, tools=[WEATHER], how="required")
    assert "tools" not in body(Abilities(tools=False), tools=[WEATHER], how="required")
    assert "tool_choice" not in body(how="required")


@pytest.mark.parametrize(
    ("model", "options", "tools", "effort"),
    [
        ("gpt-6-luna", {}, (), "none"),
        ("gpt-5.4-mini", {}, (), "none"),
        ("gpt-4.1", {}, (), None),
        ("gpt-5", {}, (), None),
        ("gpt-6-luna", {"reasoning_effort": "low"}, (), "low"),
        ("anything", {"reasoning_effort": "low"}, (WEATHER,), "low"),
    ],
)
def test_a_voice_does_not_wait_for_thoughts(model: str, options: Any, tools: Any, effort: str | None) -> None:
    assert body(tools=tools, model=model, **options).get("reasoning_effort") == effort
    assert body(PROFILES["other"].abilities, model=model).get("reasoning_effort") is None


async def test_what_is_refused_is_asked_again_without_and_not_again(
    server: OpenAIServer, llm: Callable[..., OpenAILLM]
) -> None:
    server.refuse(lambda asked: "stream_options" in asked, message="Unrecognized request argument: stream_options")
    server.refuse(
        lambda asked: "max_tokens" in asked,
        message="Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
        param="max_tokens",
    )
    server.refuse(
        lambda asked: any(message["role"] == "system" for message in asked["messages"][1:]),
        status=500,
        message="System message must be at the beginning.",
    )
    context = conversation("Be kind.", "Hello?", "Hello.", "And now?")
    context.add_message(role="system", content="Say goodbye.")
    provider = llm(max_tokens=99, profile="together")
    assert words(await asked(provider, context)).startswith("It is half past four")
    assert len(server.asked) == 4
    last = server.asked[-1].body
    assert (last["max_completion_tokens"], last["messages"][-1]["role"]) == (99, "user")
    await asked(provider, context)
    assert len(server.asked) == 5


async def test_a_model_without_tools_answers_without(server: OpenAIServer, llm: Callable[..., OpenAILLM]) -> None:
    server.refuse(lambda asked: "tools" in asked, message="registry.ollama.ai/library/gemma does not support tools")
    assert words(await asked(llm(), tools=[WEATHER]))


async def test_reasoning_gives_way_to_tools(server: OpenAIServer, llm: Callable[..., OpenAILLM]) -> None:
    server.refuse(
        lambda asked: "tools" in asked and asked.get("reasoning_effort") != "none",
        message="Function tools with reasoning_effort are not supported. Set reasoning_effort to 'none'.",
        param="reasoning_effort",
    )
    provider = llm(model="gpt-6-luna", reasoning_effort="low")
    await asked(provider, tools=[WEATHER])
    assert [one.body["reasoning_effort"] for one in server.asked] == ["low", "none"]
    await asked(provider)
    assert server.asked[-1].body["reasoning_effort"] == "low"


async def test_an_endpoint_that_refuses_everything_is_given_up(
    server: OpenAIServer, llm: Callable[..., OpenAILLM]
) -> None:
    server.refuse(lambda asked: True, message="stream_options, max_tokens, temperature and tools are not supported")
    with pytest.raises(ProviderError, match="HTTP 400") as caught:
        await asked(llm(max_tokens=1, temperature=1), tools=[WEATHER])
    assert not caught.value.retryable
    assert len(server.asked) < 8


async def test_what_is_taken_away_is_not_asked_for(server: OpenAIServer, llm: Callable[..., OpenAILLM]) -> None:
    await asked(llm(without=("usage", "tools", "temperature"), temperature=1.0), tools=[WEATHER])
    assert not {"stream_options", "tools", "temperature"} & set(server.asked[-1].body)


async def test_a_tool_is_called_and_its_output_spoken_of(server: OpenAIServer, llm: Callable[..., OpenAILLM]) -> None:
    provider, context = llm(), conversation("Be kind.", "How is the weather?")
    (call,) = [chunk for chunk in await asked(provider, context, tools=[WEATHER]) if isinstance(chunk, ToolCall)]
    assert (call.name, call.arguments) == ("get_weather", '{"city": "Paris"}')
    context.add(FunctionCall("f", call.call_id, call.name, call.arguments))
    context.add(FunctionCallOutput("o", call.call_id, call.name, "sunny"))
    assert words(await asked(provider, context, tools=[WEATHER])) == "I have looked it up: sunny."


async def test_after_a_tool_nothing_need_be_said(server: OpenAIServer, llm: Callable[..., OpenAILLM]) -> None:
    server.brain = lambda body: Said()
    context = conversation("Be kind.", "Goodbye.")
    with pytest.raises(ProviderError, match="answered nothing") as caught:
        await asked(llm(), context)
    assert caught.value.retryable
    context.add(FunctionCall("f", "c", "end_call", "{}"))
    context.add(FunctionCallOutput("o", "c", "end_call", "done"))
    assert words(await asked(llm(), context)) == ""


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (Said(finish="content_filter"), "withheld the answer"),
        (Said(finish="length"), "used up its tokens before the first word"),
    ],
)
async def test_answers_that_ended_before_they_began(
    server: OpenAIServer, llm: Callable[..., OpenAILLM], said: Said, message: str
) -> None:
    server.brain = lambda body: said
    with pytest.raises(ProviderError, match=message) as caught:
        await asked(llm())
    assert not caught.value.retryable


async def test_answers_that_are_cut_short_count(server: OpenAIServer, llm: Callable[..., OpenAILLM]) -> None:
    server.brain = lambda body: Said("Half a", finish="length")
    assert words(await asked(llm())) == "Half a"


@pytest.mark.parametrize("how", ["close", "cancel", "cancel early"])
async def test_a_stop_reaches_the_endpoint(server: OpenAIServer, llm: Callable[..., OpenAILLM], how: str) -> None:
    server.brain = lambda body: Said("word " * 5000)
    provider = llm()
    chunks = provider.chat(CONTEXT)
    if how == "close":
        await anext(chunks)
        assert server.under_way == 1
        await chunks.aclose()
    else:
        reading = asyncio.create_task(asked(provider))
        await (server.busy() if how == "cancel" else asyncio.sleep(0))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    await asyncio.wait_for(server.idle(), 20.0)


async def test_answers_that_nobody_hears_out_leave_no_file_open(
    server: OpenAIServer, llm: Callable[..., OpenAILLM]
) -> None:
    provider = llm()
    server.gap = 0.0
    await asked(provider)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(60):
        chunks = provider.chat(CONTEXT)
        if number % 3:
            await anext(chunks)
        await chunks.aclose()
    await asyncio.wait_for(server.idle(), 20.0)
    await asked(provider)
    assert len(os.listdir("/proc/self/fd")) <= before + 8
