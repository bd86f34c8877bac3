"""MCP servers as sources of tools, through the official ``mcp`` package (``pip install 'greenroom[mcp]'``).

::

    AgentSession(mcp_servers=[mcp.MCPServerHTTP("https://tools.example.com/mcp")], ...)

A server that is away is tried again for as long as the session lives, and ends nothing. Its tools stay on offer: a call
waits for it as long as a call may take.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import urlsplit

import structlog

try:
    import jsonschema.validators  # noqa: F401  # now: the library would do so at the first result, while audio plays
    import mcp_types as types
    from mcp import Client, MCPError
    from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"MCP servers need {error.name}, which is not installed; expected after: pip install 'greenroom[mcp]'",
        name=error.name,
    ) from error

from greenroom.errors import GreenroomError
from greenroom.redaction import redact
from greenroom.session.mcp_transport import Transport, Watcher, http, noticing, stdio
from greenroom.session.sources import Listener, OpenSource, ToolSource
from greenroom.session.tools import FunctionTool, ToolError, function_tool
from greenroom.version import __version__

__all__ = ["MCPServer", "MCPServerError", "MCPServerHTTP", "MCPServerStdio"]

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = 30.0
"""How long a server may take to answer the first requests: a program may have to be fetched. Seconds."""
LONGEST_DELAY = 30.0
"""Between two attempts to connect. Seconds."""
STEADY = 30.0
"""A line that has held for so long is tried again at once when it is lost. Seconds."""
RELISTEN_DELAY = 5.0
PAGES = 100
"""Of a list of tools: a server that always has one more must not keep us for ever."""

News = Literal["changed", "lost", "stop"]


class MCPServerError(GreenroomError):
    """A server cannot be had; it is tried again."""


class MCPServer(ToolSource):
    """An MCP server: how to reach it, and what of it the model may call. May be used by any number of sessions.

    ``timeout``: how long one call may take, waiting for the server included. ``allowed_tools``: none but these, by the
    server's own names; ``None`` for all.
    """

    def __init__(self, *, name: str, timeout: float, allowed_tools: Sequence[str] | None) -> None:
        if timeout <= 0:
            raise ValueError(f"the timeout is {timeout}; expected seconds above 0")
        self.name = name
        self.timeout = timeout
        self.allowed_tools = None if allowed_tools is None else tuple(allowed_tools)

    @abstractmethod
    def transport(self, watcher: Watcher) -> Transport:
        """A way to it, not open yet."""

    def open(self, listener: Listener) -> OpenSource:
        return _Line(self, listener)


class MCPServerHTTP(MCPServer):
    """A server at an address, over streamable HTTP. ``headers`` go with every request."""

    def __init__(
        self,
        url: str,
        *,
        name: str = "",
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        allowed_tools: Sequence[str] | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{redact(url)!r} is no address of an MCP server; expected http://... or https://...")
        super().__init__(name=name or parts.hostname, timeout=timeout, allowed_tools=allowed_tools)
        self.url = url
        self.headers = dict(headers or {})

    def transport(self, watcher: Watcher) -> Transport:
        return http(self.url, headers=self.headers, timeout=self.timeout, watcher=watcher)

    def __repr__(self) -> str:
        # Neither headers nor the query: keys of services are in both.
        return f"MCPServerHTTP({redact(self.url.partition('?')[0])!r}, name={self.name!r})"


class MCPServerStdio(MCPServer):
    """A program that is a server on its standard input and output; each session starts its own, and ends it.

    Of this process's environment it sees PATH, HOME and the like, and beside them ``env``.
    """

    def __init__(
        self,
        command: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        name: str = "",
        timeout: float = 10.0,
        allowed_tools: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name=name or os.path.basename(command), timeout=timeout, allowed_tools=allowed_tools)
        self.command = command
        self.args = tuple(args)
        self.env = dict(env or {})
        self.cwd = None if cwd is None else os.fspath(cwd)

    def transport(self, watcher: Watcher) -> Transport:
        return stdio(self.command, self.args, env=self.env, cwd=self.cwd, watcher=watcher)

    def __repr__(self) -> str:
        # Arguments and environment may hold a key.
        return f"MCPServerStdio({self.command!r}, name={self.name!r})"


class _Line(OpenSource):
    """One session's connection to one server, entered and left in the task of ``run``, as the library wants it."""

    def __init__(self, server: MCPServer, listener: Listener) -> None:
        self._server = server
        self._listener = listener
        self._listed: list[types.Tool] = []
        self._tools: list[FunctionTool] = []
        self._client: Client | None = None
        self._connected = asyncio.Event()
        self._wanted = asyncio.Event()
        """A call waits: the next attempt is made soon."""
        self._news: asyncio.Queue[News] = asyncio.Queue()
        self._held = False
        """This attempt to connect succeeded."""
        self._away = False
        """That it cannot be had has been told."""
        self._stopped = False
        self._noted = ""

    def tools(self) -> Sequence[FunctionTool]:
        return self._tools

    def stop(self) -> bool:
        self._stopped = True
        self._news.put_nowait("stop")
        return self._connected.is_set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        delays = _delays()
        while True:
            began = loop.time()
            try:
                return await self._serve()
            except Exception as error:  # noqa: BLE001  # a server's fault, or the library's, ends no conversation
                if self._stopped:  # and cancelled, maybe: the library's task groups can swallow that while they close
                    return None
                self._report(error)
            if self._wanted.is_set() or loop.time() - began > STEADY:
                delays = _delays()
            self._wanted.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(next(delays)):
                    await self._wanted.wait()

    async def call(self, name: str, arguments: dict[str, Any]) -> str:
        """What the server's tool returned, as text. Raises ``ToolError``."""
        try:
            async with asyncio.timeout(self._server.timeout):
                result = await self._call(name, arguments)
        except TimeoutError:
            if not self._connected.is_set():
                raise ToolError("The service behind this tool cannot be reached at the moment.") from None
            raise ToolError(f"The tool did not answer within {self._server.timeout:g} seconds.") from None
        except MCPError as error:
            if error.code == types.CONNECTION_CLOSED:
                raise ToolError(
                    "The connection to the service behind this tool was lost; whether it was done is not known."
                ) from error
            raise ToolError(f"The tool failed: {error.message}") from error
        if result.is_error:
            raise ToolError(_text(result) or "The tool failed.")
        return _text(result)

    # --- calls ------------------------------------------------------------------------------------------------------

    async def _call(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        while True:
            while (client := self._client) is None:
                self._wanted.set()
                await self._connected.wait()
            try:
                return await client.call_tool(name, arguments, read_timeout_seconds=self._server.timeout)
            except MCPError as error:
                if client is self._client or error.code in (types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT):
                    raise
                # Refused by a server that was started anew: it may be made again, over the next line.

    def _tool(self, described: types.Tool) -> FunctionTool | None:
        async def call(raw_arguments: dict[str, Any]) -> str:
            return await self.call(described.name, raw_arguments)

        schema = {
            "name": described.name,
            "description": described.description or described.title or "",
            "parameters": described.input_schema,
        }
        try:
            return function_tool(call, raw_schema=schema)
        except TypeError as error:
            log.warning("MCP tool left out", server=self._server.name, tool=described.name, why=str(error))
            return None

    # --- the line ---------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Connect, and keep the list of tools current. Returns when told to stop, raises when the line is lost."""
        self._noted, self._held = "", False
        news = self._news = asyncio.Queue()

        async def heard(message: object) -> None:
            if isinstance(message, types.ToolListChangedNotification):
                news.put_nowait("changed")

        async with Client(
            noticing(self._server.transport(self), self),
            client_info=types.Implementation(name="greenroom", version=__version__),
            message_handler=heard,
            read_timeout_seconds=CONNECT_TIMEOUT,
            cache=None,
        ) as client:
            await self._list(client)
            listening = asyncio.get_running_loop().create_task(self._listen(client, news))
            self._client = client
            self._connected.set()
            self._noted, self._held, self._away = "", True, False
            log.info("MCP server connected", server=self._server.name, tools=len(self._tools))
            if self._stopped:
                news.put_nowait("stop")
            try:
                while (what := await news.get()) == "changed":
                    await self._list(client)
                if what == "lost":
                    raise MCPServerError("the connection was lost")
            finally:
                self._disconnected()
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    async def _list(self, client: Client) -> None:
        listed: list[types.Tool] = []
        cursor: str | None = None
        for _ in range(PAGES if client.server_capabilities.tools is not None else 0):
            page = await client.list_tools(cursor=cursor)
            listed += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        if listed != self._listed:
            self._listed = listed
            self._take(listed)
            self._listener.tools_changed()

    def _take(self, listed: Sequence[types.Tool]) -> None:
        allowed = self._server.allowed_tools
        names = {tool.name for tool in listed}
        if missing := [name for name in allowed or () if name not in names]:
            log.warning("MCP server lacks allowed tools", server=self._server.name, missing=missing, has=sorted(names))
        self._tools = [
            made
            for tool in listed
            if (allowed is None or tool.name in allowed) and (made := self._tool(tool)) is not None
        ]

    async def _listen(self, client: Client, news: asyncio.Queue[News]) -> None:
        """Be told of changes in the way of newer servers; older ones tell without being asked."""
        while True:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    if not changes.honored.tools_list_changed:
                        return
                    news.put_nowait("changed")  # it may have, before the server listened to us
                    async for _ in changes:
                        news.put_nowait("changed")
            except SubscriptionLost:
                news.put_nowait("lost")
                return
            except ListenNotSupportedError:
                return
            except (MCPError, TimeoutError) as error:
                log.debug("MCP server tells no changes", server=self._server.name, why=str(error))
                return
            await asyncio.sleep(RELISTEN_DELAY)

    # --- told by the transport --------------------------------------------------------------------------------------

    def note(self, text: str, /) -> None:
        self._noted = text
        log.debug("MCP server said", server=self._server.name, said=redact(text))

    def lost(self) -> None:
        self._disconnected()  # at once: the next call waits for a new line
        self._news.put_nowait("lost")

    # --- pieces -----------------------------------------------------------------------------------------------------

    def _disconnected(self) -> None:
        self._client = None
        self._connected.clear()

    def _report(self, error: Exception) -> None:
        """Tell once of a server that cannot be had; a line that was lost is no failure until it cannot be had again."""
        cause = _first(error)
        why = str(cause) or type(cause).__name__
        told = MCPServerError(redact(f"MCP server {self._server.name}: {why}{self._noted and f' ({self._noted})'}"))
        told.__cause__ = cause
        log.warning("MCP server lost" if self._held else "MCP server away", server=self._server.name, why=str(told))
        if not self._held and not self._away:
            self._away = True
            self._listener.report(told, "mcp")


def _delays() -> Iterator[float]:
    """Seconds before each attempt: doubled from one to the next, less a part by chance so that not all come at once."""
    step = 0.5
    while True:
        yield step * (0.5 + 0.5 * random.random())
        step = min(2 * step, LONGEST_DELAY)


def _first(error: BaseException) -> BaseException:
    """What the groups around an error hold."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _text(result: types.CallToolResult) -> str:
    """What a tool returned, as far as it can be read."""
    parts: list[str] = []
    for block in result.content:
        match block:
            case types.TextContent():
                parts.append(block.text)
            case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
                parts.append(resource.text)
            case types.ResourceLink():
                parts.append(f"{block.name}: {block.uri}")
            case _:
                parts.append(f"({block.type} that cannot be shown as text)")
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts)
