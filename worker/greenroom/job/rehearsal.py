"""What each process of a job would find out by itself, done once when this module is imported: before the fork.

What is made or changed here is shared by all processes; what each does for itself is memory of its own, four or eight
times, and time in which a call waits for it.
"""

from __future__ import annotations

from greenroom.job import runner
from greenroom.ops import logs
from greenroom.providers import registry
from greenroom.room import library

__all__ = ["library", "runner"]

logs.configure()
registry.remember()
