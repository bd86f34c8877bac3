"""A run as a file: what was measured on what, every sample of it, and what they come to."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil

from tests.bench.cells import Cell, Summary, summarise
from tests.bench.contract import Knobs
from tests.bench.worker import Contender

__all__ = ["Environment", "Record"]

PACKAGES = ("greenroom", "livekit-agents", "livekit")
VERSIONS = """
import importlib.metadata, json
found = {}
for name in %r:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class Environment(msgspec.Struct, kw_only=True):
    """``versions``: of each contender's packages."""

    cores: int
    memory_gb: int
    python: str
    kernel: str
    versions: dict[str, dict[str, str]]
    knobs: Knobs = Knobs()

    @staticmethod
    def here(contenders: list[Contender]) -> Environment:
        return Environment(
            cores=os.cpu_count() or 0,
            memory_gb=round(psutil.virtual_memory().total / 2**30),
            python=platform.python_version(),
            kernel=platform.release(),
            versions={contender.name: _versions(contender) for contender in contenders},
        )


class Record(msgspec.Struct, kw_only=True):
    """A run, as it is so far."""

    environment: Environment
    summary: Summary = {}
    cells: list[Cell] = []

    @staticmethod
    def read(file: Path) -> Record:
        return msgspec.json.decode(file.read_bytes(), type=Record)

    @property
    def rounds(self) -> int:
        return max((cell.round for cell in self.cells), default=0)

    def add(self, cell: Cell) -> None:
        self.cells.append(cell)
        self.summary = summarise(self.cells)

    def write(self, file: Path) -> None:
        """At once: a run that is stopped leaves what it has."""
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(".part")
        aside.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
        aside.replace(file)


def _versions(contender: Contender) -> dict[str, str]:
    """What its interpreter has installed; nothing where the command shows none."""
    interpreter = next((part for part in contender.argv if Path(part).name.startswith("python")), sys.executable)
    run = subprocess.run([interpreter, "-c", VERSIONS % (PACKAGES,)], capture_output=True, text=True, check=False)
    found: dict[str, str] = json.loads(run.stdout) if run.returncode == 0 else {}
    return found
