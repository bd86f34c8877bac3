"""Cartesia's messages on the wire: ``wss://.../tts/websocket``."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct

from greenroom.audio import Pcm

__all__ = ["Chunk", "Done", "Failure", "Malformed", "Timestamps", "WordTimestamps", "cancel", "decode", "say"]


class Malformed(Exception):
    """Not a message of this protocol."""


class Chunk(Struct, frozen=True, tag_field="type", tag="chunk"):
    """``data``: PCM, in base64."""

    context_id: str
    data: str

    @property
    def pcm(self) -> Pcm:
        """Raises ``Malformed``."""
        try:
            raw = base64.b64decode(self.data, validate=True)
        except binascii.Error as error:
            raise Malformed(f"audio that is no base64 ({error})") from error
        if len(raw) % 2:
            raise Malformed(f"{len(raw)} bytes of audio, which are no whole samples")
        return np.frombuffer(raw, dtype="<i2").astype(np.int16, copy=False)


class WordTimestamps(Struct, frozen=True):
    """The words, and when each begins and ends: seconds from the beginning of the context's audio."""

    words: list[str] = []
    start: list[Annotated[float, Meta(ge=0, le=1e6)]] = []
    end: list[Annotated[float, Meta(ge=0, le=1e6)]] = []


class Timestamps(Struct, frozen=True, tag_field="type", tag="timestamps"):
    context_id: str
    word_timestamps: WordTimestamps = WordTimestamps()


class Done(Struct, frozen=True, tag_field="type", tag="done"):
    """All that was asked for in a context has been sent."""

    context_id: str


class Failure(Struct, frozen=True, tag_field="type", tag="error"):
    """``error``: how older versions of the protocol tell what ``title`` and ``message`` do."""

    context_id: str | None = None
    status_code: int = 500
    title: str = ""
    message: str = ""
    error: str = ""

    @property
    def said(self) -> str:
        return ": ".join(part for part in (self.title, self.message) if part) or self.error


class _Kind(Struct, frozen=True):
    type: str


_kinds = msgspec.json.Decoder(_Kind)
_decoders: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    "chunk": msgspec.json.Decoder(Chunk),
    "timestamps": msgspec.json.Decoder(Timestamps),
    "done": msgspec.json.Decoder(Done),
    "error": msgspec.json.Decoder(Failure),
}


def decode(message: str | bytes) -> Chunk | Timestamps | Done | Failure | None:
    """The message, or ``None`` for one of a kind that is of no use here. Raises ``Malformed``."""
    try:
        decoder = _decoders.get(_kinds.decode(message).type)
        known: Chunk | Timestamps | Done | Failure | None = decoder.decode(message) if decoder is not None else None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Malformed(str(error)) from error
    return known


def say(text: str, *, context: str, request: Mapping[str, Any], more: bool) -> str:
    """Text for a context. ``more``: further text may follow."""
    return json.dumps({**request, "context_id": context, "transcript": text, "continue": more}, ensure_ascii=False)


def cancel(context: str) -> str:
    """Nothing more is wanted of a context."""
    return json.dumps({"context_id": context, "cancel": True})
