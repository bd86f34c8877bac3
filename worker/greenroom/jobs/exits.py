"""Named exit codes of a job's process, so that a log says why a process ended and not only that it did.

Codes below 64 are left to Python and to programs that the user's code may run; 128 and above to shells.
"""

from __future__ import annotations

from enum import IntEnum
from signal import Signals

__all__ = ["Exit", "describe"]


class Exit(IntEnum):
    """Why a process that greenroom started ended of its own will."""

    OK = 0
    """The job is done, or the process was told to go before it had one."""
    JOB_FAILED = 64
    """The agent's code raised; the traceback is in the log."""
    BOOT_FAILED = 65
    """The agent could not be loaded; the reason is in the log."""
    ORPHANED = 66
    """No daemon answered for a process without a job."""
    TERMINATED = 67
    """SIGTERM after it was asked to end and had not."""
    BAD_LINE = 68
    """The daemon sent bytes that are no message: another version, or not a daemon."""
    INTERNAL = 69
    """An error in greenroom's own part of the process; the traceback is in the log."""
    THREADED = 70
    """The fork server: a preloaded module started a thread, so that forking would be unsafe."""


def describe(code: int | None) -> str:
    """What ``os.waitstatus_to_exitcode`` returned, as a name: ``JOB_FAILED``, ``SIGKILL``, ``exit code 7``.

    ``None`` is an exit that nobody could collect, because the process's parent had died before it.
    """
    if code is None:
        return "unknown"
    if code < 0:
        try:
            return Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    try:
        return Exit(code).name
    except ValueError:
        return f"exit code {code}"
