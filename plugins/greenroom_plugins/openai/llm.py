"""Chat completions, streamed."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import structlog

from greenroom.errors import ProviderError
from greenroom.providers import LLM, ChatContext, FunctionCallOutput, LLMChunk, ToolChoice, ToolSchema
from greenroom_plugins.openai.answer import Answer
from greenroom_plugins.openai.endpoint import Client, reading
from greenroom_plugins.openai.errors import PROVIDER, MalformedAnswer
from greenroom_plugins.openai.messages import messages, tool_list
from greenroom_plugins.openai.options import LLMOptions
from greenroom_plugins.openai.profiles import Abilities, adapted, without

__all__ = ["OpenAILLM", "request"]

logger = structlog.get_logger(__name__)

_REASONING = re.compile(r"^(?:openai/)?gpt-(?:5\.[1-9]|[6-9]|\d\d)")
"""OpenAI's models that take the reasoning effort ``none``."""


class OpenAILLM(LLM):
    """One model of one endpoint. What the endpoint has refused is not asked of it again."""

    def __init__(self, options: LLMOptions) -> None:
        self._options = options
        self._client = Client(options)
        self._abilities = without(self._client.endpoint.profile.abilities, options.without)

    def load(self) -> None:
        self._client.load()

    async def warm_up(self) -> None:
        await self._client.warm_up()

    async def aclose(self) -> None:
        await self._client.aclose()

    async def chat(
        self, context: ChatContext, *, tools: Sequence[ToolSchema] = (), tool_choice: ToolChoice = "auto"
    ) -> AsyncGenerator[LLMChunk, None]:
        with self._client.endpoint.translated():
            asked = await self._ask(context, tools, tool_choice)
            answer = Answer(thoughts=self._abilities.thoughts)
            async with reading(asked) as stream:
                async for chunk in stream:
                    for piece in answer.take(chunk):
                        yield piece
        self._check_end(answer, after_tool=len(context) > 0 and isinstance(context.items[-1], FunctionCallOutput))
        for piece in answer.end():
            yield piece

    async def _ask(self, context: ChatContext, tools: Sequence[ToolSchema], tool_choice: ToolChoice) -> Any:
        """The answer as the client streams it; asked again, with less, where the endpoint refuses a part."""
        import openai

        client = await self._client.ready()
        while True:
            abilities = self._abilities
            try:
                return await client.chat.completions.create(
                    **request(self._options, abilities, context, tools=tools, tool_choice=tool_choice)
                )
            except openai.APIStatusError as error:
                said = f"{error.param or ''} {error.body or error.message}"
                changed = adapted(abilities, status=error.status_code, said=said)
                if changed is None:
                    raise
                self._learn(abilities, changed, status=error.status_code)

    def _learn(self, before: Abilities, after: Abilities, *, status: int) -> None:
        changed = [name for name in Abilities.__slots__ if getattr(before, name) != getattr(after, name)]
        logger.warning(
            "request refused in part, asked again with less",
            provider=PROVIDER,
            host=self._client.endpoint.host,
            model=self._options.model,
            status=status,
            changed=changed,
        )
        self._abilities = after

    def _check_end(self, answer: Answer, *, after_tool: bool) -> None:
        """Raises ``ProviderError`` for an answer that is none. After a tool a model may have nothing to say."""
        host = self._client.endpoint.host
        if not answer.finished:
            with self._client.endpoint.translated():
                raise MalformedAnswer("the answer broke off")
        if answer.finished in ("length", "content_filter"):
            logger.warning("answer cut short", provider=PROVIDER, host=host, reason=answer.finished)
        if not answer.empty:
            return
        if answer.finished == "content_filter":
            raise ProviderError(f"{host} withheld the answer: its content filter", provider=PROVIDER)
        if answer.finished == "length":
            raise ProviderError(f"{host} used up its tokens before the first word", provider=PROVIDER)
        if not after_tool:
            raise ProviderError(f"{host} answered nothing", provider=PROVIDER, retryable=True)


def request(
    options: LLMOptions,
    abilities: Abilities,
    context: ChatContext,
    *,
    tools: Sequence[ToolSchema] = (),
    tool_choice: ToolChoice = "auto",
) -> dict[str, Any]:
    """What the client's ``create`` is called with."""
    asked: dict[str, Any] = {"model": options.model, "messages": messages(context, abilities), "stream": True}
    if abilities.usage:
        asked["stream_options"] = {"include_usage": True}
    if options.temperature is not None and abilities.temperature:
        asked["temperature"] = options.temperature
    if options.max_tokens is not None and abilities.limits:
        asked[abilities.limits[0]] = options.max_tokens
    effort = options.reasoning_effort or (abilities.reasoning_effort if _REASONING.match(options.model) else "")
    if effort and abilities.reasoning:
        asked["reasoning_effort"] = effort if abilities.reasoning_with_tools or not tools else "none"
    forbidden = tool_choice == "none" and not abilities.tool_choice
    if tools and abilities.tools and not forbidden:
        asked["tools"] = tool_list(tools)
        if tool_choice != "auto" and abilities.tool_choice:
            asked["tool_choice"] = tool_choice
        if options.parallel_tool_calls is not None and abilities.parallel_tool_calls:
            asked["parallel_tool_calls"] = options.parallel_tool_calls
    if options.extra:
        asked["extra_body"] = options.extra
    return asked
