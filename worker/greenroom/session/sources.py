"""Tools that come from elsewhere while the conversation runs, such as those of an MCP server.

A ``ToolSource`` says where, an ``OpenSource`` is the line to it for one session, ``ToolSources`` are a session's lines.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import structlog

from greenroom.session.tools import FunctionTool

__all__ = ["Listener", "OpenSource", "ToolSource", "ToolSources"]

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT = 6.0
"""How long a source may take to end by itself: a program is asked, then told, then killed. Seconds."""
NAME_LENGTH = 64
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")
"""What models' interfaces do not take in a tool's name."""


class Listener(Protocol):
    """Who is told what becomes of a source."""

    def tools_changed(self) -> None:
        """There are other tools now than before."""

    def report(self, error: BaseException, source: str, /) -> None:
        """It cannot be had, and is tried again. Once for each time; the conversation goes on."""


class OpenSource(ABC):
    """The line to a source, for one session."""

    @abstractmethod
    def tools(self) -> Sequence[FunctionTool]:
        """Those that are known by now; at first none."""

    @abstractmethod
    async def run(self) -> None:
        """Connect, and again whenever the line is lost, until ``stop`` or cancelled. Runs in a task of its own."""

    @abstractmethod
    def stop(self) -> bool:
        """Have ``run`` return soon; ``False`` if there is nothing to say good-bye to: it may be cancelled."""


class ToolSource(ABC):
    """Where tools come from. ``name``: in logs, in errors, and before a tool's name that is taken."""

    name: str

    @abstractmethod
    def open(self, listener: Listener) -> OpenSource:
        """A line to it, not connected yet."""


class ToolSources:
    """The sources of one session: opened in the background, all closed at its end."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._open: dict[ToolSource, tuple[OpenSource, asyncio.Task[None]]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._names: dict[tuple[ToolSource, str], str] = {}

    def use(self, sources: Iterable[ToolSource]) -> None:
        """Have exactly these, in this order: what is not open yet is opened, what is open and not among them closed."""
        wanted = tuple(dict.fromkeys(sources))
        loop = asyncio.get_running_loop()
        for source in [source for source in self._open if source not in wanted]:
            closing = loop.create_task(self._close(*self._open.pop(source)), name=f"close {source.name}")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        for source in wanted:
            if source not in self._open:
                line = source.open(self._listener)
                task = loop.create_task(line.run(), name=f"tools of {source.name}")
                task.add_done_callback(self._ended)
                self._open[source] = (line, task)
        self._open = {source: self._open[source] for source in wanted}
        self._names = {key: name for key, name in self._names.items() if key[0] in self._open}

    def tools(self, taken: Collection[str] = ()) -> list[FunctionTool]:
        """Those that are known by now, each under a name of its own that is not ``taken``.

        A tool keeps the name under which the model was first told of it for as long as it can, so that a call that is
        under way does not reach another.
        """
        found: dict[str, FunctionTool] = {}
        for source, (line, _) in self._open.items():
            for tool in line.tools():
                name = self._name(source, tool.name, taken=taken)
                found[name] = tool if name == tool.name else tool.renamed(name)
        return list(found.values())

    async def aclose(self) -> None:
        """Close all; returns when no task and no program of theirs is left."""
        self.use(())
        while self._closing:
            await asyncio.gather(*self._closing)

    def _name(self, source: ToolSource, own: str, *, taken: Collection[str]) -> str:
        kept = self._names.get((source, own))
        if kept is not None and kept not in taken:
            return kept
        others = {name for key, name in self._names.items() if key != (source, own)} | set(taken)
        plain = _FOREIGN.sub("_", own)[:NAME_LENGTH]
        longer = _FOREIGN.sub("_", f"{source.name}_{own}")[:NAME_LENGTH]
        numbered = (f"{longer[: NAME_LENGTH - 4]}_{number}" for number in range(2, 1000))
        name = next(one for one in (plain, longer, *numbered) if one not in others)
        self._names[source, own] = name
        if name != own:
            why = "its name is taken" if plain in others else "its name has characters that models do not take"
            log.warning("tool renamed", source=source.name, tool=own, name=name, why=why)
        return name

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("tool source failed", task=task.get_name(), exc_info=error)
            self._listener.report(error, "tools")

    async def _close(self, line: OpenSource, task: asyncio.Task[None]) -> None:
        if line.stop():
            await asyncio.wait((task,), timeout=CLOSE_TIMEOUT)
        while not task.done():  # a library in between may swallow a cancellation
            task.cancel()
            await asyncio.wait((task,), timeout=CLOSE_TIMEOUT)
