"""What the hot paths take, what they may take, and what is said of one that takes more.

``bounds.json`` holds what was recorded, for each minor version of Python: the compiler of each makes other bytecode of
the same code, and 3.12 and later call no function for a comprehension. On one version the counts are the same wherever
they are taken; so little is allowed beyond them that one more call for each frame is too much. A version that nothing
was recorded for is held to the one next to it, with ``UNKNOWN`` allowed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from tests.guard.counting import Meter
from tests.guard.paths import PATHS, HotPath

__all__ = ["Bounds", "Figures", "measure", "measured", "version"]

RECORDED = Path(__file__).with_name("bounds.json")
ROOT = Path(__file__).parents[2]
CALLS = 0.5
"""More for each event."""
STEPS = 1.02
HELD = 512
"""Bytes more: half a frame's samples."""
KEPT = 16.0
"""Bytes more for each event."""
UNKNOWN = 1.25
DISTURBING = ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONTRACEMALLOC", "PYTHONMALLOC", "PYTHONPROFILEIMPORTTIME")


class Figures(msgspec.Struct, frozen=True):
    """Of one path: see ``counting.Taken``. For each event, but ``held``."""

    calls: float
    steps: float
    held: int
    kept: float

    def bound(self, *, known: bool) -> Figures:
        """What may be taken where this was recorded."""
        more = 1.0 if known else UNKNOWN
        return Figures(
            calls=round(more * self.calls + CALLS, 2),
            steps=round(more * self.steps * STEPS, 2),
            held=round(more * self.held) + HELD,
            kept=round(more * max(self.kept, 0.0) + KEPT, 2),
        )


UNITS: Mapping[str, str] = {
    "calls": "function calls for each {event}",
    "steps": "bytecode instructions for each {event}",
    "held": "bytes held at once",
    "kept": "bytes kept of each {event}",
}


class Bounds:
    """What was recorded, by the version of Python and the path."""

    def __init__(self, recorded: Mapping[str, Mapping[str, Figures]]) -> None:
        self._recorded = {version: dict(figures) for version, figures in recorded.items()}

    @staticmethod
    def read(file: Path = RECORDED) -> Bounds:
        return Bounds(msgspec.json.decode(file.read_bytes(), type=dict[str, dict[str, Figures]]))

    def write(self, file: Path = RECORDED) -> None:
        ordered = {version: self._recorded[version] for version in sorted(self._recorded, key=_order)}
        file.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n")

    def record(self, version: str, figures: Mapping[str, Figures]) -> None:
        """From now on these are the figures of that version."""
        self._recorded[version] = dict(figures)

    def of(self, version: str, path: str) -> tuple[Figures | None, Figures | None]:
        """What was recorded of a path, and what it may take."""
        nearest = min(self._recorded, key=lambda one: (abs(_order(one) - _order(version)), -_order(one)))
        recorded = self._recorded[nearest].get(path)
        return recorded, recorded.bound(known=nearest == version) if recorded is not None else None

    def exceeded(self, version: str, path: str, taken: Figures) -> Iterator[str]:
        """In words, each figure of a path that is beyond its bound."""
        recorded, bound = self.of(version, path)
        if recorded is None or bound is None:
            yield f"{path}: nothing is recorded of it; {_mend(path)}"
            return
        for name, unit in UNITS.items():
            if getattr(taken, name) > getattr(bound, name):
                yield (
                    f"{path}: {getattr(taken, name):g} {unit.format(event=PATHS[path].event)}, which a call has "
                    f"{PATHS[path].often}; the bound is {getattr(bound, name):g}, as {getattr(recorded, name):g} were "
                    f"recorded (Python {version}).\n{_mend(path)}"
                )


def _mend(path: str) -> str:
    return (
        f"  which functions: .venv/bin/python -m tests.guard --where '{path}', here and on the revision before\n"
        "  if it is worth it: .venv/bin/python -m tests.guard --record, and say in the commit what for"
    )


def _order(version: str) -> int:
    major, minor = version.split(".")
    return 1000 * int(major) + int(minor)


def version() -> str:
    """Of this Python, major and minor."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def measure(path: HotPath) -> Figures:
    """Run it twice in this process: counted, then weighed."""
    counter, scales = Meter(), Meter(memory=True)
    path.run(counter)
    path.run(scales)
    counted, weighed = counter.taken, scales.taken
    return Figures(
        calls=round(counted.calls / counted.events, 2),
        steps=round(counted.steps / counted.events, 2),
        held=weighed.held,
        kept=round(weighed.kept / weighed.events, 2),
    )


def measured() -> dict[str, Figures]:
    """All paths, in a process of their own: nothing else has threads or objects there."""
    environment = {name: value for name, value in os.environ.items() if name not in DISTURBING}
    run = subprocess.run(
        [sys.executable, "-m", "tests.guard", "--json"],
        cwd=ROOT,
        env={**environment, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.convert(json.loads(run.stdout), dict[str, Figures])
