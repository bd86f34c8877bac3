"""Reads a streamed answer: the client's chunks in, words, whole tool calls and token counts out.

Pure. Endpoints differ in what they leave out: a call's id, its index, its ``finish_reason``'s company, the choices of a
chunk that only counts tokens. What is missing here is made up for; what is not the protocol is a ``MalformedAnswer``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from greenroom.providers import LLMChunk, TextDelta, ToolCall, Usage
from greenroom_plugins.openai.errors import MalformedAnswer

__all__ = ["Answer", "Thoughts"]


@dataclass(slots=True)
class _Call:
    index: int | None
    id: str
    name: str = ""
    arguments: str = ""


class Answer:
    """One answer. ``finished`` is the endpoint's reason for its end, empty until then.

    ``thoughts``: what stands between thinking tags at the beginning is no part of it. ``new_id`` names calls that come
    without a name.
    """

    def __init__(self, *, thoughts: bool = False, new_id: Callable[[], str] | None = None) -> None:
        self.finished = ""
        self.empty = True
        """Nothing was said or called."""
        self._thoughts = Thoughts() if thoughts else None
        self._new_id = new_id or (lambda: f"call_{uuid4().hex}")
        self._calls: list[_Call] = []
        self._usage: Usage | None = None

    def take(self, chunk: Any) -> Iterator[LLMChunk]:
        """What has become known with this chunk. Raises ``MalformedAnswer``."""
        choices = getattr(chunk, "choices", None)
        usage = _counted(getattr(chunk, "usage", None))
        if choices is None and usage is None:
            raise MalformedAnswer("a part of the answer is none")
        self._usage = usage or self._usage
        for choice in _several(choices):
            if getattr(choice, "index", 0) not in (0, None):
                continue
            delta = getattr(choice, "delta", None)
            yield from self._words(getattr(delta, "content", None) or getattr(delta, "refusal", None))
            for call in _several(getattr(delta, "tool_calls", None)):
                self._call(call)
            reason = getattr(choice, "finish_reason", None)
            if reason and not self.finished:
                self.finished = str(reason)
                yield from self._rest()

    def end(self) -> Iterator[LLMChunk]:
        """The answer is over: what it cost."""
        if self._usage is not None:
            yield self._usage

    def _words(self, text: object) -> Iterator[LLMChunk]:
        if text is None:
            return
        if not isinstance(text, str):
            raise MalformedAnswer("words that are no text")
        words = self._thoughts.push(text) if self._thoughts is not None else text
        if words:
            self.empty = self.empty and not words.strip()
            yield TextDelta(words)

    def _call(self, piece: Any) -> None:
        """Pieces of a call have the same index; some endpoints number none, or all alike, and name each anew."""
        index, named = getattr(piece, "index", None), getattr(piece, "id", None) or ""
        function = getattr(piece, "function", None)
        name, arguments = getattr(function, "name", None) or "", getattr(function, "arguments", None) or ""
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments)
        call = next((one for one in reversed(self._calls) if one.index == index), None)
        if call is None or (named and call.id and named != call.id) or (index is None and name):
            call = _Call(index, named)
            self._calls.append(call)
        call.id = call.id or named
        call.name = call.name or name
        call.arguments += arguments

    def _rest(self) -> Iterator[LLMChunk]:
        """With the end of the words: what was held back, and the calls."""
        held = self._thoughts.flush() if self._thoughts is not None else ""
        if held:
            self.empty = self.empty and not held.strip()
            yield TextDelta(held)
        taken: set[str] = set()
        for call in self._calls:
            if not call.name:
                raise MalformedAnswer("a tool call without a name")
            self.empty = False
            name = call.id if call.id and call.id not in taken else self._new_id()
            taken.add(name)
            yield ToolCall(name, call.name, call.arguments.strip() or "{}")


class Thoughts:
    """Takes away what stands between thinking tags at the beginning of a text, however it is cut into pieces."""

    _OPEN, _CLOSE = ("<think>", "<thinking>"), ("</think>", "</thinking>")

    def __init__(self) -> None:
        self._held = ""
        self._close = ""
        self._passed = False

    def push(self, text: str) -> str:
        """What of it is certain to be said."""
        if self._passed:
            return text
        self._held += text
        if not self._close:
            begun = self._held.lstrip()
            opened = next((place for place, tag in enumerate(self._OPEN) if begun.startswith(tag)), None)
            if opened is None:
                if any(tag.startswith(begun) for tag in self._OPEN):
                    return ""  # it may become a tag
                return self._pass(self._held)
            self._close = self._CLOSE[opened]
        before, closed, after = self._held.partition(self._close)
        if not closed:
            self._held = before
            return ""
        after = after.lstrip()
        if after:
            return self._pass(after)
        self._held, self._close = "", ""
        return ""

    def flush(self) -> str:
        """The rest, once the text has ended: a thought that was never closed is none of it."""
        return "" if self._close or self._passed else self._pass(self._held)

    def _pass(self, text: str) -> str:
        self._held, self._passed = "", True
        return text


def _counted(usage: Any) -> Usage | None:
    prompt, completion = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    if isinstance(prompt, int) and isinstance(completion, int):
        return Usage(prompt, completion)
    return None


def _several(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise MalformedAnswer("one where there should be several")
    return value
