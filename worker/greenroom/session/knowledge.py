"""What an agent knows of the conversation it is in: instructions, and what was said."""

from __future__ import annotations

from collections.abc import Iterable

from greenroom.dialog.history import ChatContext, ChatItem, Message

__all__ = ["INSTRUCTIONS", "Knowledge"]

INSTRUCTIONS = "instructions"
"""The id of the message in a context that holds the agent's instructions."""


class Knowledge:
    """The session's side of an agent: it is told here what has become part of the conversation."""

    def __init__(self, items: Iterable[ChatItem], *, instructions: str) -> None:
        self.instructions = instructions
        self.revision = 0
        """How often what was said was replaced as a whole."""
        self._keep(items)

    @property
    def items(self) -> list[ChatItem]:
        """Without the instructions. A copy."""
        return list(self._items)

    def context(self, *, instructions: str = "") -> ChatContext:
        """What a model is told: the agent's instructions and these, then what was said."""
        text = "\n\n".join(part for part in (self.instructions, instructions) if part)
        system = [Message(INSTRUCTIONS, "system", text)] if text else []
        return ChatContext([*system, *self._items])

    def remember(self, item: ChatItem) -> None:
        """It has become part of the conversation; one of the same id takes that one's place."""
        place = self._places.setdefault(item.id, len(self._items))
        self._items[place : place + 1] = [item]

    def said_since(self, known: Knowledge) -> list[Message]:
        """What was said after the last item that the other one knows, too; nothing where there is none."""
        last = max((place for item, place in self._places.items() if item in known._places), default=len(self._items))
        return [item for item in self._items[last + 1 :] if isinstance(item, Message)]

    def replace(self, items: Iterable[ChatItem]) -> None:
        """Let this be what was said."""
        self._keep(items)
        self.revision += 1

    def restore(self, items: Iterable[ChatItem], *, instructions: str | None = None) -> None:
        """Let it know this of a conversation that it had in another process, and be told these instructions."""
        self._keep(items)
        if instructions is not None:
            self.instructions = instructions

    def _keep(self, items: Iterable[ChatItem]) -> None:
        self._items = [item for item in items if item.id != INSTRUCTIONS]
        self._places = {item.id: place for place, item in enumerate(self._items)}
