"""What the daemon and a job's process say to each other, and how it is framed.

A unix stream socket in the run directory; the child dials. A frame is a 4-byte big-endian length and one MessagePack
map whose ``type`` names the message. Unknown fields are ignored, so that a daemon and the jobs of another version
understand each other; an unknown type, a frame over ``MAX_FRAME`` or one that does not decode ends the connection
with ``BadFrame``.

The daemon and its fork server speak over a socket pair that keeps the borders of messages (SOCK_SEQPACKET): one
MessagePack map each, without a length. They are always of one version.
"""

from __future__ import annotations

import struct
from types import UnionType
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from greenroom.errors import GreenroomError

__all__ = [
    "MAX_FRAME",
    "BadFrame",
    "Boot",
    "BootFailure",
    "ChildExited",
    "ChildMessage",
    "Consider",
    "Considered",
    "DaemonMessage",
    "EndJob",
    "Ended",
    "Fork",
    "ForkFailed",
    "ForkNotice",
    "Forked",
    "Frames",
    "HandedOver",
    "Handover",
    "Hello",
    "JobInfo",
    "Joined",
    "Leaving",
    "MayLeave",
    "Measured",
    "Ping",
    "Pong",
    "Preloaded",
    "Ready",
    "Resume",
    "RoomChanged",
    "StartJob",
    "TakenOver",
    "Threaded",
    "WrapUp",
    "encode",
    "pack",
    "unpack_fork",
    "unpack_notice",
]

MAX_FRAME = 16 * 1024 * 1024
_LENGTH = struct.Struct(">I")
_LONGEST_REASON = 200
"""Of a decoder's error, which may quote the frame."""


class BadFrame(GreenroomError):
    """The other side sent bytes that are not one of our messages."""


class Resume(Struct, frozen=True, kw_only=True):
    """What a process has to know to go on with a call whose process died.

    ``attempt``: 2 for the first that comes back. ``journal``: the path of the dead one's; empty when there is none.
    ``died``: how, for people. ``at``: when, on the monotonic clock. ``farewell``: the call is given up: say so and end.
    """

    attempt: int
    journal: str = ""
    died: str = ""
    at: float = 0.0
    farewell: bool = False


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
    resume: Resume | None = None

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


class WrapUp(Struct, frozen=True, tag=True):
    """Daemon: it drains. The call will be ended in ``seconds``; ``last``: this is the last word before that."""

    seconds: float
    last: bool = False


class Consider(Struct, frozen=True, tag=True):
    """Daemon to a warm process: may this job be taken? ``job`` has neither token nor identity yet."""

    job: JobInfo


class Considered(Struct, frozen=True, tag=True):
    """Child: the agent's ``on_request`` has decided. ``reason``: of a refusal. The rest: how it joins, if not empty."""

    job_id: str
    accepted: bool
    reason: str = ""
    identity: str = ""
    name: str = ""
    metadata: str = ""
    attributes: dict[str, str] = {}


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
    """Child: warm. ``seconds``: how long the boot took; ``considers``: offers are to be put to it (``Consider``)."""

    seconds: float
    considers: bool = False


class BootFailure(Struct, frozen=True, tag=True):
    """Child: cannot serve this agent. It exits after this. ``trace``: where it happened, if the reason is a bug."""

    error: str
    trace: str = ""


class Pong(Struct, frozen=True, tag=True):
    n: int


class Joined(Struct, frozen=True, tag=True):
    """Child: in the room. ``seconds``: from the assignment's arrival in the child. ``journal``: the path of the call's,
    empty while there is none; said again when there is.
    """

    seconds: float
    journal: str = ""


class RoomChanged(Struct, frozen=True, tag=True):
    """Child: its connection to the room. ``sid``: of the room, which a restarted server may give anew."""

    state: Literal["connected", "reconnecting", "rejoining"]
    sid: str = ""


class Measured(Struct, frozen=True, tag=True):
    """Child: what happened since it last said so. Of counters the growth, of histograms the single values.

    Each entry: name, labels as (name, value) pairs, value. The names are those of ``ops.measures``.
    """

    counted: tuple[tuple[str, tuple[tuple[str, str], ...], float], ...] = ()
    observed: tuple[tuple[str, tuple[tuple[str, str], ...], float], ...] = ()


class Leaving(Struct, frozen=True, tag=True):
    """Child: the call is over; tell the server before I leave. ``error`` is empty for success."""

    reason: str
    error: str = ""


class Ended(Struct, frozen=True, tag=True):
    """Child: out of the room, about to exit."""


class Handover(Struct, frozen=True, tag=True):
    """A new daemon to the running one, in place of ``Hello``: let go of the run directory. ``version``: the new's."""

    pid: int
    version: str


class HandedOver(Struct, frozen=True, tag=True):
    """The running daemon to the new one: take the lock and the socket; ``jobs`` calls will dial you."""

    jobs: int


class TakenOver(Struct, frozen=True, tag=True):
    """The new daemon to the running one: the socket is mine; send the calls over. Without it all stays as it was."""


DaemonMessage: TypeAlias = Boot | Consider | StartJob | WrapUp | EndJob | MayLeave | Ping | HandedOver
ChildMessage: TypeAlias = (
    Hello
    | Ready
    | BootFailure
    | Considered
    | Pong
    | Joined
    | RoomChanged
    | Measured
    | Leaving
    | Ended
    | Handover
    | TakenOver
)

_encoder = msgspec.msgpack.Encoder()


def encode(message: DaemonMessage | ChildMessage) -> bytes:
    """One frame."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts a byte stream into messages of one direction. No I/O: bytes in, messages out.

    ``kind`` is ``DaemonMessage`` or ``ChildMessage``: what the other side may send.
    """

    def __init__(self, kind: UnionType) -> None:
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
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                # The latter two come from inside the decoder: of a text that is none, of fields that nest too deeply.
                raise BadFrame(f"a frame that is no message: {str(error)[:_LONGEST_REASON]}") from None
        return messages


class Fork(Struct, frozen=True, tag=True):
    """Daemon to fork server: make a process.

    ``line`` is the path of the socket that it dials, ``runner`` is ``"module:Class"`` of what works in it
    (``child.JobRunner``). Without a job it gives up after ``patience`` seconds without a daemon. ``via``: where a
    daemon listens that has not taken the run directory over yet; tried first.
    """

    slot: str
    line: str
    runner: str
    patience: float
    via: str = ""


class Preloaded(Struct, frozen=True, tag=True):
    """Fork server: ready. ``failed``: what could not be imported, and why."""

    seconds: float
    failed: dict[str, str]


class Threaded(Struct, frozen=True, tag=True):
    """Fork server: ``module`` started a thread while it was imported, so nothing can be forked. It exits after this."""

    module: str


class Forked(Struct, frozen=True, tag=True):
    """Fork server: the process runs. A pidfd of it comes with the message."""

    slot: str
    pid: int


class ForkFailed(Struct, frozen=True, tag=True):
    slot: str
    error: str


class ChildExited(Struct, frozen=True, tag=True):
    """Fork server: a process ended. ``code`` as ``os.waitstatus_to_exitcode`` returns it."""

    pid: int
    code: int


ForkNotice: TypeAlias = Preloaded | Threaded | Forked | ForkFailed | ChildExited

_fork_decoder = msgspec.msgpack.Decoder(Fork)
_notice_decoder: msgspec.msgpack.Decoder[ForkNotice] = msgspec.msgpack.Decoder(ForkNotice)


def pack(message: Fork | ForkNotice) -> bytes:
    """One message to or from the fork server."""
    return _encoder.encode(message)


def unpack_fork(data: bytes) -> Fork:
    return _fork_decoder.decode(data)


def unpack_notice(data: bytes) -> ForkNotice:
    return _notice_decoder.decode(data)
