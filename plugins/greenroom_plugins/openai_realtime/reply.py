"""One response while it is made: what came of it, what was handed on, and when nothing more can come. No I/O."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np

from greenroom.audio import AudioFrame, Pcm
from greenroom.dialog.history import FunctionCall
from greenroom.errors import ProviderError
from greenroom.providers import TextDelta, ToolCall, Usage
from greenroom.providers.realtime import RealtimeChunk
from greenroom_plugins.openai_realtime import wire
from greenroom_plugins.openai_realtime.link import failure_of
from greenroom_plugins.openai_realtime.memory import Memory, Part
from greenroom_plugins.openai_realtime.options import NAME
from greenroom_plugins.openai_realtime.wire import RATE, Outgoing

__all__ = ["Piece", "Reply"]


@dataclass(frozen=True, slots=True)
class Piece:
    """What the reader of a response gets next: a chunk of a part, or its end, by an ``error`` or well."""

    chunk: RealtimeChunk | None = None
    part: Part | None = None
    error: ProviderError | None = None


@dataclass(slots=True, eq=False)
class Reply:
    """``key``: the session's name for it; ``event_id``: of our request; ``id``: the server's, once it has begun.

    ``begun``: something of it was handed on. ``over``: the server makes no more of it, or (``lost``) the connection is
    gone. ``left``: nobody reads it any
    more. ``settled``: over and left, and the memory is what was handed on, or less.
    """

    key: str
    memory: Memory
    event_id: str = ""
    id: str = ""
    begun: bool = False
    over: bool = False
    lost: bool = False
    left: bool = False
    forgotten: bool = False
    cut: tuple[float, str] | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    pieces: asyncio.Queue[Piece] = field(default_factory=asyncio.Queue)
    timer: asyncio.TimerHandle | None = None
    _parts: dict[str, Part] = field(default_factory=dict)
    _odd: dict[str, bytes] = field(default_factory=dict)

    # --- from the server --------------------------------------------------------------------------------------------

    def started(self, item: wire.Item) -> None:
        """An item of it has begun; the server's memory has it."""
        if item.id in self._parts or item.type not in ("message", "function_call"):
            return
        call = item.type == "function_call"
        part = self._parts[item.id] = Part("told" if call else "said", self.key, item.id, kept=not call)
        self.memory.join(part)

    def worded(self, event: wire.TextDelta) -> None:
        part = self._part(event.item_id)
        part.made_text += event.delta
        self._hand(TextDelta(event.delta), part)

    def sounded(self, event: wire.AudioDelta) -> None:
        part = self._part(event.item_id)
        data = self._odd.pop(part.id, b"") + event.delta
        if len(data) % 2:
            self._odd[part.id], data = data[-1:], data[:-1]
        pcm: Pcm = np.frombuffer(data, dtype="<i2").astype(np.int16)
        part.made += len(pcm)
        part.index, part.sounding = event.content_index, True
        if len(pcm):
            self._hand(AudioFrame(pcm, RATE), part)

    def called(self, item: wire.Item) -> None:
        """A tool call is whole."""
        self.started(item)
        part = self._parts.get(item.id)
        if item.type != "function_call" or part is None or part.item is not None:
            return
        call_id, name, arguments = item.call_id or item.id, item.name or "", item.arguments or "{}"
        part.item = FunctionCall(item.id, call_id, name, arguments)
        self._hand(ToolCall(call_id, name, arguments), part)

    def done(self, response: wire.Response) -> None:
        """The server makes no more of it."""
        for item in response.output:
            self.called(item)
        usage = response.usage
        if usage is not None and usage.input_tokens is not None and usage.output_tokens is not None:
            self.pieces.put_nowait(Piece(Usage(usage.input_tokens, usage.output_tokens)))
        self.end(_why(response))

    def end(self, error: ProviderError | None = None) -> None:
        if not self.over:
            self.over = True
            self.pieces.put_nowait(Piece(error=error))

    # --- to the session ---------------------------------------------------------------------------------------------

    def hand_on(self, piece: Piece) -> None:
        """The reader is about to have it: it is part of what was said."""
        part, chunk = piece.part, piece.chunk
        if part is None:
            return
        self.begun = True
        if isinstance(chunk, TextDelta):
            part.text += chunk.text
        elif isinstance(chunk, AudioFrame):
            part.samples += len(chunk.pcm)
        else:
            part.kept = True

    def settle(self) -> list[Outgoing]:
        """It is over and nobody reads it: what the server is to be told of its memory."""
        if self.settled.is_set() or not (self.over and self.left):
            return []
        self.settled.set()
        if self.timer is not None:
            self.timer.cancel()
        if self.forgotten:
            return self.memory.forget(self.key)
        events = self.memory.settle(self.key)
        if self.cut is not None:
            events += self.memory.truncate(self.key, seconds=self.cut[0], text=self.cut[1])
        return events

    # --- pieces -----------------------------------------------------------------------------------------------------

    def _part(self, item_id: str) -> Part:
        self.started(wire.Item(id=item_id))
        return self._parts[item_id]

    def _hand(self, chunk: RealtimeChunk, part: Part) -> None:
        if not self.left:
            self.pieces.put_nowait(Piece(chunk, part))


def _why(response: wire.Response) -> ProviderError | None:
    """What went wrong with a response that is done; ``None`` where nothing did, or it is merely shorter."""
    details = response.status_details
    if response.status == "failed":
        return failure_of((details.error if details is not None else None) or wire.Fault(message="the response failed"))
    if response.status == "cancelled":
        return ProviderError("the server cancelled the response", provider=NAME, retryable=True)
    if response.status == "incomplete" and details is not None and details.reason == "content_filter":
        return ProviderError("the response was stopped by the content filter", provider=NAME)
    return None
