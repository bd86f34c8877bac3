"""Reads a journal back, whole or not at all: a line that was changed, or is missing, is told with its number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from greenroom.dialog.events import Event
from greenroom.journal.format import Decoder, Ending, Header, JournalBroken, Record

__all__ = ["Journal", "read"]


@dataclass(frozen=True, slots=True)
class Journal:
    """A whole journal. The record ``records[i]`` is on line ``i + 2`` of the file.

    ``ending``: ``None`` when it was broken off: the process was killed, or goes on writing. ``cut``: its last line was
    incomplete, and was left out.
    """

    path: Path
    header: Header
    records: tuple[Record, ...]
    ending: Ending | None
    cut: bool

    @property
    def events(self) -> tuple[tuple[float, Event], ...]:
        """What the dialog was told, and when."""
        return tuple((record.now, event) for record in self.records if (event := record.event) is not None)

    @property
    def seconds(self) -> float:
        """From its beginning to its last record."""
        return self.records[-1].now - self.header.began if self.records else 0.0


def read(path: Path) -> Journal:
    """Raises ``JournalBroken``, which names file and line, also for a file that cannot be opened."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise JournalBroken(f"{path}: {error.strerror or error}; expected a journal") from error
    tail = lines.pop()
    if not lines:
        raise JournalBroken(f"{path}:1: no whole line; expected the header of a journal")
    decoder = Decoder()
    records: list[Record] = []
    ending: Ending | None = None
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if number == 1:
                header = decoder.header(line)
            elif ending is not None:
                raise JournalBroken("a line after the end; expected none")
            elif isinstance(record := decoder.line(line), Ending):
                ending = record
            else:
                records.append(record)
        if ending is not None and tail:
            number += 1
            raise JournalBroken("a line after the end; expected none")
    except JournalBroken as error:
        raise JournalBroken(f"{path}:{number}: {error}") from error
    return Journal(path, header, tuple(records), ending, cut=bool(tail))
