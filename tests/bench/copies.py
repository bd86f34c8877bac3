"""What a forked process has of its own: pages that it copied as it wrote to them, by how much of each differs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHANGED", "Own", "own_memory"]

PAGE = os.sysconf("SC_PAGE_SIZE")
PRESENT, OF_FILES, EXCLUSIVE = (np.uint64(1 << bit) for bit in (63, 61, 56))
"""Bits of ``/proc/PID/pagemap``."""
CHANGED = (0, 8, 64, 512, PAGE)
"""Bytes of a page: classes, each up to that many. In those of none a count went up and down again."""
MAPPING = re.compile(r"^(?P<begin>[0-9a-f]+)-(?P<end>[0-9a-f]+) rw", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Own:
    """MB of 2**20 bytes. ``copied`` by the bytes of a page that differ, as in ``CHANGED``; ``made`` were nobody's."""

    copied: Mapping[int, float]
    made: float


def own_memory(pid: int, parent: int) -> Own:
    """Of a process that was forked from ``parent``, which still runs. The kernel has to let us read both."""
    copied, made = dict.fromkeys(CHANGED, 0), 0
    with open(f"/proc/{pid}/mem", "rb", 0) as here, open(f"/proc/{parent}/mem", "rb", 0) as there:
        for begin, end in _writable(pid):
            pages, old = _pages(pid, begin, end), _has(_pages(parent, begin, end), PRESENT)
            own = _has(pages, PRESENT | EXCLUSIVE) & ~_has(pages, OF_FILES)
            made += int((own & ~old).sum())
            for number in np.flatnonzero(own & old):
                at = begin + int(number) * PAGE
                changed = int((_read(here.fileno(), at) != _read(there.fileno(), at)).sum())
                copied[next(most for most in CHANGED if changed <= most)] += 1
    return Own({most: count * PAGE / 2**20 for most, count in copied.items()}, made * PAGE / 2**20)


def _writable(pid: int) -> Iterator[tuple[int, int]]:
    for mapping in MAPPING.finditer(Path(f"/proc/{pid}/maps").read_text()):
        yield int(mapping["begin"], 16), int(mapping["end"], 16)


def _pages(pid: int, begin: int, end: int) -> NDArray[np.uint64]:
    with open(f"/proc/{pid}/pagemap", "rb", 0) as pages:  # where nothing is mapped it says so
        return np.frombuffer(os.pread(pages.fileno(), (end - begin) // PAGE * 8, begin // PAGE * 8), np.uint64)


def _has(pages: NDArray[np.uint64], bits: np.uint64) -> NDArray[np.bool_]:
    return np.asarray((pages & bits) == bits)


def _read(memory: int, at: int) -> NDArray[np.uint8]:
    return np.frombuffer(os.pread(memory, PAGE, at), np.uint8)
