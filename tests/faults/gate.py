"""A way to the media server that can be shut for those who want into a room, while a worker's line stays open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

__all__ = ["Gate", "gate"]

HOST = "127.0.0.1"
ROOMS = (b"GET /rtc", b"POST /rtc")
PIECE = 64 * 1024


class Gate:
    """``shut``: who comes for a room now is let in, and never answered."""

    def __init__(self, server: str) -> None:
        self.shut = False
        self.url = ""
        self._host, self._port = urlsplit(server).hostname, urlsplit(server).port
        self._passing: set[asyncio.Task[None]] = set()

    async def passing(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._pass(reader, writer)
        finally:
            self._passing.discard(task)
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if self.shut and head.startswith(ROOMS):
            await reader.read()  # until they give up
            return
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        far_writer.write(head)
        ways = [asyncio.ensure_future(_pump(reader, far_writer)), asyncio.ensure_future(_pump(far_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.close()

    async def close(self) -> None:
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def gate(server: str) -> AsyncIterator[Gate]:
    """A gate before the media server at this ``ws://`` address."""
    made = Gate(server)
    listening = await asyncio.start_server(made.passing, HOST, 0)
    made.url = f"ws://{HOST}:{listening.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        listening.close()
        await made.close()
        await listening.wait_closed()
