"""What a worker holds while it goes on: processes, descriptors, threads, files, memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from greenroom.jobs.memory import memory_mb

__all__ = ["COUNTS", "Holdings", "descriptors", "memory", "threads"]

GROWTH_MB = 4.0
"""Memory that may have been taken since, all processes together: the allocator's own, not one call's after another."""
COUNTS = ("processes", "descriptors", "threads", "files")
"""Those that are exact."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """Of ``family``, with the descriptors and threads of those processes that are ``lasting``: warm ones come and go.
    Files are those in ``folder``, and not below ``apart``."""

    processes: int
    descriptors: int
    threads: int
    files: int
    memory_mb: float

    @staticmethod
    def of(
        family: Sequence[psutil.Process], *, lasting: Sequence[psutil.Process], folder: Path, apart: Path
    ) -> Holdings:
        return Holdings(
            processes=len(family),
            descriptors=descriptors(lasting),
            threads=threads(lasting),
            files=sum(1 for path in folder.rglob("*") if apart not in path.parents),
            memory_mb=memory(family),
        )

    def counts_grown(self, before: Holdings) -> list[str]:
        return [
            f"{name} grew from {getattr(before, name)} to {getattr(self, name)}"
            for name in COUNTS
            if getattr(self, name) > getattr(before, name)
        ]

    def grown(self, before: Holdings) -> list[str]:
        found = self.counts_grown(before)
        if self.memory_mb > before.memory_mb + GROWTH_MB:
            found.append(f"memory grew from {before.memory_mb:.1f} to {self.memory_mb:.1f} MB")
        return found


def descriptors(processes: Iterable[psutil.Process]) -> int:
    """Open ones."""
    return sum(len(os.listdir(f"/proc/{each.pid}/fd")) for each in processes)


def threads(processes: Iterable[psutil.Process]) -> int:
    return sum(each.num_threads() for each in processes)


def memory(processes: Iterable[psutil.Process]) -> float:
    """Megabytes, what is shared counted in shares; of a process that is gone none."""
    return sum(memory_mb(each.pid) or 0.0 for each in processes)
