"""Waiting for what happens elsewhere, with a deadline that says what was awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

__all__ = ["POLL", "Missed", "Noticeboard", "until", "within"]

T = TypeVar("T")
POLL = 0.05
"""Seconds between two looks at what tells nobody that it has changed: files and processes."""


class Missed(AssertionError):
    """Something did not happen in time."""


class Noticeboard:
    """Wakes who waits when something has changed."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def changed(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, find: Callable[[], T | None], *, what: str, timeout: float) -> T:
        """What ``find`` finds, as soon as it does. Raises ``Missed``."""
        async with within(timeout, what):
            while True:
                changed = self._changed
                if (found := find()) is not None:
                    return found
                await changed.wait()


async def until(find: Callable[[], T | None], *, what: str, timeout: float) -> T:
    """What ``find`` finds where nobody tells that there is something new. Raises ``Missed``."""
    async with within(timeout, what):
        while (found := find()) is None:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(POLL)
        return found


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncIterator[None]:
    """A deadline for a block. Raises ``Missed`` that says what did not happen."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Missed(f"{what}: not within {time.monotonic() - began:.1f} s") from None
