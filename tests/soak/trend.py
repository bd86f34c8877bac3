"""Whether something grows: a slope through all samples, with what it may be off by. No two points decide.

Least squares, and a one-sided bound by Student's t. Samples in a row are alike, which makes a slope look surer than it
is: where the residuals of one sample tell those of the next, so many fewer samples count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

__all__ = ["CONFIDENCE", "FEWEST", "Trend"]

CONFIDENCE = 0.99
FEWEST = 6
"""Samples without which nothing is told."""


@dataclass(frozen=True, slots=True)
class Trend:
    """``slope``: for each unit of time. ``error``: the slope is more than ``slope - error`` with ``CONFIDENCE``, and
    less than ``slope + error`` with as much. ``count``: how many samples it is worth."""

    slope: float
    error: float
    count: float

    @staticmethod
    def of(times: Sequence[float], values: Sequence[float]) -> Trend | None:
        """``None`` of too few samples, or of samples at one time."""
        n = len(times)
        if n < FEWEST or n != len(values):
            return None
        x, y = np.asarray(times, dtype=float), np.asarray(values, dtype=float)
        x = x - x.mean()
        spread = float(x @ x)
        if spread == 0.0:
            return None
        slope = float(x @ (y - y.mean())) / spread
        residuals = y - y.mean() - slope * x
        square = float(residuals @ residuals)
        alike = max(0.0, float(residuals[1:] @ residuals[:-1]) / square) if square else 0.0
        count = max(FEWEST / 2, n * (1 - alike) / (1 + alike))
        deviation = math.sqrt(square / (count - 2) / (spread * count / n))
        return Trend(slope, _quantile(CONFIDENCE, count - 2) * deviation, count)

    @property
    def least(self) -> float:
        """It grows by so much at least."""
        return self.slope - self.error

    @property
    def most(self) -> float:
        """It grows by so much at most."""
        return self.slope + self.error


def _quantile(share: float, freedom: float) -> float:
    """Of Student's t, by the expansion of Cornish and Fisher; a little too small below three degrees of freedom."""
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))
