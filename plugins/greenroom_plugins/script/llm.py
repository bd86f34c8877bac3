"""The scripted model as a provider: what the rules decide, streamed word by word."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from greenroom.errors import ProviderError
from greenroom.providers import LLM, ChatContext, FunctionCall, LLMChunk, TextDelta, ToolCall, ToolChoice, ToolSchema
from greenroom_plugins.script.options import PLACEHOLDER, ScriptOptions, listed
from greenroom_plugins.script.play import Answer, answer

__all__ = ["ScriptLLM"]

_TOKEN = re.compile(r"\s*\S+|\s+$")


class ScriptLLM(LLM):
    """Answers by rules. ``now`` tells ``{time}`` and ``{date}``; nothing else depends on when it is asked."""

    def __init__(self, options: ScriptOptions, *, now: Callable[[], datetime] | None = None) -> None:
        self._options = options
        zone = ZoneInfo(options.timezone) if options.timezone else None
        self._now = now or (lambda: datetime.now(zone).astimezone(zone))

    async def chat(
        self, context: ChatContext, *, tools: Sequence[ToolSchema] = (), tool_choice: ToolChoice = "auto"
    ) -> AsyncGenerator[LLMChunk, None]:
        may_call = tool_choice != "none"
        decided = answer(self._options.rules, context, may_call=may_call)
        chunks: list[LLMChunk] = [TextDelta(token) for token in _TOKEN.findall(self._text(decided))]
        if may_call:
            chunks += self._calls(decided, context, [tool.name for tool in tools])
        loop = asyncio.get_running_loop()
        due = loop.time() + self._options.first_token
        for chunk in chunks:
            await asyncio.sleep(max(0.0, due - loop.time()))
            yield chunk
            due += self._options.gap  # from the beginning on, so that a late wake-up does not add up

    def _text(self, decided: Answer) -> str:
        if decided.output is not None:
            return decided.output
        if decided.rule is not None:
            choices = listed(decided.rule.say)
        else:
            choices = listed(self._options.unprompted if decided.unprompted else self._options.otherwise)
        return self._filled(choices[decided.turn % len(choices)], decided.groups) if choices else ""

    def _calls(self, decided: Answer, context: ChatContext, tools: Sequence[str]) -> Iterator[ToolCall]:
        made = sum(isinstance(item, FunctionCall) for item in context)
        for number, call in enumerate(decided.rule.calls if decided.rule else (), made + 1):
            if call.tool not in tools:
                raise ProviderError(
                    f"a rule calls the tool `{call.tool}`, which the agent does not have; "
                    f"it has: {', '.join(tools) or 'none'}",
                    provider="script",
                )
            arguments = self._filled_in(call.arguments, decided.groups)
            yield ToolCall(f"call_{number}", call.tool, json.dumps(arguments, ensure_ascii=False))

    def _filled_in(self, value: Any, groups: Mapping[str, str]) -> Any:
        if isinstance(value, str):
            return self._filled(value, groups)
        if isinstance(value, Mapping):
            return {key: self._filled_in(item, groups) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._filled_in(item, groups) for item in value]
        return value

    def _filled(self, text: str, groups: Mapping[str, str]) -> str:
        def fill(match: re.Match[str]) -> str:
            name = match["name"]
            if name is None:
                return match.group()[0]
            if name == "time":
                return self._now().strftime(self._options.time_format)
            if name == "date":
                return self._now().strftime(self._options.date_format)
            return groups.get(name, "")

        return PLACEHOLDER.sub(fill, text)
