"""Whether two runs say the same: their ratios lie no further apart than the rounds of each do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.bench.cells import Summary
from tests.bench.table import Compared, Row, compare

__all__ = ["Agreement", "agree", "render"]

LEAST = 0.05
"""So far apart two ratios always may be."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """``noise``: how far the ratios may be apart."""

    row: Row
    first: float
    second: float
    noise: float

    @property
    def holds(self) -> bool:
        return abs(self.first - self.second) <= self.noise


def agree(first: Summary, second: Summary) -> list[Agreement]:
    """Of the figures that both have of both contenders."""
    others = {compared.row: compared for compared in compare(second)}
    found = []
    for one in compare(first):
        other = others.get(one.row)
        if other is not None and one.ratio is not None and other.ratio is not None:
            noise = max(LEAST, _spread(one) + _spread(other))
            found.append(Agreement(one.row, one.ratio, other.ratio, noise))
    return found


def render(agreements: Iterable[Agreement]) -> str:
    lines = ["| figure | ratio, first run | second run | within their noise |", "|---|---|---|---|"]
    for each in agreements:
        held = f"yes (± {each.noise:.2f})" if each.holds else f"**no** (± {each.noise:.2f})"
        lines.append(f"| {each.row.label} | {each.first:.2f} | {each.second:.2f} | {held} |")
    return "\n".join(lines)


def _spread(compared: Compared) -> float:
    """By how much a ratio of single rounds may miss that of all: half of what lies between its extremes."""
    ours, peers = compared.ours, compared.peers
    if ours is None or peers is None or min(peers.rounds) <= 0:
        return 0.0
    return (max(ours.rounds) / min(peers.rounds) - min(ours.rounds) / max(peers.rounds)) / 2
