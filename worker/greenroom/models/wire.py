"""What a job's process and the model host say to each other, and what the host and the daemon do.

A job dials the host's unix socket. A frame is a 4-byte big-endian length and one MessagePack map whose ``type`` names
the message; sound is 16-bit PCM inside it. As on the jobs' own line, unknown fields are ignored, so that a job and a
host of another version understand each other; what is no message ends the connection.

One connection carries all requests of a process, each under a number of its own: ``Ask``, then ``Begun``, any count of
``Piece``, and ``Done`` or ``Failed``. ``Cancel`` may come at any time and is not answered.

The daemon and its host speak over a socket pair that keeps the borders of messages (SOCK_SEQPACKET): one map each.
"""

from __future__ import annotations

import struct
from types import UnionType
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from greenroom.errors import GreenroomError

__all__ = [
    "MAX_FRAME",
    "MAX_NOTICE",
    "Ask",
    "BadFrame",
    "Begun",
    "Cancel",
    "ClientMessage",
    "Counted",
    "Done",
    "Failed",
    "Frames",
    "Greeting",
    "Held",
    "Holding",
    "HostMessage",
    "HostNotice",
    "HostOrder",
    "Item",
    "Judge",
    "Keep",
    "Likelihood",
    "Loaded",
    "Piece",
    "Ping",
    "Pong",
    "Recognize",
    "Said",
    "Sound",
    "Speak",
    "Task",
    "Unneeded",
    "Use",
    "Wanted",
    "Words",
    "encode",
    "pack",
    "unpack_notice",
    "unpack_order",
]

MAX_FRAME = 64 * 1024 * 1024
"""Bytes: half an hour of speech."""
MAX_NOTICE = 131_072
"""Bytes of one message between the daemon and its host."""
_LENGTH = struct.Struct(">I")
_LONGEST_REASON = 200
"""Of a decoder's error, which may quote the frame."""


class BadFrame(GreenroomError):
    """The other side sent bytes that are not one of our messages."""


# --- what is asked for, and what comes of it --------------------------------------------------------------------------


class Recognize(Struct, frozen=True, tag=True):
    """One utterance, to be transcribed: comes back as one ``Words``."""

    pcm: bytes
    sample_rate: int


class Speak(Struct, frozen=True, tag=True):
    """One sentence, to be spoken: comes back as any count of ``Sound``."""

    sentence: str


class Said(Struct, frozen=True):
    """One item of a conversation: the name of its class in ``dialog.history``, and its fields."""

    what: str
    fields: dict[str, Any]


class Judge(Struct, frozen=True, tag=True):
    """A pause: is the user done? Comes back as one ``Likelihood``. ``pcm`` is ``None`` where words are judged by."""

    context: tuple[Said, ...] = ()
    text: str = ""
    language: str = ""
    pcm: bytes | None = None
    sample_rate: int = 0


Task: TypeAlias = Recognize | Speak | Judge


class Words(Struct, frozen=True, tag=True):
    """A transcript."""

    text: str
    language: str = ""
    confidence: float | None = None


class Sound(Struct, frozen=True, tag=True):
    """A piece of speech."""

    pcm: bytes
    sample_rate: int


class Likelihood(Struct, frozen=True, tag=True):
    """That the user is done, 0..1."""

    value: float


Item: TypeAlias = Words | Sound | Likelihood


# --- a job's process and the host -------------------------------------------------------------------------------------


class Use(Struct, frozen=True, tag=True):
    """Job: from now on I mean this model by ``model``, a number of my own. The host loads it; ``Loaded`` tells when."""

    model: int
    kind: str
    plugin: str
    options: dict[str, Any] = {}

    def __repr__(self) -> str:
        # Options may hold a vendor's key.
        return f"Use(model={self.model!r}, kind={self.kind!r}, plugin={self.plugin!r})"


class Ask(Struct, frozen=True, tag=True):
    """Job: request ``n``. ``again``: it was under way in a host that died, perhaps of it."""

    n: int
    model: int
    task: Task
    again: bool = False


class Cancel(Struct, frozen=True, tag=True):
    """Job: nobody wants the answer to ``n`` any more."""

    n: int


class Greeting(Struct, frozen=True, tag=True):
    """Host, first: it runs, and has taken the connection."""

    version: str


class Loaded(Struct, frozen=True, tag=True):
    """Host: the model is there. With an ``error`` it is not, and cannot be; ``retryable`` as of ``ProviderError``."""

    model: int
    error: str = ""
    retryable: bool = False


class Begun(Struct, frozen=True, tag=True):
    """Host: request ``n`` has had its turn, and is worked on."""

    n: int


class Piece(Struct, frozen=True, tag=True):
    n: int
    item: Item


class Done(Struct, frozen=True, tag=True):
    """Host: request ``n`` is answered."""

    n: int


class Failed(Struct, frozen=True, tag=True):
    """Host: request ``n`` failed."""

    n: int
    error: str
    retryable: bool = False


ClientMessage: TypeAlias = Use | Ask | Cancel
HostMessage: TypeAlias = Greeting | Loaded | Begun | Piece | Done | Failed

Received = TypeVar("Received")
_encoder = msgspec.msgpack.Encoder()


def encode(message: ClientMessage | HostMessage) -> bytes:
    """One frame."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class Frames(Generic[Received]):
    """Cuts a byte stream into messages of one direction. No I/O: bytes in, messages out.

    ``kind`` is ``ClientMessage`` or ``HostMessage``: what the other side may send.
    """

    def __init__(self, kind: UnionType) -> None:
        self._decoder: msgspec.msgpack.Decoder[Received] = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Received]:
        """Take bytes as they came; return the messages that they complete. Raises ``BadFrame``."""
        self._buffer += data
        messages: list[Received] = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME:
                raise BadFrame(f"a frame of {length} bytes; expected at most {MAX_FRAME}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            try:
                messages.append(self._decoder.decode(body))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise BadFrame(f"a frame that is no message: {str(error)[:_LONGEST_REASON]}") from None
        return messages


# --- the daemon and its host ------------------------------------------------------------------------------------------


class Wanted(Struct, frozen=True):
    """A model of the settings. ``always``: they say that it is shared; else its plugin does, or does not."""

    kind: str
    plugin: str
    options: dict[str, Any] = {}
    always: bool = False

    def __repr__(self) -> str:
        return f"Wanted(kind={self.kind!r}, plugin={self.plugin!r})"


class Keep(Struct, frozen=True, tag=True):
    """Daemon: hold these models, used or not, as far as they are to be shared; let go of others once they are not used.

    ``threads``: requests at once for each; 0: the host's own choice. ``level`` and ``format``: of the log.
    """

    models: tuple[Wanted, ...]
    threads: int = 0
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Ping(Struct, frozen=True, tag=True):
    """Daemon: answer with the same number, from the loop that serves the jobs."""

    n: int


class Pong(Struct, frozen=True, tag=True):
    n: int


class Held(Struct, frozen=True):
    """A model that the host has. ``seconds``: it took to load. ``users``: processes that use it now."""

    kind: str
    plugin: str
    users: int = 0
    seconds: float = 0.0


class Holding(Struct, frozen=True, tag=True):
    """Host: the models that it has now; ``ready``: all that it is to keep are there, or cannot be."""

    models: tuple[Held, ...]
    ready: bool


class Unneeded(Struct, frozen=True, tag=True):
    """Host: of what it is to keep nothing is to be shared. It exits after this."""


class Counted(Struct, frozen=True, tag=True):
    """Host: what it has done since it last said so. ``requests``: kind, plugin, outcome and how many; ``seconds``:
    kind, plugin, what (``wait`` for a free thread, ``work``) and how long, of one request each."""

    requests: tuple[tuple[str, str, str, int], ...] = ()
    seconds: tuple[tuple[str, str, str, float], ...] = ()


HostOrder: TypeAlias = Keep | Ping
HostNotice: TypeAlias = Holding | Unneeded | Pong | Counted

_order_decoder: msgspec.msgpack.Decoder[HostOrder] = msgspec.msgpack.Decoder(HostOrder)
_notice_decoder: msgspec.msgpack.Decoder[HostNotice] = msgspec.msgpack.Decoder(HostNotice)


def pack(message: HostOrder | HostNotice) -> bytes:
    """One message to or from the host."""
    return _encoder.encode(message)


def unpack_order(data: bytes) -> HostOrder:
    return _order_decoder.decode(data)


def unpack_notice(data: bytes) -> HostNotice:
    return _notice_decoder.decode(data)
