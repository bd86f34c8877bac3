"""``python -m greenroom.daemon FILE [--no-check] [--takeover]``: what ``greenroom start`` becomes.

A program of its own, because a worker runs for months, and what the command line is made of would be 10 MB of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from greenroom import lean  # before anything that it makes smaller
from greenroom.daemon.reload import CHECK_COMMAND, CHECK_NICENESS, CHECK_TIMEOUT
from greenroom.daemon.successor import TAKEOVER
from greenroom.errors import GreenroomError, SettingsError

__all__ = ["NO_CHECK", "main", "start"]

NO_CHECK = "--no-check"
"""The settings are taken as they are."""


def start(file: str, *, check: bool, takeover: bool) -> int:
    """Run a worker until it is told to stop; the exit code. Raises ``GreenroomError`` where it cannot be run."""
    checking = _begin_check(file, aside=takeover) if check else None
    # The daemon never loads plugins or the user's code: that is checked in a process of its own, while this one gets
    # ready.
    with lean.left_out("cryptography"):
        import livekit.api.access_token  # noqa: F401  # with jwt: what it signs here needs a hash and no more

    from greenroom.daemon.daemon import run
    from greenroom.ops import logs
    from greenroom.settings_file import load

    if checking is not None and (wrong := _finish_check(checking, file)):
        return wrong
    settings = load(file)
    logs.configure(settings.logs.level, settings.logs.format)
    logs.hide(settings.server.api_secret)
    return run(settings, takeover=takeover)


def _begin_check(file: str, *, aside: bool) -> subprocess.Popen[bytes]:
    """``aside``: calls go on here, and go before it."""
    command = [sys.executable, *CHECK_COMMAND, file]
    checking = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    if aside:
        os.setpriority(os.PRIO_PROCESS, checking.pid, CHECK_NICENESS)
    return checking


def _finish_check(checking: subprocess.Popen[bytes], file: str) -> int:
    """0 when the settings are right. What is wrong the other process has said."""
    try:
        code = checking.wait(CHECK_TIMEOUT)
    except subprocess.TimeoutExpired:
        checking.kill()
        checking.wait()
        raise GreenroomError(
            f"{file}: not checked within {CHECK_TIMEOUT:g} s; expected agents that import sooner, or --no-check"
        ) from None
    return max(code, 1) if code else 0


def main(words: Sequence[str]) -> NoReturn:
    """Leave the process with an exit code, and at once: the worker has closed what it had, and taking its modules apart
    would keep who waits for it for a quarter of a second more."""
    file, *options = words
    try:
        code = start(file, check=NO_CHECK not in options, takeover=TAKEOVER in options)
    except GreenroomError as error:
        if os.environ.get("GREENROOM_DEBUG"):
            raise
        sys.stderr.write(f"{error}\n")
        code = 2 if isinstance(error, SettingsError) else 1
    except KeyboardInterrupt:  # before the worker heeds it
        code = 128 + signal.SIGINT
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
