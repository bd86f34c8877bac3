"""``make test-models``: weigh a worker with one call and with eight, and see that each model is loaded once.

``python -m tests.models --calls 4`` with so many, ``--apart`` with the model host turned off, to compare. Exits with 1
when the calls weigh more than they may, or a model is loaded more than once. ``--way`` instead measures how long an
utterance takes to the host and back.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from tests.models.way import SECONDS, measure_way
from tests.models.weighing import ALLOWED_MB, CALLS, LIBRARIES, table, weigh_calls

__all__ = ["main"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.models", description="Weigh a worker with many calls.")
    parser.add_argument("--calls", type=int, default=CALLS, help=f"how many; {CALLS}")
    parser.add_argument("--apart", action="store_true", help="each call loads its own models")
    parser.add_argument("--way", action="store_true", help="only measure the way to the host and back")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # LiveKit's client
    with tempfile.TemporaryDirectory(prefix="greenroom-") as folder:
        if arguments.way:
            seconds = asyncio.run(measure_way(Path(folder)))
            sys.stdout.write(f"{SECONDS} s of sound to the host, and its words back: {1000 * seconds:.1f} ms\n")
            return 0
        one, many = asyncio.run(weigh_calls(Path(folder), calls=arguments.calls, shared=not arguments.apart))
    allowed, more = arguments.calls * ALLOWED_MB, many.mb - one.mb
    sys.stdout.write(f"{table(one, many)}\n\n{more:.0f} MB more; allowed are {allowed:.0f}\n")
    loaded = {model: many.loads(model) for model in LIBRARIES}
    if arguments.apart:
        return 0
    return 0 if more < allowed and all(count == 1 for count in loaded.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
