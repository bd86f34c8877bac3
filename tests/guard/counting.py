"""What a stretch of work takes, counted and not timed: the same figures on an idle machine and on a busy one.

Counted is what greenroom's own code does, plugins included and ``greenroom.testing`` not: what libraries do inside
depends on their versions and not on us. How often they are asked is counted.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import greenroom
import greenroom_plugins

__all__ = ["Meter", "Taken"]

OWN = tuple(f"{folder}/" for package in (greenroom, greenroom_plugins) for folder in package.__path__)
NOT_OWN = tuple(f"{folder}/testing/" for folder in greenroom.__path__)


@dataclass
class Taken:
    """By one stretch of work of so many ``events``.

    ``calls``: function calls in greenroom's code and into it, of functions in Python and in C; a task that is woken
    counts as one. ``steps``: bytecode instructions of greenroom's code. ``held``: the most memory that was held at once
    beyond what was held at the start, bytes. ``kept``: what of it was still held at the end. ``where``: the calls and
    steps of each function.
    """

    events: int = 0
    calls: int = 0
    steps: int = 0
    held: int = 0
    kept: int = 0
    where: Counter[tuple[str, str]] = field(default_factory=Counter)


class Meter:
    """A path runs its stretch of work within ``counting``; with ``memory`` that is weighed, else it is counted.

    Both at once would weigh the counter. It is made before whatever is to be weighed, and used once.
    """

    def __init__(self, *, memory: bool = False) -> None:
        self.taken = Taken()
        self._memory = memory
        self._names: dict[CodeType, str] = {}
        if memory:
            tracemalloc.start()  # here already: what replaces something from before is no growth

    @contextmanager
    def counting(self, events: int) -> Iterator[None]:
        """Only this thread is counted. No garbage is collected meanwhile: when that is due is chance."""
        self.taken.events = events
        gc.collect()
        gc.disable()
        try:
            with self._weighed() if self._memory else self._traced():
                yield
        finally:
            gc.enable()

    @contextmanager
    def _weighed(self) -> Iterator[None]:
        try:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            yield
            gc.collect()
            now, peak = tracemalloc.get_traced_memory()
            self.taken.held, self.taken.kept = peak - before, now - before
        finally:
            tracemalloc.stop()

    @contextmanager
    def _traced(self) -> Iterator[None]:
        tracer, profiler = sys.gettrace(), sys.getprofile()
        sys._getframe().f_trace_opcodes = True  # Python 3.12 tells of no instruction unless one was asked for before
        sys.settrace(self._entered)
        sys.setprofile(self._called)
        try:
            yield
        finally:
            sys.setprofile(profiler)
            sys.settrace(tracer)

    def _name(self, code: CodeType) -> str:
        """Of a function of ours, else empty."""
        name = self._names.get(code)
        if name is None:
            file = code.co_filename
            own = file.startswith(OWN) and not file.startswith(NOT_OWN)
            name = self._names[code] = f"{_module(file)}.{code.co_qualname}" if own else ""
        return name

    def _entered(self, frame: FrameType, event: str, argument: Any) -> Any:
        """A function in Python is called, or goes on."""
        name = self._name(frame.f_code)
        caller = self._name(frame.f_back.f_code) if frame.f_back is not None else ""
        if name or caller:
            self.taken.calls += 1
            self.taken.where[caller or name, "calls"] += 1
        if not name:
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return self._stepped

    def _stepped(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            self.taken.steps += 1
            self.taken.where[self._names[frame.f_code], "steps"] += 1
        return self._stepped

    def _called(self, frame: FrameType, event: str, argument: Any) -> None:
        """A function in C is called, or any other event of a profiler."""
        if event == "c_call" and (name := self._name(frame.f_code)):
            self.taken.calls += 1
            self.taken.where[name, "calls"] += 1


def _module(file: str) -> str:
    for folder in OWN:
        if file.startswith(folder):
            return ".".join(Path(file[len(folder) :]).with_suffix("").parts)
    return file
