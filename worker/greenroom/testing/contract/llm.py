"""What a language model has to keep."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from greenroom.errors import ProviderError
from greenroom.providers import LLM, ChatContext, LLMChunk, TextDelta, ToolCall, ToolChoice, ToolSchema, Usage
from greenroom.testing.contract.loop import Leftovers, longest_block

__all__ = ["LLMContract"]


@pytest.mark.asyncio
class LLMContract:
    """Subclass it and give it the fixture ``provider``; ``context`` has a question that it answers with words.

    ``calling`` is a conversation to which it answers with a call of one of ``tools``; ``failing`` one that cannot work.
    """

    patience = 30.0
    promptness = 0.25

    @pytest.fixture
    def provider(self) -> LLM:
        raise NotImplementedError("the subclass says what is tested")

    @pytest.fixture
    def failing(self) -> LLM | None:
        return None

    @pytest.fixture
    def context(self) -> ChatContext:
        return conversation("You are a friendly receptionist.", "Hello, what time is it?")

    @pytest.fixture
    def calling(self) -> ChatContext | None:
        return None

    @pytest.fixture
    def tools(self) -> tuple[ToolSchema, ...]:
        city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        return (ToolSchema("get_weather", "The weather in a city.", city),)

    async def test_load_is_idempotent(self, provider: LLM) -> None:
        await asyncio.to_thread(provider.load)
        await asyncio.to_thread(provider.load)

    async def test_an_answer_is_streamed_and_ends(self, provider: LLM, context: ChatContext) -> None:
        chunks = await self.asked(provider, context)
        assert all(isinstance(chunk, TextDelta | ToolCall | Usage) for chunk in chunks)
        text = "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))
        assert text.strip()

    async def test_the_conversation_is_left_alone(self, provider: LLM, context: ChatContext) -> None:
        before = context.copy()
        await self.asked(provider, context)
        assert context == before

    async def test_an_empty_conversation(self, provider: LLM) -> None:
        """A reply may be asked for before anybody has spoken: it ends, or says that it cannot."""
        answer = await asyncio.gather(self.asked(provider, ChatContext()), return_exceptions=True)
        assert isinstance(answer[0], list | ProviderError)

    async def test_a_very_long_conversation(self, provider: LLM, context: ChatContext) -> None:
        for turn in range(200):
            context.add_message(role="user", content=f"This is turn number {turn}.")
            context.add_message(role="assistant", content=f"So it is, number {turn}.")
        context.add_message(role="user", content="Hello, what time is it?")
        assert await self.asked(provider, context)

    async def test_tools_are_called(
        self, provider: LLM, calling: ChatContext | None, tools: tuple[ToolSchema, ...]
    ) -> None:
        if calling is None:
            pytest.skip("no conversation that leads to a tool was given")
        calls = [chunk for chunk in await self.asked(provider, calling, tools=tools) if isinstance(chunk, ToolCall)]
        assert calls
        assert len({call.call_id for call in calls}) == len(calls)
        for call in calls:
            assert call.name in {tool.name for tool in tools}
            assert isinstance(json.loads(call.arguments), dict)

    async def test_tools_can_be_forbidden(
        self, provider: LLM, calling: ChatContext | None, tools: tuple[ToolSchema, ...]
    ) -> None:
        if calling is None:
            pytest.skip("no conversation that leads to a tool was given")
        chunks = await self.asked(provider, calling, tools=tools, tool_choice="none")
        assert not [chunk for chunk in chunks if isinstance(chunk, ToolCall)]

    async def test_aclose_stops_at_once(self, provider: LLM, context: ChatContext) -> None:
        left, chunks = Leftovers(), provider.chat(context)
        async with asyncio.timeout(self.patience):
            await anext(chunks)
        async with asyncio.timeout(self.promptness):
            await chunks.aclose()
        assert not await left.gone(within=self.promptness)

    async def test_a_cancelled_reader_leaves_nothing(self, provider: LLM, context: ChatContext) -> None:
        left = Leftovers()
        asking = asyncio.create_task(self.asked(provider, context))
        await asyncio.sleep(0)
        asking.cancel()
        async with asyncio.timeout(self.promptness):
            await asyncio.gather(asking, return_exceptions=True)
        assert not await left.gone(within=self.promptness)

    async def test_two_answers_at_once(self, provider: LLM, context: ChatContext) -> None:
        one, other = await asyncio.gather(self.asked(provider, context), self.asked(provider, context))
        assert one
        assert other

    async def test_the_loop_stays_free(self, provider: LLM, context: ChatContext) -> None:
        await asyncio.to_thread(provider.load)
        assert await longest_block(lambda: self.asked(provider, context), limit=0.05) <= 0.05

    async def test_a_failure_is_a_provider_error(self, failing: LLM | None, context: ChatContext) -> None:
        if failing is None:
            pytest.skip("no failing provider was given")
        with pytest.raises(ProviderError) as caught:
            await self.asked(failing, context)
        assert caught.value.provider

    async def asked(
        self,
        provider: LLM,
        context: ChatContext,
        *,
        tools: Sequence[ToolSchema] = (),
        tool_choice: ToolChoice = "auto",
    ) -> list[LLMChunk]:
        async with (
            asyncio.timeout(self.patience),
            aclosing(provider.chat(context, tools=tools, tool_choice=tool_choice)) as chunks,
        ):
            return [chunk async for chunk in chunks]


def conversation(instructions: str, *texts: str) -> ChatContext:
    """Instructions, then what the user and the agent said in turn."""
    context = ChatContext()
    context.add_message(role="system", content=instructions)
    for number, text in enumerate(texts):
        context.add_message(role="assistant" if number % 2 else "user", content=text)
    return context
