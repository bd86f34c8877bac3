"""What the daemon and a job's process say to each other, and how it is framed.

A unix stream socket in the run directory; the child dials. A frame is a 4-byte big-endian length and one MessagePack
map whose ``type`` names the message. Unknown fields are ignored, so that a daemon and the jobs of another version
understand each other; an unknown type, a frame over ``MAX_FRAME`` or one that does not decode ends the connection
with ``BadFrame``.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

import msgspec
from msgspec import Struct

from greenroom.errors import GreenroomError

__all__ = [
    "MAX_FRAME",
    "BadFrame",
    "Boot",
    "BootFailure",
    "ChildMessage",
    "DaemonMessage",
    "EndJob",
    "Ended",
    "Frames",
    "Hello",
    "JobInfo",
    "Joined",
    "Leaving",
    "MayLeave",
    "Ping",
    "Pong",
    "Ready",
    "StartJob",
    "encode",
]

MAX_FRAME = 16 * 1024 * 1024
_LENGTH = struct.Struct(">I")


class BadFrame(GreenroomError):
    """The other side sent bytes that are not one of our messages."""


class JobInfo(Struct, frozen=True, kw_only=True):
    """One dispatched job, as the child needs it. ``token`` is a secret: this struct is never logged whole."""

    id: str
    room: str
    room_sid: str
    agent_name: str
    url: str
    token: str
    identity: str
    job_type: str = "room"
    metadata: str = ""
    dispatch_id: str = ""
    participant: str = ""
    attributes: dict[str, str] = {}
    worker_id: str = ""

    def __repr__(self) -> str:
        return f"JobInfo(id={self.id!r}, room={self.room!r}, agent_name={self.agent_name!r})"


class Boot(Struct, frozen=True, tag=True):
    """Daemon: load what the agent needs. ``settings`` is ``Settings.encode()``; ``agent`` the agent's name in it."""

    settings: bytes
    agent: str


class StartJob(Struct, frozen=True, tag=True):
    """Daemon: this is your job."""

    job: JobInfo


class EndJob(Struct, frozen=True, tag=True):
    """Daemon: end the call, or leave if there is none. ``grace`` seconds are left for it."""

    reason: str
    grace: float


class MayLeave(Struct, frozen=True, tag=True):
    """Daemon: the server knows the outcome; leave the room."""


class Ping(Struct, frozen=True, tag=True):
    """Daemon: answer with the same number, from the loop that carries the audio."""

    n: int


class Hello(Struct, frozen=True, tag=True):
    """Child, on each dial: who is here. ``job``: the one it serves, for a daemon that has to adopt it."""

    slot: str
    pid: int
    version: str
    job: JobInfo | None = None


class Ready(Struct, frozen=True, tag=True):
    """Child: warm. ``seconds``: how long the boot took."""

    seconds: float


class BootFailure(Struct, frozen=True, tag=True):
    """Child: cannot serve this agent. It exits after this."""

    error: str


class Pong(Struct, frozen=True, tag=True):
    n: int


class Joined(Struct, frozen=True, tag=True):
    """Child: in the room. ``seconds``: from the assignment's arrival in the child."""

    seconds: float


class Leaving(Struct, frozen=True, tag=True):
    """Child: the call is over; tell the server before I leave. ``error`` is empty for success."""

    reason: str
    error: str = ""


class Ended(Struct, frozen=True, tag=True):
    """Child: out of the room, about to exit."""


DaemonMessage: TypeAlias = Boot | StartJob | EndJob | MayLeave | Ping
ChildMessage: TypeAlias = Hello | Ready | BootFailure | Pong | Joined | Leaving | Ended

_encoder = msgspec.msgpack.Encoder()


def encode(message: DaemonMessage | ChildMessage) -> bytes:
    """One frame."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts a byte stream into messages of one direction. No I/O: bytes in, messages out."""

    def __init__(self, kind: type[DaemonMessage] | type[ChildMessage]) -> None:
        self._decoder: msgspec.msgpack.Decoder[DaemonMessage | ChildMessage] = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[DaemonMessage | ChildMessage]:
        """Take bytes as they came; return the messages that they complete. Raises ``BadFrame``."""
        self._buffer += data
        messages: list[DaemonMessage | ChildMessage] = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME:
                raise BadFrame(f"a frame of {length} bytes; expected at most {MAX_FRAME}")
            if len(self._buffer) < _LENGTH.size + length:
                break
            body = bytes(self._buffer[_LENGTH.size : _LENGTH.size + length])
            del self._buffer[: _LENGTH.size + length]
            try:
                messages.append(self._decoder.decode(body))
            except msgspec.MsgspecError as error:
                raise BadFrame(f"a frame that is no message: {error}") from error
        return messages
