"""Language models: a conversation in, a stream of text and tool calls out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from greenroom.dialog.history import ChatContext
from greenroom.providers.provider import Provider

__all__ = ["LLM", "LLMChunk", "TextDelta", "ToolCall", "ToolChoice", "ToolSchema", "Usage"]

ToolChoice: TypeAlias = Literal["auto", "none", "required"]


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool as the model is told of it. ``parameters`` is a JSON schema of type ``object``."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer, spaces included."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole tool call; ``arguments`` is JSON text, unchecked."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the request, when the provider counts them."""

    prompt_tokens: int
    completion_tokens: int


LLMChunk: TypeAlias = TextDelta | ToolCall | Usage


class LLM(Provider):
    """A language model."""

    @abstractmethod
    def chat(
        self, context: ChatContext, *, tools: Sequence[ToolSchema] = (), tool_choice: ToolChoice = "auto"
    ) -> AsyncGenerator[LLMChunk, None]:
        """Stream an answer to the conversation.

        Implemented as an async generator. Closing it (``aclose``, or cancelling the task that iterates it) must stop
        the request at once. The system message, if any, comes first in ``context``. Raises ``ProviderError``.
        """
