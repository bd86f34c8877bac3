"""What participants write: text streams on ``lk.chat``, as LiveKit's clients send them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from livekit import rtc

__all__ = ["MAX_CHAT", "TOPIC", "Chat"]

TOPIC = "lk.chat"
MAX_CHAT = 1024 * 1024
"""Bytes of a message."""
CHAT_TIMEOUT = 10.0
"""Seconds in which a message must have arrived whole."""

log = structlog.get_logger(__name__)


class Chat:
    """Reads each message to its end. ``received``: is told the writer's identity and the text."""

    def __init__(self, received: Callable[[str, str], None]) -> None:
        self._received = received
        self._reading: set[asyncio.Task[None]] = set()

    def opened(self, reader: rtc.TextStreamReader, identity: str) -> None:
        """A message begins to arrive."""
        task = asyncio.get_running_loop().create_task(self._read(reader, identity), name="read chat")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def aclose(self) -> None:
        """Read no more."""
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)

    async def _read(self, reader: rtc.TextStreamReader, identity: str) -> None:
        try:
            async with asyncio.timeout(CHAT_TIMEOUT):
                text = await _whole(reader)
        except (TimeoutError, rtc.StreamError) as error:
            log.warning("a chat message did not arrive", participant=identity, error=str(error) or "timeout")
            return
        finally:
            reader.close()
        self._received(identity, text)


async def _whole(reader: rtc.TextStreamReader) -> str:
    """The whole text. Raises ``rtc.StreamError`` where it is too long, or breaks off."""
    pieces, size = [], 0
    async for piece in reader:
        size += len(piece.encode())
        if size > MAX_CHAT:
            raise rtc.StreamError(f"longer than {MAX_CHAT} bytes")
        pieces.append(piece)
    return "".join(pieces)
