"""How an MCP server is reached: a program's standard input and output, or streamable HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO, TypeAlias

import httpx2
from mcp import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream, TransportStreams
    from mcp.shared.message import SessionMessage

__all__ = ["Transport", "Watcher", "http", "noticing", "stdio"]

Transport: TypeAlias = "AbstractAsyncContextManager[TransportStreams]"
"""A pair of streams of the ``mcp`` package, open while the context is."""

LONGEST_LINE = 4096
"""Bytes of a line on standard error that are kept."""


class Watcher(Protocol):
    """Who is told what the streams do not tell."""

    def note(self, text: str, /) -> None:
        """What may explain a failure: a status of HTTP, a line that a program wrote."""

    def lost(self) -> None:
        """Nothing more can come over this line. May be told more than once."""


@asynccontextmanager
async def http(
    url: str, *, headers: Mapping[str, str], timeout: float, watcher: Watcher
) -> AsyncIterator[TransportStreams]:
    """Streamable HTTP. ``timeout``: to connect and to send; how long an answer may take is the caller's to say."""

    async def note_status(response: httpx2.Response) -> None:
        if response.status_code >= 400:
            watcher.note(f"HTTP {response.status_code} {response.reason_phrase}")
        if response.status_code == 404 and "mcp-session-id" in response.request.headers:
            watcher.lost()  # the server was started anew and does not know us any more

    async def limit_farewell(request: httpx2.Request) -> None:
        if request.method == "DELETE":
            request.extensions["timeout"] = httpx2.Timeout(timeout).as_dict()

    def make() -> httpx2.AsyncClient:
        # A stream of notices is silent for hours, so reading has no limit of its own, but for the last request.
        hooks: dict[str, list[Callable[..., Any]]] = {"request": [limit_farewell], "response": [note_status]}
        return httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(timeout, read=None), event_hooks=hooks)

    # It reads certificates from files.
    async with await asyncio.to_thread(make) as client, streamable_http_client(url, http_client=client) as streams:
        yield streams


@asynccontextmanager
async def stdio(
    command: str, args: Sequence[str], *, env: Mapping[str, str], cwd: str | None, watcher: Watcher
) -> AsyncIterator[TransportStreams]:
    """A program, ended with the context. It sees ``env``, and of this process's environment PATH, HOME and the like.

    Raises ``OSError`` if it cannot be started.
    """
    program = StdioServerParameters(command=command, args=list(args), env=dict(env), cwd=cwd)
    async with _standard_error(watcher) as stderr, stdio_client(program, errlog=stderr) as streams:
        stderr.close()  # the program has its own by now; the pipe ends with the last who has it
        yield streams


@asynccontextmanager
async def noticing(transport: Transport, watcher: Watcher) -> AsyncIterator[TransportStreams]:
    """The same transport; ``watcher`` is told when its stream has ended."""
    async with transport as (reading, writing):
        yield _Noticing(reading, watcher), writing


class _Noticing:
    """A stream to read from that says when it has ended."""

    def __init__(self, stream: ReadStream[SessionMessage | Exception], watcher: Watcher) -> None:
        self._stream = stream
        self._watcher = watcher

    @property
    def last_context(self) -> object:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._watcher.lost()
            raise

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stream.__aexit__(kind, error, trace)


@asynccontextmanager
async def _standard_error(watcher: Watcher) -> AsyncIterator[TextIO]:
    """A file for a program to write to; each line is noted, since this process's own log has a form."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "w") as writer:
        loop = asyncio.get_running_loop()
        transport, lines = await loop.connect_read_pipe(lambda: _Lines(watcher), reader)
        try:
            yield writer
        finally:
            writer.close()
            transport.close()
            await lines.closed


class _Lines(asyncio.Protocol):
    def __init__(self, watcher: Watcher) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watcher = watcher
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:LONGEST_LINE]
        for line in lines:
            self._tell(line)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell(self._rest)
        self.closed.set_result(None)

    def _tell(self, line: bytes) -> None:
        if text := line[:LONGEST_LINE].decode(errors="replace").strip():
            self._watcher.note(text)
