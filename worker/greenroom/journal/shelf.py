"""The journals that are kept: which there are, and which have been kept for long enough."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from greenroom.journal.file import SUFFIX, is_living
from greenroom.journal.format import JournalBroken
from greenroom.journal.reader import read
from greenroom.settings import JournalSettings

__all__ = ["MEGABYTE", "Kept", "prune", "survey", "tidy_up"]

log = structlog.get_logger(__name__)

MEGABYTE = 1024 * 1024
DAY = 86_400.0
FRESH = 3600.0
"""Seconds since the last line for which a journal is kept in any case: its call may be about to be continued."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One journal. ``state``: the call goes on; it was closed; it was stopped before the call's end; its process died;
    or it cannot be read, and ``error`` says why. ``seconds``: of the call, as far as it is written down.
    """

    path: Path
    size: int
    state: Literal["living", "closed", "stopped", "broken off", "unreadable"]
    started: str = ""
    job: str = ""
    room: str = ""
    agent: str = ""
    seconds: float = 0.0
    events: int = 0
    error: str = ""


def survey(folder: Path) -> list[Kept]:
    """All journals of a folder, the oldest first. Raises ``OSError`` when it cannot be read."""
    found: list[Kept] = []
    for _, _, path in sorted(_files(folder)):
        with suppress(FileNotFoundError):  # deleted since
            found.append(_look(path))
    return found


def prune(folder: Path, settings: JournalSettings, *, now: float | None = None) -> list[Path]:
    """Delete what is older than ``keep_days``, and the oldest while all together are larger than ``keep_mb``.

    Journals of calls that go on, or went on within the hour, count and are kept. ``now``: seconds since the epoch.
    Several processes may do this at once. Returns what was deleted. Raises ``OSError`` when the folder cannot be read.
    """
    now = time.time() if now is None else now
    files = sorted(_files(folder))
    total = sum(size for _, size, _ in files)
    deleted: list[Path] = []
    for written, size, path in files:
        too_old = settings.keep_days and written < now - settings.keep_days * DAY
        too_much = settings.keep_mb and total > settings.keep_mb * MEGABYTE
        if written > now - FRESH or not (too_old or too_much):
            continue
        with suppress(OSError), _nobody_writes(path) as free:
            if free:
                path.unlink()
                deleted.append(path)
                total -= size
    return deleted


def tidy_up(folder: Path, settings: JournalSettings) -> None:
    """``prune`` in a thread, so that no call waits for a folder with many files."""

    def run() -> None:
        try:
            deleted = prune(folder, settings)
        except OSError as error:
            log.warning("old journals cannot be deleted", folder=str(folder), error=str(error))
        else:
            if deleted:
                log.info("old journals deleted", folder=str(folder), files=len(deleted))

    threading.Thread(target=run, name="old journals", daemon=True).start()


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each was last written to, how large it is, and where."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    yield status.st_mtime, status.st_size, Path(entry.path)


@contextmanager
def _nobody_writes(path: Path) -> Iterator[bool]:
    """Whether a file is nobody's, who cannot become somebody's meanwhile."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(file)


def _look(path: Path) -> Kept:
    living = is_living(path)
    size = path.stat().st_size
    try:
        journal = read(path)
    except JournalBroken as error:
        return Kept(path, size, "living" if living else "unreadable", error=str(error))
    ending = journal.ending.how if journal.ending is not None else "broken off"
    header = journal.header
    return Kept(
        path,
        size,
        "living" if living else ending,
        header.started,
        header.job,
        header.room,
        header.agent,
        journal.seconds,
        len(journal.events),
        journal.ending.why if journal.ending is not None else "",
    )
