"""The conversation as the model has it, kept here too: what it is told to forget, and what it is told again. No I/O.

Rules:

1. A part is known by the session's key and by the server's id. The order is the server's.
2. What the server holds as sound is shortened there (``conversation.item.truncate``), to the whole millisecond below
   what was heard. What it holds as text cannot be: it is deleted, and the text that was heard put into its place.
3. On another connection everything is told again: words as text, and an utterance whose words are not known as sound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from greenroom.dialog.history import ChatContext, ChatItem, FunctionCall, FunctionCallOutput, Message
from greenroom_plugins.openai_realtime.wire import RATE, Outgoing, create, item

__all__ = ["Memory", "Part"]

SAMPLES_PER_MS = RATE // 1000
KEPT_SOUND = 120 * RATE * 2
"""Bytes of utterances without words that are kept to be told again."""


@dataclass(slots=True, eq=False)
class Part:
    """One item of the server's memory.

    ``key``: the utterance, the response, or the session's item. ``id``: the server's, empty while it is not known.
    ``text``: of it, as far as it was handed on; ``samples``: likewise; ``made``: what the server holds of either.
    ``sounding``: the server holds sound of it, in its content number ``index``. ``audio``: of an utterance without
    words.
    """

    kind: Literal["heard", "said", "told"]
    key: str
    id: str = ""
    item: ChatItem | None = None
    text: str = ""
    samples: int = 0
    made_text: str = ""
    made: int = 0
    index: int = 0
    sounding: bool = False
    audio: bytes = b""
    kept: bool = True
    """It is to stay: a tool call since the session knows of it, an utterance unless the memory was replaced since."""

    def content(self) -> ChatItem | None:
        """As an item to be told again; ``None`` where there are no words."""
        if self.kind == "told":
            return self.item if self.kept else None
        return Message(self.key, "user" if self.kind == "heard" else "assistant", self.text) if self.text else None


class Memory:
    """Each change returns what the server is to be told of it."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._made = 0

    def __iter__(self) -> Iterator[Part]:
        return iter(self._parts)

    # --- what joins it ----------------------------------------------------------------------------------------------

    def add(self, told: ChatItem) -> list[Outgoing]:
        """Something that the model neither heard nor said. Without words it is nothing."""
        if isinstance(told, Message) and not told.text:
            return []
        part = Part("told", _key(told), self._new_id(), item=told)
        self._parts.append(part)
        return [create(item(told, item_id=part.id))]

    def join(self, part: Part) -> None:
        """An utterance, or a piece of a response, that the server has taken into its own."""
        self._parts.append(part)
        kept = 0
        for known in reversed(self._parts):
            kept += len(known.audio)
            if kept > KEPT_SOUND:
                known.audio = b""

    def worded(self, item_id: str, text: str) -> None:
        """The words of an utterance are known; if there are none, there is nothing to tell again."""
        part = self._find(item_id)
        if part is not None and part.kind == "heard":
            part.text, part.audio = text, b""

    # --- what leaves it ---------------------------------------------------------------------------------------------

    def settle(self, response: str) -> list[Outgoing]:
        """A response broke off: what was not handed on of it is forgotten."""
        events: list[Outgoing] = []
        for part in self._of(response):
            if part.kind == "told":
                if not part.kept:
                    events += self._forget(part)
            elif not part.samples and not part.text:
                events += self._forget(part)
            elif part.sounding:
                events += self._cut(part, part.samples, part.text)
            else:
                events += self._reword(part, part.text)
        return events

    def truncate(self, response: str, *, seconds: float, text: str) -> list[Outgoing]:
        """A response was heard only so far. Its tool calls stay."""
        parts = [part for part in self._of(response) if part.kind == "said"]
        sounds, left = any(part.samples for part in parts), round(seconds * RATE)
        events: list[Outgoing] = []
        for part in parts:
            words, text = _shared(part.text, text)
            heard, left = min(left, part.samples), max(0, left - part.samples)
            if not sounds:
                events += self._reword(part, words)
            elif heard < part.samples or words != part.text:
                events += self._cut(part, heard, words) if part.sounding else self._reword(part, words if heard else "")
        return events

    def replace(self, context: ChatContext) -> list[Outgoing]:
        """Another conversation takes the place of all of it."""
        events = [event for part in list(self._parts) for event in self._forget(part)]
        for told in context:
            events += self.add(told)
        return events

    def forget(self, response: str) -> list[Outgoing]:
        """A whole response, with its tool calls."""
        return [event for part in self._of(response) for event in self._forget(part)]

    # --- another connection -----------------------------------------------------------------------------------------

    def retell(self) -> Iterator[Outgoing | Part]:
        """All of it, for a server that knows nothing: events, and the utterances that have to be heard again.

        Those leave the memory: they join it when the server has heard them.
        """
        parts, self._parts = self._parts, []
        for part in parts:
            if part.audio:
                part.id = ""
                yield part
                continue
            content = part.content()
            if content is None:
                continue
            part.id, part.sounding, part.made_text = self._new_id(), False, part.text
            self._parts.append(part)
            yield create(item(content, item_id=part.id))

    # --- pieces -----------------------------------------------------------------------------------------------------

    def _cut(self, part: Part, samples: int, text: str) -> list[Outgoing]:
        """Shorten a part that sounds."""
        if samples < SAMPLES_PER_MS:
            return self._forget(part)
        part.samples, part.text = samples, text
        if samples >= part.made:
            return []
        part.made = samples
        end = samples // SAMPLES_PER_MS
        event = {"item_id": part.id, "content_index": part.index, "audio_end_ms": end}
        return [{"type": "conversation.item.truncate", **event}]

    def _reword(self, part: Part, text: str) -> list[Outgoing]:
        """Put other words into the place of a part that is text."""
        if text == part.made_text:
            return []
        if not text:
            return self._forget(part)
        place = self._parts.index(part)
        before = self._parts[place - 1].id if place else "root"
        old, part.id, part.text, part.made_text = part.id, self._new_id(), text, text
        created = create(item(Message(part.key, "assistant", text), item_id=part.id), after=before)
        return [created, _delete(old)]

    def _forget(self, part: Part) -> list[Outgoing]:
        self._parts.remove(part)
        return [_delete(part.id)]

    def _of(self, response: str) -> list[Part]:
        return [part for part in self._parts if part.key == response]

    def _find(self, item_id: str) -> Part | None:
        return next((part for part in self._parts if part.id == item_id), None)

    def _new_id(self) -> str:
        self._made += 1
        return f"greenroom_{self._made}"


def _delete(item_id: str) -> Outgoing:
    return {"type": "conversation.item.delete", "item_id": item_id}


def _shared(made: str, heard: str) -> tuple[str, str]:
    """Which words of a part are among those that were heard of a whole response, and the words of the parts after."""
    if made and heard.startswith(made.strip()):
        return made, heard[len(made.strip()) :].lstrip()
    return heard, ""


def _key(told: ChatItem) -> str:
    if isinstance(told, FunctionCall):
        return f"call {told.call_id}"
    return f"output {told.call_id}" if isinstance(told, FunctionCallOutput) else told.id
