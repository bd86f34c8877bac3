"""``docs/reference.md``, read: which sentence is held by which tests.

``python -m tests.reference.table`` prints the tests that it names and that live elsewhere, for ``make test-reference``.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Row", "rows"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Row:
    """``section``: the heading that it stands under. ``tests``: ``path::name``."""

    section: str
    text: str
    tests: tuple[str, ...]


def rows() -> list[Row]:
    """Every row of its tables, without the heads."""
    found: list[Row] = []
    section = ""
    lines = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8").splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif line.startswith("|") and not line.startswith("|--") and not following.startswith("|--"):
            text, _, held_by = line.strip("| ").rpartition(" | ")
            found.append(Row(section, text, tuple(re.findall(r"`([^`]+::[^`]+)`", held_by))))
    return found


if __name__ == "__main__":
    here = Path(__file__).parent.relative_to(ROOT).as_posix()
    named = {test for row in rows() for test in row.tests if not test.startswith(here)}
    sys.stdout.write("\n".join(sorted(named)) + "\n")
