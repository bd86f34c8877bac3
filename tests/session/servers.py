"""MCP servers for the tests of a session."""

from __future__ import annotations

import asyncio
from typing import Any

from greenroom.session.mcp import MCPServerStdio
from greenroom.session.sources import Listener, OpenSource

__all__ = ["ListedServer"]


class ListedServer(MCPServerStdio):
    """A program that is a server; ``listed`` is set when a session knows its tools."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.listed = asyncio.Event()

    def open(self, listener: Listener) -> OpenSource:
        return super().open(_Told(listener, self.listed))


class _Told(Listener):
    def __init__(self, listener: Listener, listed: asyncio.Event) -> None:
        self._listener = listener
        self._listed = listed

    def tools_changed(self) -> None:
        self._listener.tools_changed()
        self._listed.set()

    def report(self, error: BaseException, source: str, /) -> None:
        self._listener.report(error, source)
