"""The protocol's words: what the server says as structs, what it is told as mappings. No I/O.

Events that nobody here needs are ``None``; one that is no JSON, or not what its type says, raises ``Malformed``. Two
names of an event stand for its general form and for the preview's, which many servers still speak.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from greenroom.dialog.history import ChatItem, FunctionCall, FunctionCallOutput
from greenroom.providers import ToolSchema
from greenroom_plugins.openai_realtime.options import OpenAIRealtimeOptions, ServerVAD

__all__ = [
    "RATE",
    "AudioDelta",
    "Committed",
    "ErrorEvent",
    "Fault",
    "Item",
    "ItemDone",
    "ItemStarted",
    "Malformed",
    "Outgoing",
    "Response",
    "ResponseCreated",
    "ResponseDone",
    "ServerEvent",
    "SessionCreated",
    "SessionUpdated",
    "TextDelta",
    "TranscriptDelta",
    "TranscriptDone",
    "TranscriptFailed",
    "VoiceStarted",
    "VoiceStopped",
    "append",
    "audio_settings",
    "create",
    "decode",
    "encode",
    "functions",
    "item",
]

RATE = 24_000
"""Hz, of all sound in both directions."""
Outgoing: TypeAlias = dict[str, Any]
"""An event for the server."""


class Malformed(ValueError):
    """The server said something that is not the protocol."""


class Fault(Struct, frozen=True):
    """What the server says went wrong. ``event_id``: of our event that it is about."""

    message: str | None = None
    type: str | None = None
    code: str | None = None
    event_id: str | None = None


class Item(Struct, frozen=True):
    """A part of the server's memory."""

    id: str = ""
    type: str = "message"
    role: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None


class StatusDetails(Struct, frozen=True):
    reason: str | None = None
    error: Fault | None = None


class Tokens(Struct, frozen=True):
    input_tokens: int | None = None
    output_tokens: int | None = None


class Response(Struct, frozen=True):
    """An answer. ``metadata``: what it was asked for with, where the server gives that back."""

    id: str = ""
    status: str = ""
    status_details: StatusDetails | None = None
    metadata: dict[str, Any] | None = None
    output: list[Item] = []
    usage: Tokens | None = None


class SessionCreated(Struct, frozen=True):
    """The server listens."""


class SessionUpdated(Struct, frozen=True):
    """It has taken what it was told of the session."""


class ErrorEvent(Struct, frozen=True):
    error: Fault


class VoiceStarted(Struct, frozen=True):
    """``audio_start_ms``: of all audio that the connection has carried; with the padding before the voice."""

    item_id: str
    audio_start_ms: float


class VoiceStopped(Struct, frozen=True):
    """``audio_end_ms``: likewise; with the silence after the voice."""

    item_id: str
    audio_end_ms: float


class Committed(Struct, frozen=True):
    """The audio so far has become an item."""

    item_id: str


class TranscriptDelta(Struct, frozen=True):
    """More of what the user said."""

    item_id: str
    delta: str = ""


class TranscriptDone(Struct, frozen=True):
    """All that the user said."""

    item_id: str
    transcript: str = ""


class TranscriptFailed(Struct, frozen=True):
    item_id: str
    error: Fault = Fault()


class ResponseCreated(Struct, frozen=True):
    response: Response


class ResponseDone(Struct, frozen=True):
    response: Response


class ItemStarted(Struct, frozen=True):
    """A response has begun with an item."""

    item: Item
    response_id: str = ""


class ItemDone(Struct, frozen=True):
    """A response has made an item."""

    item: Item
    response_id: str = ""


class TextDelta(Struct, frozen=True):
    """More words of a response, spoken or written."""

    item_id: str
    delta: str = ""
    response_id: str = ""


class AudioDelta(Struct, frozen=True):
    """More sound of a response: base64 of 16-bit PCM."""

    item_id: str
    delta: bytes = b""
    content_index: int = 0
    response_id: str = ""


ServerEvent: TypeAlias = (
    SessionCreated
    | SessionUpdated
    | ErrorEvent
    | VoiceStarted
    | VoiceStopped
    | Committed
    | TranscriptDelta
    | TranscriptDone
    | TranscriptFailed
    | ResponseCreated
    | ResponseDone
    | ItemStarted
    | ItemDone
    | TextDelta
    | AudioDelta
)

_EVENTS: Mapping[str, type[ServerEvent]] = {
    "session.created": SessionCreated,
    "session.updated": SessionUpdated,
    "error": ErrorEvent,
    "input_audio_buffer.speech_started": VoiceStarted,
    "input_audio_buffer.speech_stopped": VoiceStopped,
    "input_audio_buffer.committed": Committed,
    "conversation.item.input_audio_transcription.delta": TranscriptDelta,
    "conversation.item.input_audio_transcription.completed": TranscriptDone,
    "conversation.item.input_audio_transcription.failed": TranscriptFailed,
    "response.created": ResponseCreated,
    "response.done": ResponseDone,
    "response.output_item.added": ItemStarted,
    "response.output_item.done": ItemDone,
    "response.output_text.delta": TextDelta,
    "response.text.delta": TextDelta,
    "response.output_audio_transcript.delta": TextDelta,
    "response.audio_transcript.delta": TextDelta,
    "response.output_audio.delta": AudioDelta,
    "response.audio.delta": AudioDelta,
}


class _Envelope(Struct, frozen=True):
    type: str


_envelope = msgspec.json.Decoder(_Envelope)
_decoders = {kind: msgspec.json.Decoder(kind) for kind in set(_EVENTS.values())}
_encoder = msgspec.json.Encoder()


def decode(data: str | bytes) -> ServerEvent | None:
    """An event of the server, or ``None`` for one that nobody here needs. Raises ``Malformed``."""
    try:
        kind = _EVENTS.get(_envelope.decode(data).type)
        return _decoders[kind].decode(data) if kind is not None else None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Malformed(str(error)) from None


def encode(event: Outgoing) -> str:
    return _encoder.encode(event).decode()


# --- what the server is told ----------------------------------------------------------------------------------------


def append(pcm: bytes) -> Outgoing:
    """More of the user's audio."""
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()}


def create(given: Outgoing, *, after: str = "") -> Outgoing:
    """An item joins the memory: at its end, or after the item of that id."""
    event = {"type": "conversation.item.create", "item": given}
    return event | {"previous_item_id": after} if after else event


def item(told: ChatItem, *, item_id: str = "") -> Outgoing:
    """A part of a conversation as the protocol has it."""
    given: Outgoing = {"id": item_id} if item_id else {}
    if isinstance(told, FunctionCall):
        call = {"call_id": told.call_id, "name": told.name, "arguments": told.arguments}
        return given | {"type": "function_call", **call}
    if isinstance(told, FunctionCallOutput):
        return given | {"type": "function_call_output", "call_id": told.call_id, "output": told.output}
    kind = "output_text" if told.role == "assistant" else "input_text"
    return given | {"type": "message", "role": told.role, "content": [{"type": kind, "text": told.text}]}


def functions(tools: Sequence[ToolSchema]) -> list[Outgoing]:
    """Tools as the protocol has them."""
    return [
        {"type": "function", "name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
        for tool in tools
    ]


def audio_settings(options: OpenAIRealtimeOptions, *, detect_speech: bool) -> Outgoing:
    """What a session is told that does not change in a conversation.

    The model neither answers nor falls silent by itself: the session decides that.
    """
    heard: Outgoing = {
        "format": {"type": "audio/pcm", "rate": RATE},
        "transcription": _transcription(options),
        "noise_reduction": {"type": options.noise_reduction} if options.noise_reduction else None,
        "turn_detection": _turn_detection(options) if detect_speech else None,
    }
    told: Outgoing = {"type": "realtime", "output_modalities": [options.output], "audio": {"input": heard}}
    if options.output == "audio":
        spoken: Outgoing = {"format": {"type": "audio/pcm", "rate": RATE}, "voice": options.voice}
        told["audio"]["output"] = spoken | ({"speed": options.speed} if options.speed != 1.0 else {})
    if options.max_output_tokens is not None:
        told["max_output_tokens"] = options.max_output_tokens
    return _laid_over(told, options.session)


def _transcription(options: OpenAIRealtimeOptions) -> Outgoing | None:
    if options.transcription is None:
        return None
    return {key: value for key, value in msgspec.to_builtins(options.transcription).items() if value}


def _turn_detection(options: OpenAIRealtimeOptions) -> Outgoing:
    given, ours = options.turn_detection, {"create_response": False, "interrupt_response": False}
    if isinstance(given, ServerVAD):
        lengths = {"prefix_padding_ms": round(1000 * given.padding), "silence_duration_ms": round(1000 * given.silence)}
        return {"type": "server_vad", "threshold": given.threshold, **lengths, **ours}
    return {"type": "semantic_vad", "eagerness": given.eagerness, **ours}


def _laid_over(under: Outgoing, over: Mapping[str, Any]) -> Outgoing:
    """``over`` goes before, mapping by mapping."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _laid_over(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged
