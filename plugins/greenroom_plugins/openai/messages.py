"""The conversation as the protocol has it.

An endpoint refuses a tool's output without the call before it, and a call without its output right behind. Here a call
may still be running, may have been forgotten by whoever shortened the history, or may have been made by another model:
calls that stand in a row are one message, each output follows its call wherever it came, and a call that has none yet
says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from greenroom.providers import ChatContext, FunctionCall, FunctionCallOutput, Message, ToolSchema
from greenroom_plugins.openai.profiles import Abilities

__all__ = ["messages", "tool_list"]

OPENING = "(The call begins.)"
"""Said for a user who has not spoken yet, where the agent must not speak first."""
PENDING = "(No result yet.)"


def messages(context: ChatContext, abilities: Abilities) -> list[dict[str, Any]]:
    """The conversation as a list of messages in JSON's types."""
    made = list(_messages(context, abilities))
    return _alternating(made) if abilities.alternating else made


def tool_list(tools: Sequence[ToolSchema]) -> list[dict[str, Any]]:
    """The tools as a request has them."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]


def _messages(context: ChatContext, abilities: Abilities) -> Iterator[dict[str, Any]]:
    outputs = {item.call_id: item.output for item in context if isinstance(item, FunctionCallOutput)}
    said: dict[str, Any] | None = None  # the agent's words, to which the calls behind them belong
    calls: list[FunctionCall] = []
    for item in context:
        if isinstance(item, FunctionCall):
            calls.append(item)
            continue
        if said is not None or calls:
            yield from _spoken(said, calls, outputs, short=abilities.short_call_ids)
            said, calls = None, []
        if isinstance(item, Message) and item.text.strip():
            if item.role == "assistant":
                said = {"role": "assistant", "content": item.text}
            else:
                role = abilities.instructions if item.role == "system" else "user"
                yield {"role": role, "content": item.text}
    yield from _spoken(said, calls, outputs, short=abilities.short_call_ids)


def _spoken(
    said: dict[str, Any] | None, calls: Sequence[FunctionCall], outputs: dict[str, str], *, short: bool
) -> Iterator[dict[str, Any]]:
    """What the agent said and called in one step, and what came of the calls."""
    if not calls:
        if said is not None:
            yield said
        return
    yield {
        "role": "assistant",
        "content": said["content"] if said is not None else None,
        "tool_calls": [
            {
                "id": _named(call.call_id, short=short),
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in calls
        ],
    }
    for call in calls:
        content = outputs.get(call.call_id, PENDING)
        yield {"role": "tool", "tool_call_id": _named(call.call_id, short=short), "content": content}


def _named(call_id: str, *, short: bool) -> str:
    return hashlib.sha256(call_id.encode()).hexdigest()[:9] if short else call_id


def _arguments(text: str) -> str:
    """What a model once wrote for arguments may be no JSON, at which some endpoints refuse the whole conversation."""
    try:
        return text if isinstance(json.loads(text), dict) else "{}"
    except ValueError:
        return "{}"


def _alternating(made: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Instructions first and as one, then user and agent in turn; later instructions speak as the user."""
    instructions: list[str] = []
    turns: list[dict[str, Any]] = []
    for message in made:
        if message["role"] in ("system", "developer"):
            if not turns:
                instructions.append(message["content"])
                continue
            message = {"role": "user", "content": message["content"]}
        last = turns[-1] if turns else None
        if last is None and message["role"] != "user":
            turns.append({"role": "user", "content": OPENING})
        elif last is not None and last["role"] == message["role"] != "tool" and "tool_calls" not in last:
            words = [part for part in (last["content"], message["content"]) if part]
            turns[-1] = {**message, "content": "\n\n".join(words) or None}
            continue
        turns.append(message)
    if not turns:
        turns.append({"role": "user", "content": OPENING})
    head = [{"role": "system", "content": "\n\n".join(instructions)}] if instructions else []
    return [*head, *turns]
