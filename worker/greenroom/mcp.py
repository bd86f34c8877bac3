"""MCP servers under the name that LiveKit's users know: ``from greenroom import mcp``, ``mcp.MCPServerHTTP(...)``."""

from __future__ import annotations

from greenroom.session.mcp import MCPServer, MCPServerError, MCPServerHTTP, MCPServerStdio

__all__ = ["MCPServer", "MCPServerError", "MCPServerHTTP", "MCPServerStdio"]
