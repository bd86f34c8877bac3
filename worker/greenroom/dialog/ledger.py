"""Names the items of the history, and counts what has changed since."""

from __future__ import annotations

from greenroom.dialog.commands import Commit
from greenroom.dialog.history import ChatItem

__all__ = ["Ledger"]


class Ledger:
    """A part of ``Dialog``. ``version`` changes with whatever the model would be told otherwise now than before."""

    def __init__(self) -> None:
        self._items = 0
        self.version = 0

    def new_id(self) -> str:
        """For an item that may be committed later."""
        self._items += 1
        return f"item_{self._items}"

    def commit(self, item: ChatItem, speech: str = "") -> Commit:
        self.version += 1
        return Commit(item, speech)

    def changed(self) -> None:
        """Instructions, tools, the agent or its context are others."""
        self.version += 1
