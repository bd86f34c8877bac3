"""When a process is pinged and when its silence is too long. Pure, a part of ``JobLifecycle``."""

from __future__ import annotations

from greenroom.jobs.events import SendPing, Warn
from greenroom.settings import Deadlines

__all__ = ["Pings"]


class Pings:
    """Ask, wait, ask again ``ping_interval`` after the last question; warn once of each answer that is late."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._interval = deadlines.ping_interval
        self._timeout = deadlines.ping_timeout
        self._n = 0
        self._next: float | None = None
        self._sent: float | None = None
        self._warned = False

    def begin(self, when: float) -> None:
        """Forget the ping that was out and send the next at ``when``."""
        self._next, self._sent = when, None

    def stop(self) -> None:
        self._next = self._sent = None

    def shift(self, late: float) -> None:
        """Put off all that is due."""
        self._next = None if self._next is None else self._next + late
        self._sent = None if self._sent is None else self._sent + late

    def deadline(self) -> float | None:
        if self._sent is None:
            return self._next
        return self._sent + (self._timeout if self._warned else min(self._interval, self._timeout))

    def due(self, now: float) -> SendPing | Warn | None:
        """Do what is due; ``None`` says that the process is given up. Called at ``deadline()``, not before."""
        if self._sent is None:
            self._n += 1
            self._next, self._sent, self._warned = None, now, False
            return SendPing(self._n)
        if not self._warned:
            self._warned = True
            return Warn("process is slow to answer", "lag", round(now - self._sent, 3))
        return None

    def answered(self, n: int, now: float) -> bool:
        """The process answered ping ``n``. False if that is not the one that was asked."""
        if self._sent is None or n != self._n:
            return False
        self._next, self._sent = max(now, self._sent + self._interval), None
        return True
