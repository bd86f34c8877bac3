"""A real MCP server for the tests, as a program: ``python mcp_program.py [--socket FD] [--legacy]``.

It speaks over its standard input and output, or HTTP on the listening socket that it is given. ``--legacy``: it speaks
the protocol as it was before 2026, in which a connection begins with a handshake.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from typing import Any

import anyio
import uvicorn
from mcp import MCPError, stdio_server
from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.message import SessionMessage
from mcp_types import METHOD_NOT_FOUND, ErrorData, JSONRPCError, JSONRPCRequest, TextContent

__all__ = ["make"]


def make(*, legacy: bool) -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("tests", log_level="ERROR", middleware=[_only_legacy] if legacy else [])
    stopped = asyncio.Event()

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool(structured_output=False)
    def greet(name: str = "you") -> list[TextContent]:
        return [TextContent(type="text", text="Good day,"), TextContent(type="text", text=name)]

    @server.tool()
    def fail() -> str:
        raise ToolError("The printer is on fire.")

    @server.tool()
    async def hang() -> str:
        """Never returns."""
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    @server.tool(name="has-stopped")
    async def has_stopped() -> str:
        """Returns when ``hang`` was told to stop."""
        await stopped.wait()
        return "yes"

    @server.tool()
    def die() -> str:
        sys.stderr.write("dying as asked\n")
        sys.stderr.flush()
        os._exit(3)

    @server.tool(name="files/read.all")
    def read_all() -> str:
        """Has a name that models' interfaces do not take."""
        return "all"

    @server.tool()
    def environment(name: str) -> str:
        return os.environ.get(name, "not set")

    @server.tool()
    def pid() -> int:
        return os.getpid()

    @server.tool()
    async def grow(context: Context[Any, Any]) -> str:
        """Has one more tool from now on, and says so."""
        server.add_tool(_grown, name="grown")
        if legacy:
            await context.session.send_tool_list_changed()
        else:
            await context.notify_tools_changed()
        return "grown"

    return server


def _grown() -> str:
    return "I was not here before."


async def _only_legacy(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    if ctx.method == "server/discover":
        raise MCPError(METHOD_NOT_FOUND, "unknown method")
    return await call_next(ctx)


async def _serve_stdio(server: MCPServer[Any]) -> None:
    """As an old server: here the first request decides the era, so the question for it is answered before."""
    async with stdio_server() as (reading, writing):
        send, receive = anyio.create_memory_object_stream[SessionMessage | Exception](0)

        async def relay() -> None:
            async with send:
                async for item in reading:
                    request = item.message if isinstance(item, SessionMessage) else None
                    if isinstance(request, JSONRPCRequest) and request.method == "server/discover":
                        error = ErrorData(code=METHOD_NOT_FOUND, message="unknown method")
                        await writing.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=request.id, error=error)))
                    else:
                        await send.send(item)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(relay)
            within = server._lowlevel_server
            await within.run(receive, writing, within.create_initialization_options())
            tasks.cancel_scope.cancel()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int)
    parser.add_argument("--legacy", action="store_true")
    arguments = parser.parse_args()
    server = make(legacy=arguments.legacy)
    if arguments.socket is not None:
        config = uvicorn.Config(server.streamable_http_app(), log_level="error", lifespan="on")
        asyncio.run(uvicorn.Server(config).serve(sockets=[socket.socket(fileno=arguments.socket)]))
    elif arguments.legacy:
        anyio.run(_serve_stdio, server)
    else:
        server.run("stdio")


if __name__ == "__main__":
    main()
