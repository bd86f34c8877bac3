"""One end of the unix socket between the daemon and a job's process: bytes to messages and back."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import TypeAlias, cast

import structlog

from greenroom.jobs.ipc import BadFrame, ChildMessage, DaemonMessage, Frames, encode

__all__ = ["Line"]

Message: TypeAlias = DaemonMessage | ChildMessage

_CREDENTIALS = struct.Struct("3i")
_log = structlog.get_logger(__name__)


class Line(asyncio.Protocol):
    """A connection that hands over each message as it comes.

    ``on_message`` and ``on_lost`` may be replaced while it is up: who dialled is known only after the first message.
    ``on_lost`` is called once, also after ``close``; bytes that are no message end the connection.
    """

    def __init__(
        self,
        frames: Frames,
        *,
        on_message: Callable[[Line, Message], None],
        on_lost: Callable[[Line], None],
        on_made: Callable[[Line], None] | None = None,
    ) -> None:
        self.on_message = on_message
        self.on_lost = on_lost
        self._on_made = on_made
        self._frames = frames
        self._transport: asyncio.Transport | None = None
        self.lost = False
        """It was up, and is not any more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # a stream socket's; uvloop's is one by shape only
        if self._on_made is not None:
            self._on_made(self)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._frames.feed(data)
        except BadFrame as error:
            _log.warning("line broken", error=str(error))
            self.abort()
            return
        for message in messages:
            self.on_message(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.lost = True
        self.on_lost(self)

    def send(self, message: Message) -> None:
        """Put a message on the wire; nothing happens once the line is lost."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(message))

    def close(self) -> None:
        """Hang up once all is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hang up now."""
        if self._transport is not None:
            self._transport.abort()

    def peer(self) -> tuple[int, int]:
        """The process and the user at the other end, as the kernel knows them. Raises ``OSError``."""
        end = None if self._transport is None else self._transport.get_extra_info("socket")
        if end is None:
            raise ConnectionError("the line is lost")
        pid, uid, _ = _CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return pid, uid
