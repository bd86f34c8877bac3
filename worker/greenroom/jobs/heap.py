"""A process's memory after its imports: less of it, and the fork server's made ready to be shared.

What was only needed while importing is given back: free pages, and pages of libraries that were read once; those are
read again, from the page cache, if they are needed after all.

A forked process shares each page until somebody writes to it, and Python writes to a page as soon as it puts one small
object into a gap there. So does the C library. So the gaps of both are filled before there are forks: what a process
makes then lies together, in pages of its own.

And Python writes to an object as soon as it is referred to, since it counts references in the object itself. From 3.12
on there are objects that are not counted (PEP 683), as ``None`` is; all that the fork server has made becomes one.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
import tempfile
from pathlib import Path
from types import CodeType

__all__ = ["fill", "immortalize", "trim"]

MAPPING = re.compile(r"^(?P<begin>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<access>\S+) \S+ \S+ (?P<inode>\d+)")
UNWRITTEN = ("Anonymous:", "Private_Dirty:", "Shared_Dirty:", "Locked:")
"""What a mapping has nothing of, when all of its pages are as they are in the file."""
MADV_DONTNEED = 4
BYTES = sys.getsizeof(b"")
CLASS = re.compile(rb"^\s*\d+\s+(?P<size>\d+)\s+\d+\s+\d+\s+(?P<free>\d+)\s*$", re.MULTILINE)
"""A line of CPython's own statistics: a size class, and how many of its blocks are free in pages that are in use."""

PIECES = tuple(1 << power for power in range(24, 4, -1))
"""What the C library is asked for to fill its gaps, the largest first. Bytes."""

_filling: list[object] = []


class _Standing(ctypes.Structure):
    """``struct mallinfo2``."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("heap", "gaps", "quick", "maps", "mapped", "_", "quick_bytes", "used")),
        *((name, ctypes.c_size_t) for name in ("free", "top")),
    )


def immortalize() -> int:
    """Have nobody count references to what there is now, and thereby never free it; returns how many objects that are.

    None where the interpreter counts all alike, which CPython does before 3.12, or keeps its count somewhere else.
    Libraries that were built for older versions count nevertheless, which is as harmless as it is for ``None``.
    """
    if not (immortal := _count_of_immortals()):
        return 0
    reached, found = gc.get_objects(), 0
    while reached:
        mortal = []
        for one in reached:
            if sys.getrefcount(one) < immortal:
                ctypes.c_uint32.from_address(id(one)).value = immortal
                mortal.append(one)
        found += len(mortal)
        reached = gc.get_referents(*mortal)
        for one in mortal:
            if isinstance(one, CodeType):  # says nothing of what it refers to
                reached += (one.co_consts, one.co_names, one.co_name, one.co_qualname, one.co_filename)
    return found


def _count_of_immortals() -> int:
    """What stands for a count in an object that is not counted; 0 where that is not in its first four bytes."""
    count = sys.getrefcount(None)
    more = [None] * 64
    counted = sys.getrefcount(None) != count
    del more
    return 0 if counted or ctypes.c_uint32.from_address(id(None)).value != count else count


def trim() -> None:
    """Give back what nothing needs, where the C library and the kernel can."""
    library = ctypes.CDLL(None)
    release, advise = getattr(library, "malloc_trim", None), getattr(library, "madvise", None)
    if release is not None:
        release(0)
    if advise is not None:
        for begin, end in _read_only():
            advise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_DONTNEED)


def _read_only() -> list[tuple[int, int]]:
    """Where files are mapped that nobody may write to, and nobody has: not the loader either, to relocate them."""
    found: list[tuple[int, int]] = []
    candidate: tuple[int, int] | None = None
    try:
        lines = Path("/proc/self/smaps").read_text(errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        if mapping := MAPPING.match(line):
            if candidate is not None:
                found.append(candidate)
            fixed = mapping["access"] in ("r-xp", "r--p") and mapping["inode"] != "0"
            candidate = (int(mapping["begin"], 16), int(mapping["end"], 16)) if fixed else None
        elif line.startswith(UNWRITTEN) and line.split()[1] != "0":
            candidate = None
    return found


def fill() -> int:
    """Fill the gaps that small objects would go to; returns how many there were. Nothing, where it is not known which
    there are. After ``trim``: pages that it gave back stay so."""
    return _fill_python() + _fill_library()


def _fill_python() -> int:
    gaps = 0
    for size, free in sorted(_gaps().items(), reverse=True):  # what this makes itself is small
        gaps += free
        if size > BYTES:
            _filling.extend(bytes(size - BYTES) for _ in range(free))
        else:
            _filling.extend(object() if size == 16 else float(number) for number in range(free))
    return gaps


def _gaps() -> dict[int, int]:
    """Free blocks by their size, in bytes."""
    tell = getattr(sys, "_debugmallocstats", None)
    if tell is None:
        return {}
    with tempfile.TemporaryFile() as told:
        standard_error = os.dup(2)  # it writes to that descriptor, and to nothing else
        try:
            os.dup2(told.fileno(), 2)
            tell()
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
        told.seek(0)
        return {int(found["size"]): int(found["free"]) for found in CLASS.finditer(told.read())}


def _fill_library() -> int:
    """Take what lies below the heap's free end, and never give it back."""
    library = ctypes.CDLL(None)
    ask, end = getattr(library, "mallinfo2", None), getattr(library, "sbrk", None)
    if ask is None or end is None:
        return 0
    ask.restype, end.restype, library.malloc.restype = _Standing, ctypes.c_void_p, ctypes.c_void_p
    standing, gaps = ask(), 0
    top = (end(0) or 0) - standing.top
    for size in PIECES:
        while top - standing.heap < (place := library.malloc(ctypes.c_size_t(size)) or 0) < top:
            gaps += 1
        library.free(ctypes.c_void_p(place))
    return gaps
