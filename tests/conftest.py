"""What holds for the whole test run."""

from __future__ import annotations

import atexit
import os
import sys

_statuses: list[int] = []


def pytest_sessionfinish(exitstatus: int) -> None:
    _statuses.append(int(exitstatus))


@atexit.register
def _leave() -> None:
    """Leave without shutting the interpreter down.

    LiveKit's library calls into Python from threads of its own, and a call that is under way when the interpreter shuts
    down aborts the process, all tests passed or not. Exit handlers run last in, first out: those of the libraries that
    the tests loaded have run by now.
    """
    if _statuses and "livekit.rtc" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_statuses[-1])
