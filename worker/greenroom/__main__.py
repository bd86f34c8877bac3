"""The ``greenroom`` program: the console script, and ``python -m greenroom``."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from greenroom.cli import main

__all__ = ["run"]

ABRUPT = "livekit.rtc"
"""A program that has loaded it leaves at once."""


def run() -> NoReturn:
    """Run the command line and leave the process.

    Without shutting the interpreter down, where LiveKit's media client was loaded: threads of its own call into Python,
    and one that does so during the shutdown aborts a program that has done its work.
    """
    try:
        main()
    except SystemExit as leaving:
        if ABRUPT not in sys.modules or not isinstance(leaving.code, int | None):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(leaving.code or 0)


if __name__ == "__main__":
    run()
