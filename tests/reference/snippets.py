"""The Python snippets of the two reference texts, run as printed.

They are kept in ``speech-and-audio.md`` and ``speech-handle.md`` and compiled from there, never typed again. What a
snippet leaves open is given by the test that runs it: names, text in place of an elided part, and the code around it.
"""

from __future__ import annotations

import ast
import asyncio
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from inspect import isawaitable
from pathlib import Path
from types import FunctionType
from typing import Any

from greenroom import Agent, AgentSession, RunContext, UtteranceHandle, function_tool

__all__ = ["TEXTS", "Snippet", "snippet", "snippets"]

HERE = Path(__file__).parent
TEXTS = ("speech-and-audio", "speech-handle")

IMPORTS: dict[str, Any] = {
    "Agent": Agent,
    "AgentSession": AgentSession,
    "RunContext": RunContext,
    "UtteranceHandle": UtteranceHandle,
    "asyncio": asyncio,
    "function_tool": function_tool,
}
"""What the snippets use and do not import."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """One snippet: its ``text`` is the page that it stands on, its ``source`` the code as printed, indented."""

    text: str
    name: str
    source: str

    async def run(self, /, *, within: str = "", fill: Mapping[str, str] | None = None, **names: Any) -> dict[str, Any]:
        """Run it to its end; the names that it left behind.

        ``within``: lines (a class, a method) that it stands under. ``fill``: what stands in the place of parts that
        are elided; each must occur exactly once. ``names``: what the text takes for granted.
        """
        source = self.source
        for elided, filled in (fill or {}).items():
            assert source.count(elided) == 1, f"{self.name} has {source.count(elided)} of {elided!r}"
            source = source.replace(elided, filled)
        if within:
            last = within.splitlines()[-1]
            depth = len(last) - len(last.lstrip()) + 4
            source = f"{within}\n{textwrap.indent(source, ' ' * depth)}"
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(source, f"<{self.text}: {self.name}>", "exec", flags=flags, dont_inherit=True)
        namespace = {"__name__": self.name, **IMPORTS, **names}
        result = FunctionType(code, namespace)()
        if isawaitable(result):
            await result
        return namespace


@cache
def snippets() -> dict[str, Snippet]:
    """All of them, in the order of the texts."""
    found: dict[str, Snippet] = {}
    for text in TEXTS:
        page = (HERE / f"{text}.md").read_text(encoding="utf-8")
        for name, source in re.findall(r"^## (\w+)\n\n```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL):
            assert name not in found, f"two snippets are named {name}"
            found[name] = Snippet(text, name, source)
    return found


def snippet(name: str) -> Snippet:
    return snippets()[name]
