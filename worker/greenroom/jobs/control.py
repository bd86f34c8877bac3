"""What a job's work is given to speak with the daemon: that it joined, that it leaves, and when it is asked to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from greenroom.jobs.ipc import ChildMessage, Joined, Leaving

__all__ = ["EndRequest", "JobControl"]

LEAVE_PATIENCE = 3.0
"""How long a daemon may take to tell the server the outcome, before the room is left all the same."""
ALONE_PATIENCE = 1.0
"""The same while no daemon is there: a new one may be about to listen."""

_log = structlog.get_logger(__name__)


class EndRequest:
    """Whether the daemon asked to end the call, why, and how many seconds it leaves for that."""

    def __init__(self) -> None:
        self.reason = ""
        self.grace = 0.0
        self._asked = asyncio.Event()

    def is_set(self) -> bool:
        return self._asked.is_set()

    async def wait(self) -> None:
        await self._asked.wait()

    def set(self, reason: str, grace: float) -> None:
        """The reason of the first request stays; the grace is the newest."""
        self.reason = self.reason or reason
        self.grace = grace
        self._asked.set()


class JobControl:
    """One job's. ``say`` puts a message on the line to the daemon, whenever there is one."""

    def __init__(self, say: Callable[[ChildMessage], None]) -> None:
        self.end_asked = EndRequest()
        self.connected = True
        """Whether a daemon is there; kept by the process's shell through ``line_changed``."""
        self.left = False
        """``leaving`` was called: the outcome is told."""
        self._say = say
        self._began = time.monotonic()
        self._callbacks: list[Callable[[str, float], None]] = []
        self._allowed = asyncio.Event()
        self._patience: asyncio.Timeout | None = None

    def joined(self) -> None:
        """The agent is in its room."""
        self._say(Joined(time.monotonic() - self._began))

    async def leaving(self, reason: str, *, error: str = "") -> None:
        """The call is over: has the server told, with ``error`` empty for success; returns when the room may be left.

        Only the first call tells anything. It never takes longer than ``LEAVE_PATIENCE``, and ``ALONE_PATIENCE``
        without a daemon.
        """
        if not self.left:
            self.left = True
            self._say(Leaving(reason, error))
        try:
            async with asyncio.timeout(LEAVE_PATIENCE) as self._patience:
                self.line_changed(self.connected)
                await self._allowed.wait()
        except TimeoutError:
            _log.warning("left without the daemon's word", connected=self.connected)
            self._allowed.set()

    def on_end(self, callback: Callable[[str, float], None]) -> None:
        """Have ``callback(reason, grace)`` called when the daemon asks to end; at once if it has."""
        self._callbacks.append(callback)
        if self.end_asked.is_set():
            self._call(callback)

    # The shell's side.

    def ask_end(self, reason: str, grace: float) -> None:
        """The daemon asked. Callbacks hear it once."""
        first = not self.end_asked.is_set()
        self.end_asked.set(reason, grace)
        for callback in self._callbacks if first else ():
            self._call(callback)

    def allow_leave(self) -> None:
        """The server knows the outcome."""
        self._allowed.set()

    def line_changed(self, connected: bool) -> None:
        """A daemon came or went."""
        self.connected = connected
        if self._patience is None or connected or self._allowed.is_set():
            return
        when = asyncio.get_running_loop().time() + ALONE_PATIENCE
        if not self._patience.expired() and when < (self._patience.when() or when + 1):
            self._patience.reschedule(when)

    def _call(self, callback: Callable[[str, float], None]) -> None:
        try:
            callback(self.end_asked.reason, self.end_asked.grace)
        except Exception:  # noqa: BLE001  # a hook call
            _log.exception("on_end callback failed")
