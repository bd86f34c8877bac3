"""Words to the service manager: systemd's notification protocol, which is a datagram to a socket.

Where no manager listens nothing is sent. What cannot be sent is lost: a manager that does not listen is no reason not
to take calls.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping

import structlog

__all__ = ["Notifier"]

log = structlog.get_logger(__name__)


class Notifier:
    """One process's line to the manager that started it. ``environ``: where that said how it listens."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._interval = _watchdog(environ)
        self._petting: asyncio.TimerHandle | None = None

    @property
    def watchdog(self) -> float | None:
        """Seconds between two signs of life that the manager may not miss; ``None``: it does not ask for them."""
        return self._interval

    def ready(self, status: str = "") -> None:
        """The worker takes calls; after ``reloading``, it does so again."""
        self._say("READY=1", f"STATUS={status}" if status else "")

    def reloading(self) -> None:
        """New settings, or a new daemon, are on their way; ``ready`` follows."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1", "STATUS=draining")

    def handed_over(self, pid: int) -> None:
        """This process is about to end, and ``pid`` is the service from now on. It is ready: a manager may heed nobody
        but the main process, so this one says so for it."""
        self._say(f"MAINPID={pid}", "READY=1")

    def extend(self, seconds: float) -> None:
        """The present step (starting, stopping) may take so much longer."""
        self._say(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def start(self) -> None:
        """Give signs of life, from the running loop: one that is stuck gives none."""
        if self._interval is not None and self._petting is None:
            self._pet()

    def close(self) -> None:
        if self._petting is not None:
            self._petting.cancel()
            self._petting = None

    def _pet(self) -> None:
        self._say("WATCHDOG=1")
        if self._interval is not None:
            self._petting = asyncio.get_running_loop().call_later(self._interval / 2, self._pet)

    def _say(self, *lines: str) -> None:
        if self._address is None:
            return
        message = "\n".join(line for line in lines if line)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.setblocking(False)
                line.sendto(message.encode(), self._address)
        except OSError as error:
            log.debug("service manager does not listen", error=error.strerror)


def _address(given: str) -> str | None:
    """A path, or a name in the kernel's own space, which begins with @; others, such as vsock's, are not ours."""
    if given.startswith("@"):
        return f"\0{given[1:]}"
    return given if given.startswith("/") else None


def _watchdog(environ: Mapping[str, str]) -> float | None:
    for_whom = environ.get("WATCHDOG_PID", "")
    if for_whom and for_whom != str(os.getpid()):
        return None
    try:
        seconds = int(environ.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return None
    return seconds if seconds > 0 else None
