"""How much memory a process uses, told so that shared pages are not counted many times. Linux only."""

from __future__ import annotations

__all__ = ["memory_mb"]


def memory_mb(pid: int) -> float | None:
    """Proportional share (PSS) in MB of 2**20 bytes; resident size where the kernel does not tell the share.

    ``None`` if the process is gone. Reads ``/proc``, which takes up to some milliseconds: not for an event loop.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:
            return _field_kb(rollup.read(), b"Pss:") / 1024
    except PermissionError:
        pass
    except (OSError, LookupError):
        return None
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            return _field_kb(status.read(), b"VmRSS:") / 1024
    except (OSError, LookupError):
        return None


def _field_kb(text: bytes, name: bytes) -> int:
    """The number behind a line's name; raises ``LookupError`` for a process that is about to be gone."""
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise LookupError(name.decode())
