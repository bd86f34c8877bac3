"""The packages that greenroom needs with the extras ``EXTRAS``, for the image: ``wanted.py PYPROJECT EXTRAS``.

``EXTRAS`` are names with commas or spaces between them; none: greenroom alone. Prints one requirement a line; the lock
gives their versions and hashes. Exit code 2 for an extra that there is not.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main", "wanted"]

OURSELVES = re.compile(r"greenroom\[([^\]]*)\]")


def wanted(project: Mapping[str, Any], extras: Sequence[str]) -> list[str]:
    """Requirements of ``project``, the table of that name, and of its ``extras``. Raises ``KeyError`` with a name."""
    optional: Mapping[str, list[str]] = project["optional-dependencies"]
    needed = set(project["dependencies"])
    for extra in _with_their_own(extras, optional):
        needed |= {each for each in optional[extra] if not OURSELVES.match(each)}
    return sorted(needed)


def _with_their_own(extras: Sequence[str], optional: Mapping[str, list[str]]) -> Iterator[str]:
    """An extra may name others: ``greenroom[a,b]``."""
    for extra in extras:
        yield extra
        for requirement in optional[extra]:
            if found := OURSELVES.match(requirement):
                yield from _with_their_own(_names(found[1]), optional)


def _names(text: str) -> list[str]:
    return [name for name in re.split(r"[,\s]+", text) if name]


def main(arguments: Sequence[str]) -> int:
    file, extras = arguments
    project = tomllib.loads(Path(file).read_text())["project"]
    try:
        sys.stdout.writelines(f"{each}\n" for each in wanted(project, _names(extras)))
    except KeyError as error:
        known = ", ".join(sorted(set(project["optional-dependencies"]) - {"dev"}))
        sys.stderr.write(f"EXTRAS: there is no extra {error.args[0]!r}; expected some of {known}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
