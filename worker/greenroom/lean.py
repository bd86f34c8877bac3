"""What large packages import for features that nobody here uses is left out. Import it before them.

``structlog`` would load ``rich`` for tracebacks that are not written here: 3 MB. Programs that begin with this are the
worker and its fork server. The worker leaves ``cryptography`` out, too, which ``jwt`` loads for signatures that LiveKit
does not take: 5 MB. What is forked has all of ``jwt``: the user's code runs there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["left_out"]


@contextmanager
def left_out(*names: str) -> Iterator[None]:
    """Inside, importing these fails, as it does where they are not installed. Those that are loaded stay so."""
    mine = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(mine))  # type: ignore[arg-type]  # None is what says so
    try:
        yield
    finally:
        for name in mine:
            del sys.modules[name]


with left_out("rich"):
    import structlog  # noqa: F401
