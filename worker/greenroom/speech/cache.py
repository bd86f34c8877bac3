"""Speech that was made once, to be played again: in memory, and in files that other processes of the worker see too.

Both are bounded, and what was not used for longest goes first. A file that is broken is deleted. Nothing here is
needed: a disk that cannot be written costs time, and no words.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

import structlog

from greenroom.speech.renditions import BrokenRendition, Rendition

__all__ = ["SpeechCache"]

log = structlog.get_logger(__name__)

SUFFIX = ".speech"
MB = 1_000_000
ROOM = 0.9
"""Of the disk's bound, what is left of files after it was reached: so that it is not reached with each."""


class SpeechCache:
    """``folder``: where files are, ``None`` for nowhere. ``everything``: what is spoken is kept there too, and not only
    what is to be."""

    def __init__(
        self, folder: Path | None, *, memory_mb: float = 16.0, disk_mb: float = 200.0, everything: bool = False
    ) -> None:
        self.everything = everything
        self._folder = folder if disk_mb > 0 else None
        self._memory_limit = round(memory_mb * MB)
        self._disk_limit = round(disk_mb * MB)
        self._renditions: OrderedDict[str, Rendition] = OrderedDict()
        self._size = 0
        self._complained = False

    async def find(self, key: str, *, disk: bool) -> Rendition | None:
        """What was made under this key; ``disk``: look there too."""
        if (found := self._remembered(key)) is not None or not disk or self._folder is None:
            return found
        return await asyncio.to_thread(self.load, key)

    async def keep(self, key: str, rendition: Rendition, *, disk: bool) -> None:
        """Remember it; ``disk``: there too."""
        self._remember(key, rendition)
        if disk and self._folder is not None:
            await asyncio.to_thread(self._write, self._folder, key, rendition)

    def load(self, key: str) -> Rendition | None:
        """What was made under this key, in memory or on disk. Blocks."""
        if (found := self._remembered(key)) is not None or self._folder is None:
            return found
        file = _file(self._folder, key)
        try:
            found = Rendition.decode(file.read_bytes())
            os.utime(file)  # used: it goes later
        except FileNotFoundError:
            return None
        except BrokenRendition as error:
            log.warning("cached speech is broken", file=file.name, reason=str(error))
            with suppress(OSError):
                file.unlink()
            return None
        except OSError as error:
            self._complain("read", error)
            return None
        self._remember(key, found)
        return found

    def _remembered(self, key: str) -> Rendition | None:
        if key in self._renditions:
            self._renditions.move_to_end(key)
        return self._renditions.get(key)

    def _remember(self, key: str, rendition: Rendition) -> None:
        if rendition.size > self._memory_limit:
            return
        if (before := self._renditions.pop(key, None)) is not None:
            self._size -= before.size
        self._renditions[key] = rendition
        self._size += rendition.size
        while self._size > self._memory_limit:
            _, oldest = self._renditions.popitem(last=False)
            self._size -= oldest.size

    def _write(self, folder: Path, key: str, rendition: Rendition) -> None:
        file = _file(folder, key)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Renamed when it is whole: other processes read here.
            with NamedTemporaryFile(dir=folder, prefix=".", suffix=SUFFIX, delete=False) as made:
                try:
                    made.write(rendition.encode())
                    made.close()
                    Path(made.name).replace(file)
                except BaseException:
                    Path(made.name).unlink(missing_ok=True)
                    raise
            _tidy(folder, self._disk_limit)
        except OSError as error:
            self._complain("written", error)

    def _complain(self, what: str, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            log.warning(f"speech cannot be {what}", error=error.strerror or repr(error))


def _file(folder: Path, key: str) -> Path:
    return folder / f"{key}{SUFFIX}"


def _tidy(folder: Path, limit: int) -> None:
    """Delete what was not used for longest, if there is too much. Others may do the same at the same moment."""
    files: list[tuple[float, int, Path]] = []
    for file in folder.glob(f"*{SUFFIX}"):
        with suppress(FileNotFoundError):
            status = file.stat()
            files.append((status.st_mtime, status.st_size, file))
    size = sum(each for _, each, _ in files)
    if size <= limit:
        return
    for _, each, file in sorted(files):
        if size <= limit * ROOM:
            return
        file.unlink(missing_ok=True)
        size -= each
