"""A program of ours that is told what to do over a socket."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress

__all__ = ["start"]


async def start(run: Callable[[int], subprocess.Popen[bytes]]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The program that ``run`` starts, in a thread, with the descriptor of its end, and our end of the line.

    Raises ``OSError`` where it cannot be started. Cancelled, it leaves neither behind.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    starting = asyncio.ensure_future(asyncio.to_thread(run, theirs.fileno()))
    try:
        return await asyncio.shield(starting), ours
    except BaseException:
        ours.close()
        await _undo(starting)
        raise
    finally:
        theirs.close()


async def _undo(starting: asyncio.Future[subprocess.Popen[bytes]]) -> None:
    """A program that was to be started when nobody wanted it any more."""
    with suppress(OSError):
        process = await starting
        process.kill()
        await asyncio.to_thread(process.wait)
