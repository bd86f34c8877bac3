"""Writes a journal as the conversation goes, so that a killed process loses nothing.

Each event is handed to the kernel before it is handled. What is decided for it is written with it: a dialog of the
writer's own decides along, on the events as they are written, so that the digests tell nothing that was masked, and a
replay by the same code comes to the same ones whatever was.

A disk that is full, a directory that is gone, a call that is longer than its journal may be: each stops the journal
with one error in the log, and never the call.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from greenroom.clock import wall
from greenroom.dialog.dialog import Dialog, DialogRules
from greenroom.dialog.events import Event
from greenroom.dialog.history import ChatItem
from greenroom.journal.file import AppendedFile
from greenroom.journal.format import Encoder, Ending, Header, Note, Said, summary
from greenroom.journal.masking import Mask
from greenroom.settings import JournalSettings
from greenroom.version import __version__

__all__ = ["MEGABYTE", "JournalWriter", "header"]

log = structlog.get_logger(__name__)

MEGABYTE = 1024 * 1024
LAST_LINE = 256
"""Bytes kept free for the line that says why there are no more."""


def header(
    *,
    job: str,
    room: str,
    agent: str,
    rules: DialogRules,
    began: float,
    agent_class: str = "",
    history: tuple[ChatItem, ...] = (),
    attempt: int = 1,
    follows: str = "",
) -> Header:
    """What a journal that begins now is of: see ``Header``. ``began``: the time on the loop's clock."""
    started = datetime.fromtimestamp(wall(), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return Header(__version__, job, room, agent, started, began, rules, agent_class, history, attempt, follows)


class JournalWriter:
    """One call's journal, ``<folder>/<job>.journal``. ``path``: that file; ``None`` when it could not be made.

    ``size``: bytes written. ``stopped``: it ended before the call did.
    """

    def __init__(self, folder: Path, header: Header, *, settings: JournalSettings | None = None) -> None:
        settings = settings or JournalSettings()
        self._max_mb = settings.max_mb
        self._limit = settings.max_mb * MEGABYTE - LAST_LINE
        self._folder = folder
        self._encoder = Encoder()
        self._file: AppendedFile | None = None
        self._dialog: Dialog | None = Dialog(header.rules)
        self._mask = Mask()
        self.path: Path | None = None
        self.size = 0
        self.stopped = False
        try:
            self._mask = Mask(settings.redact)
            name = re.sub(r"[^A-Za-z0-9._-]", "_", header.job) or "_"
            self._file = AppendedFile(folder, name, sync=settings.fsync)
            self.path = self._file.path
            history = tuple(self._mask.item(item) for item in header.history)
            self._append(self._encoder.header(replace(header, room=self._mask.text(header.room), history=history)))
        except (OSError, TypeError, ValueError, re.error) as error:
            self._give_up(str(error))

    def write(self, event: Event, now: float) -> None:
        """Append one event; the session's driver calls this before the event is handled."""
        if self._file is None:
            return
        try:
            event = self._mask.event(event)
            self._append(self._encoder.event(event, now, self._decide(event, now)))
        except (OSError, TypeError, ValueError) as error:
            self._give_up(str(error))

    def said(self, speech: str, step: int, *, text: str, now: float) -> None:
        """Append words whose audio is on its way to the track. With patterns to be masked, the last ones wait."""
        if self._file is None:
            return
        try:
            if masked := self._mask.piece(speech, step, text):
                self._append(self._encoder.note(Said(speech, step, masked), now))
        except (OSError, TypeError, ValueError) as error:
            self._give_up(str(error))

    def note(self, note: Note, now: float) -> None:
        """Append what no decision depends on."""
        if self._file is None:
            return
        try:
            self._append(self._encoder.note(self._mask.note(note), now))
        except (OSError, TypeError, ValueError) as error:
            self._give_up(str(error))

    def close(self) -> None:
        """The call is over. Safe to call twice."""
        self._end(Ending("closed"))

    def _decide(self, event: Event, now: float) -> str | None:
        if self._dialog is None:
            return None
        try:
            return summary(self._dialog.handle(event, now))
        except Exception:  # noqa: BLE001  # greenroom's own mistake: the call meets it next, and this line tells of it
            self._dialog = None
            return None

    def _append(self, line: bytes) -> None:
        if self._file is None:
            return
        try:
            if self._file.size + len(line) > self._limit:
                raise ValueError(f"it would grow beyond worker.journal.max_mb ({self._max_mb})")
            self._file.append(line)
            self.size = self._file.size
        except (OSError, ValueError):
            self._encoder.take_back()
            raise

    def _give_up(self, why: str) -> None:
        self.stopped = True
        log.error("journal stopped", path=str(self.path or self._folder), error=why)
        self._end(Ending("stopped", why[: LAST_LINE // 4]))

    def _end(self, ending: Ending) -> None:
        file, self._file, self._dialog = self._file, None, None
        if file is None:
            return
        with suppress(OSError, ValueError):  # of a journal that is given up it has been told already
            if file.size:
                file.append(self._encoder.ending(ending))
        with suppress(OSError):
            file.close()
