"""Answers of many endpoints, read as one: byte for byte, however they are cut on the way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.errors import ProviderError
from greenroom.providers import LLMChunk, TextDelta, ToolCall, Usage
from greenroom.testing.contract.llm import conversation
from greenroom_plugins.openai.answer import Answer, Thoughts
from greenroom_plugins.openai.errors import MalformedAnswer
from greenroom_plugins.openai.llm import OpenAILLM
from tests.plugins.openai.server import OpenAIServer, Replay
from tests.providers.contract.case import SECRET

EXCHANGES = Path(__file__).with_name("exchanges")
GREETING = "Good day — 你好"


async def replayed(
    server: OpenAIServer, provider: OpenAILLM, name: str, *, step: int = 7
) -> tuple[str, list[ToolCall], list[Usage]]:
    server.replays.append(Replay((EXCHANGES / name).read_bytes(), step=step))
    async with aclosing(provider.chat(conversation("Be kind.", "Hello."))) as chunks:
        got: list[LLMChunk] = [chunk async for chunk in chunks]
    text = "".join(chunk.text for chunk in got if isinstance(chunk, TextDelta))
    return (
        text,
        [chunk for chunk in got if isinstance(chunk, ToolCall)],
        [chunk for chunk in got if isinstance(chunk, Usage)],
    )


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("openai_words.sse", Usage(19, 10)),
        ("azure_words.sse", None),
        ("ollama_words.sse", Usage(26, 6)),
        ("ollama_thinking.sse", None),
        ("vllm_words.sse", Usage(20, 7)),
        ("llamacpp_words.sse", Usage(17, 7)),
        ("groq_words.sse", Usage(40, 8)),
        ("openrouter_words.sse", Usage(9, 5)),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 4096])
async def test_words(
    server: OpenAIServer, llm: Callable[..., OpenAILLM], name: str, usage: Usage | None, step: int
) -> None:
    assert await replayed(server, llm(), name, step=step) == (GREETING, [], [usage] if usage else [])


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("openai_two_calls.sse", [("call_DdmO9pD3", "get_weather"), ("call_qmIZtDeX", "get_time")]),
        ("ollama_call.sse", [("call_5bqhfvbn", "get_weather")]),
        ("gemini_two_calls.sse", [(None, "get_weather"), (None, "get_time")]),
        ("unnumbered_calls.sse", [("one", "get_weather"), ("two", "get_time")]),
    ],
)
async def test_calls(
    server: OpenAIServer, llm: Callable[..., OpenAILLM], name: str, calls: list[tuple[str | None, str]]
) -> None:
    _, made, _ = await replayed(server, llm(), name)
    assert [(call.call_id if given else None, call.name) for call, (given, _) in zip(made, calls, strict=True)] == calls
    assert len({call.call_id for call in made}) == len(made)
    assert all(call.call_id for call in made)
    assert {call.name: call.arguments for call in made}["get_weather"].replace(" ", "") == '{"city":"Paris"}'


@pytest.mark.parametrize(
    ("name", "retryable", "words"),
    [
        ("error_overloaded.sse", True, "failed in mid-answer: The server is overloaded, ***"),
        ("error_status.sse", False, "Input is too long"),
        ("error_quota.sse", False, "You exceeded your quota"),
        ("cut.sse", True, "the answer broke off"),
    ],
)
async def test_errors_within_an_answer(
    server: OpenAIServer, llm: Callable[..., OpenAILLM], name: str, retryable: bool, words: str
) -> None:
    with pytest.raises(ProviderError) as caught:
        await replayed(server, llm(), name)
    assert caught.value.retryable is retryable
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>502</body></html>",
        b"data: 5\n\n",
        b"data: [1, 2]\n\n",
        b'data: "words"\n\n',
        b"data: {}\n\n",
        b"data: null\n\n",
        b'data: {"choices": 5}\n\n',
        b'data: {"choices": [5]}\n\n',
        b'data: {"choices": [{"delta": 5}]}\n\n',
        b'data: {"choices": [{"delta": {"content": {"text": 1}}}]}\n\n',
        b'data: {"choices": [{"delta": {"tool_calls": 5}}]}\n\n',
        b'data: {"choices": [{"delta": {"tool_calls": [5]}, "finish_reason": "stop"}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "\xff\xfe"}}]}\n\n',
        b'data: {"choices": [{"de',
        b"\x00\x01\x02",
    ],
)
async def test_what_is_not_the_protocol_is_an_error_that_may_pass(
    server: OpenAIServer, llm: Callable[..., OpenAILLM], body: bytes
) -> None:
    server.replays.append(Replay(body, step=4096))
    with pytest.raises(ProviderError) as caught:
        async with aclosing(llm().chat(conversation("Be kind.", "Hello."))) as chunks:
            _ = [chunk async for chunk in chunks]
    assert caught.value.retryable
    assert caught.value.provider == "openai"


def chunk(*, content: Any = None, finish: str | None = None, calls: Any = ()) -> Any:
    delta = SimpleNamespace(content=content, tool_calls=calls)
    return SimpleNamespace(choices=[SimpleNamespace(index=0, delta=delta, finish_reason=finish)], usage=None)


def test_an_answer_is_empty_until_something_is_said() -> None:
    answer = Answer()
    assert list(answer.take(chunk(content=" "))) == [TextDelta(" ")]
    assert answer.empty
    assert list(answer.take(chunk(content="Yes."))) == [TextDelta("Yes.")]
    assert (answer.empty, answer.finished) == (False, "")
    assert list(answer.take(chunk(finish="stop"))) == []
    assert answer.finished == "stop"


def test_arguments_that_are_no_text_become_text() -> None:
    function = SimpleNamespace(name="look_up", arguments={"city": "Paris"})
    answer = Answer(new_id=lambda: "made")
    call = SimpleNamespace(index=None, id=None, function=function)
    assert list(answer.take(chunk(calls=[call], finish="tool_calls"))) == [
        ToolCall("made", "look_up", '{"city": "Paris"}')
    ]


def test_two_calls_of_one_name_have_names_of_their_own() -> None:
    calls = [
        SimpleNamespace(index=number, id="same", function=SimpleNamespace(name="look_up", arguments=""))
        for number in (0, 1)
    ]
    answer = Answer(new_id=lambda: "made")
    first, second = answer.take(chunk(calls=calls, finish="tool_calls"))
    assert (first, second) == (ToolCall("same", "look_up", "{}"), ToolCall("made", "look_up", "{}"))


def test_a_call_without_a_name_is_none() -> None:
    call = SimpleNamespace(index=0, id="x", function=SimpleNamespace(name=None, arguments="{}"))
    with pytest.raises(MalformedAnswer, match="without a name"):
        list(Answer().take(chunk(calls=[call], finish="tool_calls")))


def test_thoughts_are_not_said_and_an_answer_of_thoughts_is_empty() -> None:
    answer = Answer(thoughts=True)
    assert list(answer.take(chunk(content="<think>What now?"))) == []
    assert list(answer.take(chunk(finish="length"))) == []
    assert answer.empty


@settings(deadline=None)
@given(
    thought=st.none() | st.text(max_size=20).filter(lambda text: "</think>" not in text and "</th" not in text),
    words=st.text(min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 80), max_size=8),
)
def test_thoughts_go_however_the_text_is_cut(thought: str | None, words: str, cuts: list[int]) -> None:
    if words.lstrip().startswith(("<think>", "<thinking>")):
        return
    text = words if thought is None else f"<think>{thought}</think>{words}"
    filtered = Thoughts()
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    said = "".join(filtered.push(text[start:end]) for start, end in pairwise(places))
    said += filtered.flush()
    assert said == (words if thought is None else words.lstrip())


def test_tags_that_come_later_are_words() -> None:
    filtered = Thoughts()
    assert filtered.push("Say <think>") + filtered.push(" aloud.") == "Say <think> aloud."
