"""What a fault is to these tests: something that is done to calls, over and over, and what it cost each time."""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

__all__ = ["Row", "Scenario", "Trial", "missing"]


@dataclass(frozen=True, slots=True)
class Trial:
    """What one fault cost.

    ``seconds``: from the fault until the agent was heard again; of several calls the longest; ``None`` where nothing
    is measured. ``lost``: calls. ``words_lost``: of the history. ``wrong``: what should not have been, for people.
    """

    seconds: float | None = None
    lost: int = 0
    words_lost: int = 0
    wrong: tuple[str, ...] = ()


@dataclass
class Row:
    """All trials of one scenario."""

    scenario: type[Scenario]
    trials: list[Trial] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return sum(trial.lost for trial in self.trials)

    @property
    def words_lost(self) -> int:
        return sum(trial.words_lost for trial in self.trials)

    @property
    def seconds(self) -> list[float]:
        return [trial.seconds for trial in self.trials if trial.seconds is not None]

    def failures(self) -> list[str]:
        """What this row shows that it should not, in words."""
        scenario, found = self.scenario, [*self.wrong]
        found += [f"trial {number}: {each}" for number, trial in enumerate(self.trials, 1) for each in trial.wrong]
        if self.lost:
            found.append(f"{self.lost} calls were lost")
        if self.words_lost and not scenario.forgets:
            found.append(f"{self.words_lost} words of history were lost")
        if self.seconds:
            for name, taken, limit in (
                ("median", statistics.median(self.seconds), scenario.median),
                ("worst", max(self.seconds), scenario.worst),
            ):
                if limit is not None and taken > limit:
                    found.append(f"the {name} of {taken:.2f} s is more than {limit:g} s")
        return found


class Scenario(ABC):
    """One row of the table. Opened once, then ``run`` as often as wanted; opened anew after a trial that failed.

    ``calls``: how many the fault is done to; all of them count as lost when a trial breaks off. ``median`` and
    ``worst``: seconds that may pass until the agent is heard again. ``forgets``: losing the history is what is
    documented.
    """

    name: ClassVar[str]
    fault: ClassVar[str]
    times: ClassVar[int]
    calls: ClassVar[int] = 1
    median: ClassVar[float | None] = None
    worst: ClassVar[float | None] = None
    forgets: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.noted: list[str] = []
        """For who reads the trials: what was measured besides."""

    @abstractmethod
    async def open(self, stack: AsyncExitStack) -> None:
        """Start what all trials share."""

    @abstractmethod
    async def run(self) -> Trial:
        """Do it once. Raises ``Missed`` when something did not happen in time."""

    async def close(self) -> list[str]:
        """After the last trial: what is wrong with all of them together."""
        return []


def missing(expected: Sequence[str], known: Sequence[str]) -> list[str]:
    """The words that are not in ``known``, in their order."""
    # The longest common subsequence, from the end: best[i][j] of expected[i:] and known[j:].
    best = [[0] * (len(known) + 1) for _ in range(len(expected) + 1)]
    for i in reversed(range(len(expected))):
        for j in reversed(range(len(known))):
            same = expected[i] == known[j]
            best[i][j] = best[i + 1][j + 1] + 1 if same else max(best[i + 1][j], best[i][j + 1])
    lost, i, j = [], 0, 0
    while i < len(expected):
        if j < len(known) and expected[i] == known[j]:
            i, j = i + 1, j + 1
        elif j < len(known) and best[i][j + 1] >= best[i + 1][j]:
            j += 1
        else:
            lost.append(expected[i])
            i += 1
    return lost
