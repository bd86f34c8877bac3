"""A Dockerfile as a list of instructions, and what its context holds."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Instruction", "ignored", "instructions", "sources"]


@dataclass(frozen=True)
class Instruction:
    """One of them, with its continued lines in one. ``stage``: how many FROM were before it, itself included."""

    word: str
    text: str
    stage: int

    @property
    def listed(self) -> list[str]:
        """What stands in its brackets: the exec form. Raises ``ValueError`` for another."""
        found: list[str] = json.loads(self.text)
        return found


def instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found, stage = [], 0
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word:
            stage += word == "FROM"
            found.append(Instruction(word, " ".join(rest.split()), stage))
    return found


def sources(found: list[Instruction]) -> Iterator[tuple[str, str]]:
    """What is copied from the context, and where to."""
    for each in found:
        if each.word == "COPY" and "--from=" not in each.text:
            *several, to = [word for word in each.text.split() if not word.startswith("--")]
            for source in several:
                yield source.rstrip("/"), to


def ignored(path: Path, patterns: list[str]) -> bool:
    """Whether ``.dockerignore`` keeps a file of the context away: the last pattern that fits it, or a folder that it is
    in, decides."""
    kept_away = False
    folders = [str(path), *map(str, path.parents)][:-1]
    for pattern in patterns:
        wanted = pattern.lstrip("!")
        plain = wanted.removeprefix("**/")
        names = [Path(folder).name for folder in folders] if plain != wanted else folders
        if any(fnmatch.fnmatchcase(name, plain) for name in names):
            kept_away = not pattern.startswith("!")
    return kept_away
