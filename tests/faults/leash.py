"""``python -m tests.faults.leash MARK``: when standard input closes, all that was started with this mark is killed.

A daemon's jobs outlive it, which is the point of half of these tests; so nothing here can be found by its parent. The
mark is in the environment, which every descendant has. The other end of the pipe closes when its owner dies, however.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

import psutil

__all__ = ["MARK", "marked", "put_down"]

MARK = "GREENROOM_FAULTS_MARK"
PATIENCE = 3.0


def marked(mark: str) -> list[psutil.Process]:
    """The processes that have this mark, but for this one."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def put_down(mark: str) -> None:
    """Kill them all, and those that they started meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while (alive := marked(mark)) and time.monotonic() < deadline:
        for process in alive:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=0.5)


if __name__ == "__main__":
    sys.stdin.read()
    put_down(sys.argv[1])
