"""The ``greenroom`` program: the console script, and ``python -m greenroom``."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from greenroom.cli import main

__all__ = ["run"]


def run() -> NoReturn:
    """Run the command line and leave the process.

    Where LiveKit's media client was loaded, without shutting the interpreter down: threads of its own call into
    Python, and one that does so during the shutdown aborts a program that has done its work.
    """
    try:
        main()
    except SystemExit as leaving:
        if "livekit.rtc" not in sys.modules or not isinstance(leaving.code, int | None):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(leaving.code or 0)


if __name__ == "__main__":
    run()
