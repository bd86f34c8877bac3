"""Deepgram's messages on the wire: ``wss://.../v1/listen``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

__all__ = [
    "CLOSE",
    "FINALIZE",
    "KEEP_ALIVE",
    "Failure",
    "Malformed",
    "Results",
    "UtteranceEnd",
    "Word",
    "decode",
]

KEEP_ALIVE: Final = '{"type":"KeepAlive"}'
"""Keeps a connection on which no audio is sent; Deepgram closes one that is silent for 10 seconds."""
FINALIZE: Final = '{"type":"Finalize"}'
"""All audio so far is to become final words now."""
CLOSE: Final = '{"type":"CloseStream"}'
"""No more will come."""

Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=1e7)]


class Malformed(Exception):
    """Not a message of this protocol."""


class Word(Struct, frozen=True):
    """``start`` and ``end``: seconds of the audio that was sent on this connection."""

    start: Seconds
    end: Seconds
    word: str = ""
    punctuated_word: str = ""

    @property
    def text(self) -> str:
        return self.punctuated_word or self.word


class Alternative(Struct, frozen=True):
    transcript: str = ""
    confidence: float = 0.0
    words: list[Word] = []
    languages: list[str] = []


class Channel(Struct, frozen=True):
    alternatives: list[Alternative] = []


class Results(Struct, frozen=True, tag_field="type", tag="Results"):
    """What was heard in ``duration`` seconds from ``start`` on, of the audio sent on this connection.

    ``is_final``: it will not change. ``speech_final``: a pause follows. ``from_finalize``: it answers ``FINALIZE``.
    """

    start: Seconds
    duration: Seconds
    channel: Channel
    is_final: bool | None = None
    speech_final: bool | None = None
    from_finalize: bool | None = None

    @property
    def heard(self) -> Alternative:
        return self.channel.alternatives[0] if self.channel.alternatives else Alternative()


class UtteranceEnd(Struct, frozen=True, tag_field="type", tag="UtteranceEnd"):
    """No word has come for as long as was asked for: the user has finished."""


class Failure(Struct, frozen=True, tag_field="type", tag="Error"):
    """Deepgram did not understand something, or fails."""

    variant: str = ""
    description: str = ""
    message: str = ""


class _Kind(Struct, frozen=True):
    type: str


_kinds = msgspec.json.Decoder(_Kind)
_decoders: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    "Results": msgspec.json.Decoder(Results),
    "UtteranceEnd": msgspec.json.Decoder(UtteranceEnd),
    "Error": msgspec.json.Decoder(Failure),
}


def decode(message: str | bytes) -> Results | UtteranceEnd | Failure | None:
    """The message, or ``None`` for one of a kind that is of no use here. Raises ``Malformed``."""
    if isinstance(message, bytes):
        raise Malformed(f"{len(message)} bytes that are no text")
    try:
        decoder = _decoders.get(_kinds.decode(message).type)
        known: Results | UtteranceEnd | Failure | None = decoder.decode(message) if decoder is not None else None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Malformed(str(error)) from error
    return known
