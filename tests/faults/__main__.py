"""``make test-faults``: do to calls what happens in production, and count what it costs.

Prints each trial, then the table of ``docs/faults.md`` and what is wrong with it; exits with 1 when anything is.
``python -m tests.faults job-mid-sentence takeover`` tries only these, ``--times 2`` each so often, ``--write`` puts the
rows into the document, ``--keep FOLDER`` leaves all logs there, ``--list`` says what there is.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults import table
from tests.faults.catalogue import SCENARIOS
from tests.faults.runner import try_out
from tests.faults.scenario import Row, Scenario

__all__ = ["main"]


async def measure(arguments: argparse.Namespace) -> list[Row]:
    rows = []
    for kind in _chosen(arguments.names):
        _say(f"{kind.name}: {kind.fault}\n")
        rows.append(await try_out(kind, times=arguments.times or kind.times, say=_say, keep=arguments.keep))
        if arguments.write:  # each row as soon as it is there
            await asyncio.to_thread(table.write, rows[-1:], order=SCENARIOS)
    return rows


def _chosen(names: Sequence[str]) -> list[type[Scenario]]:
    """Those of these names, or all whose names begin with one of them."""
    unknown = [name for name in names if not any(kind.name.startswith(name) for kind in SCENARIOS)]
    if unknown:
        known = "\n  ".join(kind.name for kind in SCENARIOS)
        raise SystemExit(f"there is no fault {', '.join(unknown)}; there are\n  {known}")
    return [kind for kind in SCENARIOS if not names or any(kind.name.startswith(name) for name in names)]


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Do to calls what happens to calls.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults, or beginnings of their names; all of them")
    parser.add_argument("--times", type=int, help="how often each is tried; as often as the table asks for")
    parser.add_argument("--write", action="store_true", help=f"put the rows into {table.DOCUMENT.name}")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="leave logs, journals and notes of all trials there"
    )
    parser.add_argument("--list", action="store_true", help="say what there is")
    arguments = parser.parse_args()
    if arguments.list:
        _say("".join(f"{kind.name:28} {kind.times:4d}  {kind.fault}\n" for kind in SCENARIOS))
        return 0
    logging.disable(logging.CRITICAL)  # LiveKit's client tells at length that lines are cut, which is the point of this
    began = time.monotonic()
    rows = asyncio.run(measure(arguments))
    _say(f"\n{table.HEAD}\n" + "".join(f"{table.line(row)}\n" for row in rows))
    failures = [(row.scenario.name, each) for row in rows for each in row.failures()]
    _say("".join(f"\n{name}: {each.partition(chr(10))[0]}" for name, each in failures))
    _say(f"\n{len(failures)} failures; {time.monotonic() - began:.0f} s\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
