"""``python -m greenroom.embedded.worker FILE``: ``greenroom start`` with a log for its parent to read.

The log is JSON whatever the settings say, and tells of readiness whatever level they set. Nothing is checked here:
the parent has done that.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from greenroom.daemon.daemon import run
from greenroom.ops import logs
from greenroom.settings import LogSettings
from greenroom.settings_file import load

__all__ = ["main"]


def main(config: Path) -> int:
    """Run the worker until it is told to stop; the exit code."""
    settings = load(config)
    level = settings.logs.level if settings.logs.level in ("debug", "info") else "info"
    # A worker in production may be beside it: its port is not for us.
    worker = msgspec.structs.replace(settings.worker, admin=msgspec.structs.replace(settings.worker.admin, port=0))
    settings = msgspec.structs.replace(settings, worker=worker, logs=LogSettings(level=level, format="json"))
    logs.configure(level, "json")
    logs.hide(settings.server.api_secret)
    return run(settings)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
