"""What a job's work is given to speak with the daemon: that it joined, that it leaves, and when it is to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import ParamSpec

import structlog

from greenroom.jobs.ipc import ChildMessage, Joined, Leaving

__all__ = ["EndRequest", "JobControl"]

LEAVE_PATIENCE = 3.0
"""How long a daemon may take to tell the server the outcome, before the room is left all the same."""
ALONE_PATIENCE = 1.0
"""The same while no daemon is there: a new one may be about to listen."""

P = ParamSpec("P")
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
        self._joined_after = 0.0
        self._callbacks: list[Callable[[str, float], None]] = []
        self._wrap_up: tuple[float, bool] | None = None
        self._wrappers: list[Callable[[float, bool], None]] = []
        self._allowed = asyncio.Event()
        self._patience: asyncio.Timeout | None = None

    def say(self, message: ChildMessage) -> None:
        """Put a message on the line; without a daemon it is lost, unless it is one that says where the job stands."""
        self._say(message)

    def joined(self, *, journal: str = "") -> None:
        """The agent is in its room; again once its journal is there, whose path is ``journal``."""
        self._joined_after = self._joined_after or time.monotonic() - self._began
        self._say(Joined(self._joined_after, journal))

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
            self._call(callback, self.end_asked.reason, self.end_asked.grace)

    def on_wrap_up(self, callback: Callable[[float, bool], None]) -> None:
        """Have ``callback(seconds, last)`` called when the daemon says that it will end the call in so many seconds,
        and when it says so for the last time; at once if it has."""
        self._wrappers.append(callback)
        if self._wrap_up is not None:
            until, last = self._wrap_up
            self._call(callback, max(0.0, until - time.monotonic()), last)

    # The shell's side.

    def ask_wrap_up(self, seconds: float, *, last: bool) -> None:
        """The daemon drains. It says so again on each new line; callbacks hear it once, and the last word once."""
        news = self._wrap_up is None or (last and not self._wrap_up[1])
        self._wrap_up = (time.monotonic() + seconds, last)
        for callback in self._wrappers if news else ():
            self._call(callback, seconds, last)

    def ask_end(self, reason: str, grace: float) -> None:
        """The daemon asked. Callbacks hear it once."""
        first = not self.end_asked.is_set()
        self.end_asked.set(reason, grace)
        for callback in self._callbacks if first else ():
            self._call(callback, self.end_asked.reason, self.end_asked.grace)

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

    def _call(self, callback: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception:  # noqa: BLE001  # a hook call
            _log.exception("callback failed")
