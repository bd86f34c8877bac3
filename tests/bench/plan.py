"""Which measures there are, and the kinds of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tests.bench.cells import Outcome
from tests.bench.cost import Memories, Processor
from tests.bench.curves import GROWTH
from tests.bench.ends import Crash, Drain
from tests.bench.growth import Growth
from tests.bench.house import House
from tests.bench.latency import Burst, Interruption, Join, Transport, Turn
from tests.bench.worker import Contender

__all__ = ["ALONE", "FULL", "MEASURES", "QUICK", "SIZES", "Measure"]


class Measure(Protocol):
    async def run(self, house: House, contender: Contender) -> Outcome: ...


ALONE = "transport"
"""This measure has no contender."""
MEASURES: Mapping[str, Measure] = {
    "transport": Transport(),
    "join": Join(),
    "burst_warm": Burst(idle=8),
    "burst_short": Burst(idle=2),
    "memory": Memories(),
    "turn": Turn(),
    "turn_preemptive": Turn(preemptive=True),
    "interrupt": Interruption(),
    "cpu": Processor(),
    "drain": Drain(),
    "crash": Crash(),
    GROWTH: Growth(),
}
"""All, in full. ``crash`` is not in a run unless it is asked for: ``make test-faults`` looks closer. ``growth`` has a
run of its own: with it, the full one would take longer than people wait."""
FULL = {name: measure for name, measure in MEASURES.items() if name not in ("crash", GROWTH)}
QUICK: Mapping[str, Measure] = {
    "transport": Transport(times=4),
    "join": Join(times=5),
    "burst_warm": Burst(idle=8),
    "memory": Memories(calls=(0, 4)),
    "turn": Turn(times=6),
    "interrupt": Interruption(times=4),
    "cpu": Processor(calls=(1, 6), seconds=16.0, idle_seconds=6.0),
}
"""The measures of most figures, each smaller: nine minutes and a half at most."""
SIZES: Mapping[str, Mapping[str, Measure]] = {"full": FULL, "quick": QUICK, GROWTH: {GROWTH: MEASURES[GROWTH]}}
