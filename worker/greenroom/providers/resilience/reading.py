"""A model's stream, read in a task of its own, a piece each time that one is asked for.

The task is the only one that ever touches the stream, so it can be cancelled whatever it waits in; and it runs no
further ahead than whoever reads, so that a model whose reader has stopped makes nothing for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

__all__ = ["Broken", "Over", "Piece", "Reading"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Piece(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class Over:
    """The stream ended."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The stream failed."""

    error: Exception


Outcome: TypeAlias = Piece[T] | Over | Broken


class Reading(Generic[T]):
    """Begins at once. ``told`` is called with the first piece, and with the next one after each ``ask``."""

    def __init__(self, open_stream: Callable[[], AsyncGenerator[T, None]], told: Callable[[Outcome[T]], None]) -> None:
        self._open = open_stream
        self._told = told
        self._asked = asyncio.Event()
        self._asked.set()
        self._stopped = False
        self.task = asyncio.get_running_loop().create_task(self._read(), name="reading of a model")

    def ask(self) -> None:
        """One more piece."""
        self._asked.set()

    def stop(self) -> None:
        """Nothing more is told; the stream is closed."""
        self._stopped = True
        self.task.cancel()

    async def _read(self) -> None:
        try:
            async with aclosing(self._open()) as pieces:
                async for piece in pieces:
                    self._asked.clear()
                    self._tell(Piece(piece))
                    await self._asked.wait()
        except Exception as error:  # noqa: BLE001  # handed to whoever reads, who tells a failure from a mistake
            self._tell(Broken(error))
        else:
            self._tell(Over())

    def _tell(self, outcome: Outcome[T]) -> None:
        if not self._stopped:
            self._told(outcome)
