"""Where times come from. Nothing that decides reads a clock; shells hand the time in.

All times inside greenroom are float seconds on the running event loop's monotonic clock, so that a test's loop with
virtual time moves every part at once. Wall-clock time appears only in logs and journal headers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Cancellable", "Clock", "wall"]


class Cancellable(Protocol):
    """What ``call_at`` returns."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """The part of ``asyncio.AbstractEventLoop`` that the pump needs: any event loop is a ``Clock``."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any) -> Cancellable: ...


def wall() -> float:
    """Seconds since the epoch, for people to read; never for measuring."""
    return time.time()
