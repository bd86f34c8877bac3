"""What one measure found of one contender in one round, and how many rounds together are told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

__all__ = ["Cell", "Outcome", "Statistics", "Summary", "summarise"]

BUSY = 0.3
"""Cores that others used meanwhile, from which on a cell is in doubt."""


@dataclass(slots=True)
class Outcome:
    """``samples``: by metric, whose name ends in the unit. ``checks``: the work that was delivered; see ``checks``."""

    samples: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    checks: dict[str, Any] = field(default_factory=dict)


class Cell(msgspec.Struct, kw_only=True):
    """``foreign_cores``: used by processes that were none of the benchmark's. ``seconds``: how long it took."""

    contender: str
    round: int
    measure: str
    samples: dict[str, list[float]] = {}
    checks: dict[str, Any] = {}
    foreign_cores: float = 0.0
    seconds: float = 0.0
    error: str = ""

    @property
    def doubtful(self) -> bool:
        return bool(self.error) or self.foreign_cores > BUSY


class Statistics(msgspec.Struct, frozen=True):
    """``rounds``: the median of each."""

    n: int
    min: float
    median: float
    p95: float
    max: float
    rounds: list[float]

    @staticmethod
    def of(rounds: Sequence[Sequence[float]]) -> Statistics:
        """Of at least one sample."""
        every = np.array([sample for samples in rounds for sample in samples])
        return Statistics(
            n=len(every),
            min=_rounded(every.min()),
            median=_rounded(np.median(every)),
            p95=_rounded(np.percentile(every, 95)),
            max=_rounded(every.max()),
            rounds=[_rounded(np.median(np.array(samples))) for samples in rounds if samples],
        )


Summary = dict[str, dict[str, dict[str, Statistics]]]
"""By measure, metric and contender."""


def summarise(cells: Iterable[Cell]) -> Summary:
    gathered: dict[tuple[str, str, str], list[list[float]]] = {}
    for cell in cells:
        for metric, samples in cell.samples.items():
            if samples:
                gathered.setdefault((cell.measure, metric, cell.contender), []).append(samples)
    summary: Summary = {}
    for (measure, metric, contender), rounds in gathered.items():
        summary.setdefault(measure, {}).setdefault(metric, {})[contender] = Statistics.of(rounds)
    return summary


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), 3)
