"""How seams are found in calls that were kept, for every overlap that they could have had.

``make test-instant INSTANT="--keep FOLDER"`` keeps calls. ``python -m tests.instant.overlaps FOLDER...`` cuts the end
of each recording so that it overlaps the live audio by so much, looks for the seam as the worker does, with clocks that
are as wrong as a call's, and asks the source what that cut is worth. Counted are overlaps of which more than
``DUPLICATED`` seconds of sound would be heard twice, and cuts that lose more than ``MISSING`` of it.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from greenroom.audio import Pcm
from greenroom.room.preconnect.seam import find_seam
from tests.instant.report import Recordings, first_sound
from tests.instant.seam import Ruler
from tests.instant.tap import RATE, Tapped
from tests.instant.words import Source

__all__ = ["Call", "Count", "main"]

EDGES = (-0.06, 0.0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.11, 0.16, 0.25)
RANGES = tuple(itertools.pairwise(EDGES))
"""Overlaps, seconds; below zero it is a gap."""
EACH = 1
"""Overlaps of each range that are tried with each call."""
LATE, VARIES = 0.025, 0.025
"""By so much longer than it is the clocks have an overlap, and by how much that varies. Seconds."""
DUPLICATED, MISSING = 0.02, 0.01


@dataclass(frozen=True, slots=True)
class Call:
    """``live`` from its first sound on; ``head``: the source time of that; ``end``: that of the recording's end."""

    ruler: Ruler
    recorded: Pcm
    live: Pcm
    head: float
    end: float


@dataclass
class Count:
    tried: int = 0
    found: int = 0
    twice: int = 0
    lost: int = 0

    def add(self, call: Call, overlap: float, random: np.random.Generator) -> None:
        """Nothing is added where the recording does not reach so far."""
        kept = len(call.recorded) - round((call.end - call.head - overlap) * RATE)
        if not RATE // 4 < kept <= len(call.recorded):
            return
        recorded, ruler = call.recorded[:kept], call.ruler
        self.tried += 1
        seam = find_seam(recorded, call.live, RATE, expected=overlap + float(random.normal(LATE, VARIES)))
        if seam is None:
            self.twice += ruler.sounding(call.head, call.head + overlap) > DUPLICATED
            return
        self.found += 1
        near = call.head + overlap - (kept - seam.recorded) / RATE
        before = ruler.moment(recorded, seam.recorded / RATE, near=near, ending=True)
        behind = ruler.moment(call.live, seam.live / RATE, near=near, ending=False)
        self.twice += ruler.sounding(behind, before) > DUPLICATED
        self.lost += ruler.sounding(before, behind) > MISSING


def _calls(folder: Path) -> Iterator[Call]:
    source = Source.read(folder)
    ruler = Ruler(source.at(RATE), source.words, sample_rate=RATE)
    for path in sorted(folder.glob("*.npz")):
        recordings = Recordings.of(Tapped.read(path))
        live = recordings.live[round(first_sound(recordings.live) * RATE) :]
        found = ruler.measure(recordings.buffer), ruler.measure(live)
        if not all(found):
            continue
        length = len(recordings.buffer) / RATE
        end = ruler.end(recordings.buffer, length, found[0], ending=True)
        head = ruler.end(live, 0.0, found[1], ending=False)
        yield Call(ruler, recordings.buffer, live, head, end)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.instant.overlaps", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    random, counts = np.random.default_rng(1), [Count() for _ in RANGES]
    calls = [call for folder in parser.parse_args().folders for call in _calls(folder)]
    for call in calls:
        for count, (low, high) in zip(counts, RANGES, strict=True):
            for overlap in random.uniform(low, high, EACH):
                count.add(call, float(overlap), random)
    sys.stdout.write(f"{len(calls)} calls\n| overlap | found | heard twice | lost |\n|---|---|---|---|\n")
    for count, (low, high) in zip(counts, RANGES, strict=True):
        columns = (
            f"{1000 * low:.0f} to {1000 * high:.0f} ms",
            f"{count.found} of {count.tried}",
            count.twice,
            count.lost,
        )
        sys.stdout.write("| " + " | ".join(map(str, columns)) + " |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
