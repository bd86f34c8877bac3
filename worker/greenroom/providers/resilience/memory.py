"""A realtime model's conversation as the session knows it: what another model is told that takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from greenroom.dialog.history import ChatContext, ChatItem, FunctionCall, Message
from greenroom.providers.llm import TextDelta, ToolCall, ToolSchema
from greenroom.providers.realtime import RealtimeChunk

__all__ = ["Memory"]


@dataclass(slots=True)
class _Words:
    """Said by one side: of an utterance, or of a response."""

    id: str
    user: bool
    text: str = ""


class Memory:
    """Utterances, responses and what was added, in the order in which they began."""

    def __init__(self) -> None:
        self.instructions: str | None = None
        self.tools: tuple[ToolSchema, ...] | None = None
        self._parts: list[_Words | ChatItem] = []

    def update(
        self, instructions: str | None, tools: Sequence[ToolSchema] | None, chat_ctx: ChatContext | None
    ) -> None:
        self.instructions = instructions if instructions is not None else self.instructions
        self.tools = tuple(tools) if tools is not None else self.tools
        if chat_ctx is not None:
            self._parts = list(chat_ctx)

    def add(self, item: ChatItem) -> None:
        self._parts.append(item)

    def utterance(self, utterance: str) -> None:
        """The user has spoken; the words are not known yet."""
        self._words(utterance, user=True)

    def heard(self, utterance: str, text: str) -> None:
        """For good; more of the same utterance may follow."""
        words = self._words(utterance, user=True)
        words.text = " ".join(part for part in (words.text, text) if part)

    def said(self, response: str, chunk: RealtimeChunk) -> None:
        words = self._words(response, user=False)
        if isinstance(chunk, TextDelta):
            words.text += chunk.text
        elif isinstance(chunk, ToolCall):
            self._parts.append(FunctionCall(chunk.call_id, chunk.call_id, chunk.name, chunk.arguments))

    def response_over(self, response: str) -> None:
        """One of which nothing came leaves no trace."""
        self._parts = [one for one in self._parts if not (_is(one, response, user=False) and not _text(one))]

    def truncate(self, response: str, text: str) -> None:
        """The user heard no more than this of it."""
        for part in self._parts:
            if isinstance(part, _Words) and _is(part, response, user=False):
                part.text = text

    def context(self) -> ChatContext:
        """The conversation, without what nobody knows the words of."""
        items: list[ChatItem] = []
        for part in self._parts:
            if not isinstance(part, _Words):
                items.append(part)
            elif part.text.strip():
                items.append(Message(part.id, "user" if part.user else "assistant", part.text.strip()))
        return ChatContext(items)

    def _words(self, name: str, *, user: bool) -> _Words:
        for part in reversed(self._parts):
            if isinstance(part, _Words) and _is(part, name, user=user):
                return part
        words = _Words(name, user)
        self._parts.append(words)
        return words


def _is(part: _Words | ChatItem, name: str, *, user: bool) -> bool:
    return isinstance(part, _Words) and (part.id, part.user) == (name, user)


def _text(part: _Words | ChatItem) -> str:
    return part.text if isinstance(part, _Words) else ""
