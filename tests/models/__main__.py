"""``make test-models``: weigh a worker with one call and with eight, and see that each model is loaded once.

``python -m tests.models --calls 4`` with so many, ``--apart`` with the model host turned off, to compare. Exits with 1
when the calls weigh more than they may, or a model is loaded more than once.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from tests.models.weighing import ALLOWED_MB, CALLS, LIBRARIES, table, weigh_calls

__all__ = ["main"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.models", description="Weigh a worker with many calls.")
    parser.add_argument("--calls", type=int, default=CALLS, help=f"how many; {CALLS}")
    parser.add_argument("--apart", action="store_true", help="each call loads its own models")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # LiveKit's client
    with tempfile.TemporaryDirectory(prefix="greenroom-") as folder:
        one, many = asyncio.run(weigh_calls(Path(folder), calls=arguments.calls, shared=not arguments.apart))
    allowed, more = arguments.calls * ALLOWED_MB, many.mb - one.mb
    sys.stdout.write(f"{table(one, many)}\n\n{more:.0f} MB more; allowed are {allowed:.0f}\n")
    loaded = {model: many.loads(model) for model in LIBRARIES}
    if arguments.apart:
        return 0
    return 0 if more < allowed and all(count == 1 for count in loaded.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
