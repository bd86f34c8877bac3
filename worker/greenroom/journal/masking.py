"""What a journal does not tell: the secrets that this process knows of, and what the settings' patterns find.

A replay of the masked events has to come to the same decisions, so what decisions depend on is kept:

- Of what a pattern finds in a text, each word becomes ``xxx``: how many words there were decides over interruptions.
- Names (of tools, groups, keys, agents) that are masked are numbered: those that were different stay so.
- Ids that greenroom makes itself hold nothing of anybody, and are left alone.

A pattern sees one text at a time: an utterance, a turn, what a tool returned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from greenroom.dialog import events as ev
from greenroom.dialog.history import ChatItem, FunctionCall, FunctionCallOutput, Message
from greenroom.journal.format import AgentNoted, LeftNoted, Note
from greenroom.redaction import MASK, redact

__all__ = ["NAMES", "TEXTS", "Mask"]

WORD = "xxx"
HELD_BACK = 64
"""Characters of words that come piece by piece which wait for the next piece, so that a pattern sees them together."""
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")

TEXTS: dict[type[Any], tuple[str, ...]] = {
    ev.Transcribed: ("text",),
    ev.UserTyped: ("text",),
    ev.HookFinished: ("text",),
    ev.SpeechRequested: ("text", "user_input", "instructions"),
    ev.Generated: ("text", "error"),
    ev.Synthesised: ("error",),
    ev.Played: ("text",),
    ev.ToolFinished: ("output",),
    ev.CloseAsked: ("reason",),
    Message: ("text",),
    FunctionCallOutput: ("output",),
}
"""Fields that hold what people, models and programs have said."""
NAMES: dict[type[Any], tuple[str, ...]] = {
    ev.Transcribed: ("language",),
    ev.HandOff: ("agent",),
    ev.AgentChanged: ("agent",),
    ev.SpeechRequested: ("key", "group"),
    ev.InterruptAsked: ("group",),
    ev.ToolFinished: ("call_id", "agent"),
    ev.RequestedCall: ("call_id", "name"),
    FunctionCall: ("call_id", "name"),
    FunctionCallOutput: ("call_id", "name"),
}
"""Fields that are compared with others."""

Value = TypeVar("Value")


class Mask:
    """One journal's. ``patterns``: regular expressions; raises ``re.error`` for one that is none."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._patterns = [re.compile(pattern) for pattern in patterns]
        self._names: dict[str, str] = {}
        self._pieces: dict[tuple[str, int], tuple[str, int]] = {}

    def event(self, event: ev.Event) -> ev.Event:
        """The event as it may be written: the same object when there is nothing to hide."""
        if isinstance(event, ev.Generated) and event.calls:
            event = replace(event, calls=tuple(self._call(call) for call in event.calls))
        elif isinstance(event, ev.Played) and event.what in ("finished", "stopped"):
            self._pieces.pop((event.speech, event.step), None)
        return self._fields(event)

    def item(self, item: ChatItem) -> ChatItem:
        return self._call(item) if isinstance(item, FunctionCall) else self._fields(item)

    def note(self, note: Note) -> Note:
        if isinstance(note, LeftNoted):
            return LeftNoted(
                tuple(self._fields(request) for request in note.waiting),
                tuple(self._fields(request) for request in note.replies),
                tuple(self.text(text) for text in note.unanswered),
            )
        if not isinstance(note, AgentNoted):
            return note
        known = note.known
        if known is not None:
            known = tuple(one if isinstance(one, str) else self.item(one) for one in known)
        told = None if note.instructions is None else self.text(note.instructions)
        return replace(note, name=self._name(note.name), instructions=told, known=known)

    def text(self, text: str) -> str:
        """``text`` with what is not to be told masked, and as UTF-8 can hold it."""
        if not text:
            return text
        masked = redact(text)
        if masked != text:
            masked = masked.replace(MASK, WORD)
        for pattern in self._patterns:
            masked = pattern.sub(_hidden, masked)
        return masked if masked.isascii() else _whole(masked)

    def piece(self, speech: str, step: int, text: str) -> str:
        """The next words of a step, as far as they may be told by now."""
        if not self._patterns:
            return self.text(text)
        so_far, told = self._pieces.get((speech, step), ("", 0))
        so_far += text
        masked = self.text(so_far)
        until = max(told, len(masked) - HELD_BACK)
        self._pieces[speech, step] = (so_far, until)
        return masked[told:until]

    def _fields(self, value: Value) -> Value:
        changed: dict[str, Any] = {}
        self._collect(value, TEXTS, self.text, changed)
        self._collect(value, NAMES, self._name, changed)
        return replace(value, **changed) if changed else value  # type: ignore[type-var]

    def _collect(
        self, value: Any, table: dict[type[Any], tuple[str, ...]], mask: Callable[[str], str], changed: dict[str, Any]
    ) -> None:
        for field in table.get(type(value), ()):
            given = getattr(value, field)
            if given and (masked := mask(given)) != given:
                changed[field] = masked

    def _call(self, call: Value) -> Value:
        """A tool call. What the model wrote stays JSON, for the model that is told of it again."""
        call = self._fields(call)
        arguments: str = call.arguments  # type: ignore[attr-defined]
        masked = self.text(arguments)
        if masked == arguments:
            return call
        if _is_json(arguments) and not _is_json(masked):
            masked = json.dumps({"redacted": masked}, ensure_ascii=False)
        return replace(call, arguments=masked)  # type: ignore[type-var]

    def _name(self, name: str) -> str:
        if name in self._names:
            return self._names[name]
        masked = self.text(name)
        if masked == name:
            return name
        return self._names.setdefault(name, f"{MASK}{len(self._names) + 1}")


def _hidden(match: re.Match[str]) -> str:
    """As many words as there were, and what stood between them."""
    found = match[0]
    return _WORD.sub(WORD, found) if _WORD.search(found) else MASK if found else ""


def _whole(text: str) -> str:
    """Without halves of characters, which JSON from elsewhere may bring, and no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
