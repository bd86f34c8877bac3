"""Serving a socket whose file is not the server's to remove."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable

__all__ = ["serve"]


async def serve(made: Callable[[], asyncio.BaseProtocol], listening: socket.socket) -> asyncio.Server:
    """Accept connections on a bound unix socket. Closing the server leaves its file: another process may listen there.

    From Python 3.13 on event loops remove it unless they are told not to, and know no such word before.
    """
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 13):
        return await loop.create_unix_server(made, sock=listening, cleanup_socket=False)
    return await loop.create_unix_server(made, sock=listening)
