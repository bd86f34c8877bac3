"""How much memory a process uses, told so that shared pages are not counted many times, and how much there is left for
more of them. Linux only."""

from __future__ import annotations

from pathlib import Path

__all__ = ["available_mb", "memory_mb"]

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def memory_mb(pid: int) -> float | None:
    """Proportional share (PSS) in MB of 2**20 bytes; resident size where the kernel does not tell the share.

    ``None`` if the process is gone. Reads ``/proc``, which takes up to some milliseconds: not for an event loop.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:
            return _field(rollup.read(), b"Pss:") / 1024
    except PermissionError:
        pass
    except (OSError, LookupError):
        return None
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            return _field(status.read(), b"VmRSS:") / 1024
    except (OSError, LookupError):
        return None


def available_mb(*, meminfo: Path = _MEMINFO, cgroup: Path | None = None) -> float | None:
    """What new work may use without swapping, in MB of 2**20 bytes; ``None`` where the kernel does not say.

    Of the machine, or of the control group that this process is in, whichever is less: a container's limit is not in
    ``/proc/meminfo``. It takes a tenth of a millisecond. ``cgroup``: the folder of the group, if not our own.
    """
    found = [_machine_mb(meminfo), _cgroup_mb(_own_cgroup() if cgroup is None else cgroup)]
    return min((one for one in found if one is not None), default=None)


def _machine_mb(meminfo: Path) -> float | None:
    try:
        return _field(meminfo.read_bytes(), b"MemAvailable:") / 1024
    except (OSError, LookupError):
        return None


def _own_cgroup() -> Path | None:
    """The folder of version 2; a container sees its own at the root."""
    try:
        for line in _OWN_CGROUP.read_text().splitlines():
            if line.startswith("0::"):
                return _CGROUP / line[3:].lstrip("/")
    except OSError:
        pass
    return None


def _cgroup_mb(folder: Path | None) -> float | None:
    """Below the limit of the group; its files' pages count as free, as the kernel takes them back."""
    if folder is None:
        return None
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return None
        used = int((folder / "memory.current").read_text())
        cached = _field((folder / "memory.stat").read_bytes(), b"inactive_file")
        return (int(limit) - used + cached) / 2**20
    except (OSError, LookupError, ValueError):
        return None


def _field(text: bytes, name: bytes) -> int:
    """The number behind a line's name; raises ``LookupError`` for a process that is about to be gone."""
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == name:
            return int(words[1])
    raise LookupError(name.decode())
