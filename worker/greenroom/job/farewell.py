"""The end of a call whose processes die again and again: some words, without anybody's code."""

from __future__ import annotations

from collections.abc import Callable

from greenroom.errors import JobError
from greenroom.session.agent import Agent

__all__ = ["CallGivenUp", "Farewell"]


class CallGivenUp(JobError):
    """The call's processes died more often than ``recovery.attempts``."""


class Farewell(Agent):
    """Says ``text`` and nothing else; ``said`` is called when that is heard, or cannot be."""

    def __init__(self, text: str, *, said: Callable[[], None]) -> None:
        super().__init__()
        self._text = text
        self._said = said

    async def on_enter(self) -> None:
        try:
            await self.session.say(self._text, allow_interruptions=False)
        finally:
            self._said()
