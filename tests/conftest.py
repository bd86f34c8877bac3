"""What holds for the whole test run."""

from __future__ import annotations

import atexit
import os
import sys

import pytest
from hypothesis import settings

from tests.shares import Shares, holds_calls

settings.register_profile("whole", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("whole")

_statuses: list[int] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What holds calls in real time is tried once more when it fails: a machine that stands still for half a second
    puts a pause into what a caller says. The summary counts what was tried again."""
    for item in items:
        if any(item.get_closest_marker(kind) for kind in ("e2e", "browser")):
            item.add_marker(pytest.mark.flaky(reruns=1))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: not holds_calls(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Shares:
    return Shares(config, log)


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
