"""``python -m tests.guard``: what the hot paths take on this Python, beside what they may take.

``--where 'frame in, voice'``: which functions of greenroom that is. ``--record``: let what they take now be the bound.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import defaultdict

import msgspec
import structlog

from tests.guard.bounds import Bounds, Figures, measure, measured, version
from tests.guard.counting import Meter
from tests.guard.paths import PATHS

__all__ = ["main"]


def table(taken: dict[str, Figures], bounds: Bounds) -> str:
    lines = [f"{'':20} {'calls':>16} {'instructions':>20} {'bytes held':>16} {'bytes kept':>16}"]
    for path, figures in taken.items():
        _, bound = bounds.of(version(), path)
        columns = [
            f"{getattr(figures, name):g} of {getattr(bound, name):g}" if bound else f"{getattr(figures, name):g}"
            for name in figures.__struct_fields__
        ]
        widths = (16, 20, 16, 16)
        lines.append(f"{path:20} " + " ".join(f"{each:>{width}}" for each, width in zip(columns, widths, strict=True)))
    return "\n".join(lines) + "\n"


def where(path: str) -> str:
    """The calls and instructions of each function, for each event."""
    meter = Meter()
    PATHS[path].run(meter)
    functions: defaultdict[str, dict[str, float]] = defaultdict(lambda: {"calls": 0.0, "steps": 0.0})
    for (function, what), count in meter.taken.where.items():
        functions[function][what] = count / meter.taken.events
    ordered = sorted(functions.items(), key=lambda entry: -entry[1]["steps"])
    lines = [f"{path}, for each {PATHS[path].event}", f"{'calls':>8} {'instructions':>12}"]
    lines += [f"{taken['calls']:8.2f} {taken['steps']:12.2f}  {function}" for function, taken in ordered]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.guard", description="Count what the hot paths take.")
    parser.add_argument("--where", choices=PATHS, metavar="PATH", help=f"by function; of {', '.join(PATHS)}")
    parser.add_argument("--record", action="store_true", help="let this be the bound, for this version of Python")
    parser.add_argument("--json", action="store_true", help="count in this very process, and write it for a program")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.encode({name: measure(path) for name, path in PATHS.items()}))
        return 0
    if arguments.where:
        sys.stdout.write(where(arguments.where))
        return 0
    taken, bounds = measured(), Bounds.read()
    sys.stdout.write(table(taken, bounds))
    if arguments.record:
        bounds.record(version(), taken)
        bounds.write()
        return 0
    exceeded = [text for path, figures in taken.items() for text in bounds.exceeded(version(), path, figures)]
    sys.stdout.write("".join(f"\n{text}\n" for text in exceeded))
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
