"""What a soak shows: trends and counts, and in words what grew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.soak.soaking import Sample
from tests.soak.trend import CONFIDENCE, Trend

__all__ = ["COUNTS", "MEASURES", "Measure", "failures", "render", "settled"]

WARM_UP = 0.2
"""Share of the samples that are not judged: caches fill, and allocators take what they keep."""
FEWEST = 9
"""Samples without which counts tell nothing: a third of them is too few to be sure that something stays."""


@dataclass(frozen=True, slots=True)
class Measure:
    """``limit``: it may grow by so much an hour; the history of a call that talks all the time is 1 MB of it."""

    name: str
    what: str
    unit: str
    limit: float


MEASURES = (
    Measure("worker_mb", "memory of the daemon and the fork server", "MB", 2.0),
    Measure("call_mb", "memory of the call that goes on", "MB", 4.0),
    Measure("all_mb", "memory of all processes", "MB", 6.0),
    Measure("lag_ms", "lateness of the daemon's loop", "ms", 20.0),
    Measure("turn_ms", "a turn of the call that goes on, beyond its models", "ms", 30.0),
)
COUNTS = {
    "processes": "processes",
    "descriptors": "descriptors of the daemon and the fork server",
    "connections": "connections of the daemon and the fork server",
    "threads": "threads of the daemon and the fork server",
    "files": "files, journals apart",
    "call_descriptors": "descriptors of the call that goes on",
    "call_threads": "threads of the call that goes on",
}


def settled(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Those after the first ones, of which one at least is left out."""
    return samples[max(1, round(WARM_UP * len(samples))) :]


def trend(samples: Sequence[Sample], measure: Measure) -> Trend | None:
    """An hour."""
    points = [(sample.minutes / 60, getattr(sample, measure.name)) for sample in settled(samples)]
    known = [(at, value) for at, value in points if value is not None]
    return Trend.of([at for at, _ in known], [value for _, value in known])


def failures(samples: Sequence[Sample]) -> Iterator[str]:
    """What grew, in words. Of too few samples nothing is told but calls without a journal."""
    for measure in MEASURES:
        found = trend(samples, measure)
        if found is not None and found.least > measure.limit:
            yield (
                f"{measure.what} grows by {found.slope:.2f} ± {found.error:.2f} {measure.unit} an hour, by "
                f"{found.least:.2f} at least ({CONFIDENCE:.0%} sure); {measure.limit:g} are allowed"
            )
    for name, what in COUNTS.items():
        values = [getattr(sample, name) for sample in settled(samples)] if len(samples) >= FEWEST else []
        third = len(values) // 3
        early, late = values[:third], values[len(values) - third :]
        if early and min(late) > max(early):
            yield f"{what} grew: {max(early)} at most in the first samples, {min(late)} at least in the last"
    if samples and samples[-1].journals != samples[-1].calls:
        yield f"{samples[-1].journals} journals of {samples[-1].calls} calls"


def render(samples: Sequence[Sample]) -> str:
    """For people: each measure's trend, each count's range."""
    lines = [f"{'':52} {'first':>9} {'last':>9}  an hour, {CONFIDENCE:.0%} sure"]
    judged = settled(samples)
    for measure in MEASURES:
        values = [value for sample in judged if (value := getattr(sample, measure.name)) is not None]
        found = trend(samples, measure)
        told = "too few samples"
        if found is not None:
            told = f"{found.slope:+.2f} ± {found.error:.2f} {measure.unit}, {measure.limit:g} allowed"
            if found.error > measure.limit:
                told += "; not known so far: a longer run tells more"
        first, last = (f"{values[0]:.1f}", f"{values[-1]:.1f}") if values else ("–", "–")
        lines.append(f"{measure.what:52} {first:>9} {last:>9}  {told}")
    for name, what in COUNTS.items():
        counted = [getattr(sample, name) for sample in judged]
        if counted:
            lines.append(f"{what:52} {counted[0]:9d} {counted[-1]:9d}  from {min(counted)} to {max(counted)}")
    return "\n".join(lines) + "\n"
