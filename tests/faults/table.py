"""The table of ``docs/faults.md``."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from tests.faults.scenario import Row, Scenario

__all__ = ["DOCUMENT", "HEAD", "line", "write"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
HEAD = (
    "| fault | times tried | calls lost | words of history lost | heard again after: median | worst |\n"
    "|---|---|---|---|---|---|"
)
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
NOTHING = "–"


def line(row: Row) -> str:
    """One line of the table; the name is what ``python -m tests.faults`` takes."""
    tried = len(row.trials)
    seconds = row.seconds
    median, worst = (f"{each(seconds):.2f} s" if seconds else NOTHING for each in (statistics.median, max))
    words = f"{row.words_lost}{' (documented)' if row.scenario.forgets else ''}"
    return f"| {row.scenario.fault} | {tried} | {row.lost} | {words} | {median} | {worst} |"


def write(rows: Sequence[Row], *, order: Sequence[type[Scenario]], document: Path = DOCUMENT) -> None:
    """Put the rows into the document's table; those that were not tried now stay as they are."""
    text = document.read_text()
    before, table, after = re.split(f"{BEGIN}\n|{END}\n", text)
    known = {fault: whole for whole in table.splitlines()[2:] if (fault := whole.split(" | ")[0].lstrip("| "))}
    known |= {row.scenario.fault: line(row) for row in rows}
    lines = [known[scenario.fault] for scenario in order if scenario.fault in known]
    document.write_text("".join([before, f"{BEGIN}\n", "\n".join([HEAD, *lines, ""]), f"{END}\n", after]))
