"""The conversation so far, as the language model is told it.

Items are immutable; a ``ChatContext`` is an ordered list of them. An agent's message holds what the user heard, not
what was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["ChatContext", "ChatItem", "FunctionCall", "FunctionCallOutput", "Message", "Role"]

Role: TypeAlias = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``interrupted``: the agent was cut off, and ``text`` is what was heard before that."""

    id: str
    role: Role
    text: str
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A tool that the model asked for; ``arguments`` is the JSON text that the model wrote."""

    id: str
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class FunctionCallOutput:
    """What a tool returned, or the error that the model is told."""

    id: str
    call_id: str
    name: str
    output: str
    is_error: bool = False


ChatItem: TypeAlias = Message | FunctionCall | FunctionCallOutput


class ChatContext:
    """An ordered conversation. Mutable by its owner; ``copy()`` before changing one that you were given."""

    def __init__(self, items: Iterable[ChatItem] = ()) -> None:
        self._items = list(items)

    @property
    def items(self) -> list[ChatItem]:
        return self._items

    def add(self, item: ChatItem) -> None:
        self._items.append(item)

    def add_message(self, *, role: Role, content: str, interrupted: bool = False) -> Message:
        """Append a message and return it."""
        message = Message(f"added_{len(self._items) + 1}", role, content, interrupted)
        self._items.append(message)
        return message

    def copy(self) -> ChatContext:
        return ChatContext(self._items)

    def messages(self) -> list[Message]:
        """The messages alone, without tool calls."""
        return [item for item in self._items if isinstance(item, Message)]

    def __iter__(self) -> Iterator[ChatItem]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChatContext) and self._items == other._items

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"ChatContext({self._items!r})"
