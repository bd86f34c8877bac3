"""``make soak``: calls for an hour, some at once and one through all of it; fails when anything grows.

``make soak MINUTES=600``, or ``python -m tests.soak --minutes 600``. Progress goes to standard error, a summary to
standard output, every sample to ``--out``. ``--judge FILE`` judges samples that are there.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import msgspec

from tests.bench.house import NoAgent
from tests.faults.waiting import Missed
from tests.soak.soaking import Sample, Soak
from tests.soak.verdict import failures, render

__all__ = ["main"]

MISSED = 0.01
"""Share of turns that may go unanswered, or be answered early."""


def _soak(minutes: float, out: Path) -> tuple[list[Sample], list[str]]:
    soak = Soak()

    def say(sample: Sample) -> None:
        _write(out, soak.samples)
        sys.stderr.write(f"{_told(sample)}\n")
        sys.stderr.flush()

    try:
        asyncio.run(soak.run(seconds=60 * minutes, say=say))
    except (Missed, NoAgent) as error:
        soak.wrong.append(str(error))
    wrong = [*soak.wrong]
    if soak.missed > MISSED * soak.turns:
        wrong.append(f"{soak.missed} of {soak.turns} turns were not answered, or too early")
    sys.stdout.write(f"{soak.turns} turns, {soak.missed} of them not answered or too early\n")
    return soak.samples, wrong


def _told(sample: Sample) -> str:
    turn = "no turn" if sample.turn_ms is None else f"a turn {sample.turn_ms:.0f} ms"
    return (
        f"{sample.minutes:6.1f} min, {sample.calls:4d} calls: worker {sample.worker_mb:.1f} MB, "
        f"call {sample.call_mb:.1f} MB, all {sample.all_mb:.1f} MB; {sample.processes} processes, "
        f"{sample.descriptors}+{sample.call_descriptors} descriptors, "
        f"{sample.connections} connections, {sample.threads}+{sample.call_threads} threads, "
        f"{sample.files} files; loop late by {sample.lag_ms:.1f} ms, {turn}"
    )


def _write(file: Path, samples: list[Sample]) -> None:
    """At once: a soak that is stopped leaves what it has."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(samples), indent=1) + b"\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Calls for a long time: nothing grows.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path("build/soak/samples.json"), metavar="FILE")
    parser.add_argument("--judge", type=Path, metavar="FILE", help="only judge these samples")
    arguments = parser.parse_args()
    wrong: list[str] = []
    if arguments.judge:
        samples = msgspec.json.decode(arguments.judge.read_bytes(), type=list[Sample])
    else:
        samples, wrong = _soak(arguments.minutes, arguments.out)
    sys.stdout.write(f"{render(samples)}")
    wrong += failures(samples)
    sys.stdout.write("".join(f"\n{each}" for each in wrong) + f"\n{len(wrong)} failures\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
