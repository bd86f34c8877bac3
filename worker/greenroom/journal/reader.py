"""Reads a journal, and feeds it to the dialog again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from greenroom.dialog.dialog import Dialog, DialogRules
from greenroom.dialog.events import Command, Event
from greenroom.journal.format import Header, JournalBroken, decode_event, decode_header

__all__ = ["Journal", "read", "replay"]


@dataclass(frozen=True, slots=True)
class Journal:
    """A whole journal. ``cut``: the last line was incomplete, as a killed process leaves it, and was left out."""

    header: Header
    events: tuple[tuple[float, Event], ...]
    cut: bool


def read(path: Path) -> Journal:
    """Raises ``JournalBroken`` that names file and line."""
    lines = path.read_bytes().split(b"\n")
    tail = lines.pop()
    if not lines:
        raise JournalBroken(f"{path}:1: no whole line; expected a journal header")
    header: Header | None = None
    events: list[tuple[float, Event]] = []
    try:
        header = decode_header(lines[0])
        for line in lines[1:]:
            events.append(decode_event(line))  # noqa: PERF401  # the count so far is the place of the mistake
    except JournalBroken as error:
        place = 1 if header is None else len(events) + 2
        raise JournalBroken(f"{path}:{place}: {error}") from error
    return Journal(header, tuple(events), cut=bool(tail))


def replay(journal: Journal, rules: DialogRules | None = None) -> list[tuple[float, Event, list[Command]]]:
    """Every event with the commands that a dialog gives for it today."""
    dialog = Dialog(rules)
    return [(now, event, dialog.handle(event, now)) for now, event in journal.events]
