"""Signalling that is sent when it is said.

LiveKit's client leaves TCP's own thrift on (Nagle's algorithm): what follows a message waits until the server's kernel
has acknowledged that, and it takes 40 ms for it. Publishing a track is two messages, and took 40 ms more than it does.
"""

from __future__ import annotations

import os
import socket
import stat
from urllib.parse import urlsplit

__all__ = ["hasten"]

DESCRIPTORS = "/dev/fd"
"""This process's open files, by number."""
PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}


def hasten(address: str) -> int:
    """Have this process's TCP connections to the port of ``address`` send at once; how many of them did not.

    LiveKit's client shows its sockets to nobody, so they are found by where they lead. Without ``/dev/fd`` there are
    none to be found, and all stays as it is.
    """
    split = urlsplit(address)
    port = split.port or PORTS.get(split.scheme, 0)
    try:
        names = os.listdir(DESCRIPTORS)
    except OSError:
        return 0
    return sum(_hastened(int(name), port) for name in names if name.isdecimal())


def _hastened(descriptor: int, port: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.stat(descriptor).st_mode):
            return False
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            if connection.family not in (socket.AF_INET, socket.AF_INET6) or connection.type != socket.SOCK_STREAM:
                return False
            if connection.getpeername()[1] != port or connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY):
                return False
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return True
    except OSError:  # it was closed meanwhile, or is not connected
        return False
