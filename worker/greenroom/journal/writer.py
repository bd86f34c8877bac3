"""Writes a journal as the conversation goes, so that a killed process loses nothing.

Each event is handed to the kernel at once, in one ``write``. A disk that is full, or a directory that is gone, stops
the journal with one error in the log, and never the call.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import structlog

from greenroom.clock import wall
from greenroom.dialog.events import Event
from greenroom.journal.format import Header, encode_event, encode_header

__all__ = ["JournalWriter"]

log = structlog.get_logger(__name__)


class JournalWriter:
    """One call's journal, ``<folder>/<job>.journal``. ``began``: the time on the loop's clock now."""

    def __init__(self, folder: Path, *, job: str, room: str, agent: str, began: float) -> None:
        self.path = folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', job)}.journal"
        self._file: int | None = None
        started = datetime.fromtimestamp(wall(), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            header = Header(job=job, room=room, agent=agent, started=started, began=began)
            os.write(self._file, encode_header(header))
        except OSError as error:
            self._give_up(error)

    def write(self, event: Event, now: float) -> None:
        """Append one event; the session's driver calls this before the event is handled."""
        if self._file is None:
            return
        line = encode_event(event, now)
        try:
            written = os.write(self._file, line)
            if written != len(line):  # a full disk may take a part; the reader recognises the broken line
                os.write(self._file, line[written:])
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Safe to call twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _give_up(self, error: OSError) -> None:
        log.error("journal stopped", path=str(self.path), error=str(error))
        self.close()
