"""The daemon that is to take this one's place: started by itself, with its own command line."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence

import structlog

from greenroom.jobs.exits import describe

__all__ = ["TAKEOVER", "Successor", "command"]

TAKEOVER = "--takeover"

log = structlog.get_logger(__name__)


def command(argv: Sequence[str], *, executable: str) -> list[str]:
    """The command line that starts another one. ``argv``: our own, the interpreter and its options included."""
    rest = [word for word in argv[1:] if word != TAKEOVER]
    return [executable, *rest, TAKEOVER]


class Successor:
    """One process at a time. ``on_failed`` hears that it ended while we are still here."""

    def __init__(self, *, on_failed: Callable[[], None]) -> None:
        self.pid: int | None = None
        self._on_failed = on_failed
        self._pidfd = -1

    def start(self) -> bool:
        """Start it, unless one is on its way. It asks for our place itself, over the jobs' socket."""
        if self.pid is not None:
            log.warning("takeover is under way", pid=self.pid)
            return False
        words = command(sys.orig_argv, executable=sys.executable)
        # Not a child of the loop's: it lives on when the loop is closed.
        self.pid = os.posix_spawn(words[0], words, _environment(os.environ))
        self._pidfd = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)
        log.info("takeover begins", pid=self.pid)
        return True

    def close(self) -> None:
        """Let it be."""
        if self.pid is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self.pid = None

    def _ended(self) -> None:
        pid = self.pid
        self.close()
        if pid is None:
            return
        _, status = os.waitpid(pid, 0)
        log.error("takeover failed", pid=pid, exit=describe(os.waitstatus_to_exitcode(status)))
        self._on_failed()


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Ours. The manager's watchdog looks at whoever is the main process, so it is not tied to our pid."""
    return {name: value for name, value in environ.items() if name != "WATCHDOG_PID"}
