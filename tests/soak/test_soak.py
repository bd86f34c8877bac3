"""What a soak tells from what it measures, and a short one: counts that are exact. Memory needs the long one."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.soak.soaking import Pattern, Sample, Soak
from tests.soak.trend import Trend
from tests.soak.verdict import failures, render

SAMPLE = Sample(
    minutes=0.0,
    calls=8,
    journals=8,
    processes=5,
    descriptors=40,
    connections=1,
    threads=6,
    files=9,
    call_descriptors=30,
    call_threads=25,
    worker_mb=60.0,
    call_mb=30.0,
    all_mb=130.0,
    lag_ms=1.0,
    turn_ms=100.0,
)


def samples(count: int = 60, *, growing: float = 0.0, noise: float = 0.5, **grown: int) -> list[Sample]:
    """One a minute. ``growing``: MB an hour of the call that goes on; ``grown``: counts, by one after so many each."""
    chance, found, drift = random.Random(7), [], 0.0
    for number in range(count):
        drift = 0.7 * drift + chance.gauss(0, noise)  # memory wanders: what was taken is not given back at once
        values = {name: getattr(SAMPLE, name) + number // every for name, every in grown.items()}
        call_mb = SAMPLE.call_mb + growing * number / 60 + drift
        found.append(msgspec.structs.replace(SAMPLE, minutes=float(number), call_mb=call_mb, **values))
    return found


def test_a_trend_is_the_slope_and_what_it_may_be_off_by() -> None:
    times = [number / 60 for number in range(60)]
    exact = Trend.of(times, [3.0 + 5.0 * at for at in times])
    assert exact is not None
    assert exact.slope == pytest.approx(5.0)
    assert exact.error == pytest.approx(0.0, abs=1e-6)
    assert Trend.of(times[:5], times[:5]) is None
    assert Trend.of([1.0] * 10, times[:10]) is None


def test_what_is_only_noise_seldom_passes_for_growth() -> None:
    """As seldom as is said, also where each sample is like the one before."""
    chance, times, alarms = random.Random(11), [number / 60 for number in range(48)], 0
    for _ in range(400):
        value, values = 0.0, []
        for _ in times:
            value = 0.6 * value + chance.gauss(0, 1)
            values.append(value)
        found = Trend.of(times, values)
        assert found is not None
        alarms += found.least > 0.0
    assert alarms <= 16  # 1 % of 400 are 4, and the likeness is itself only estimated


def test_nothing_that_stays_is_told() -> None:
    assert list(failures(samples())) == []
    assert list(failures(samples(2))) == []
    assert "too few samples" in render(samples(2))


def test_memory_that_grows_is_told_with_its_confidence() -> None:
    (told,) = failures(samples(growing=12.0))
    assert told.startswith("memory of the call that goes on grows by 1")
    assert "99% sure" in told
    assert "4 are allowed" in told


def test_memory_is_not_judged_by_two_points() -> None:
    first, *between, last = samples()
    jumped = [first, *between, msgspec.structs.replace(last, call_mb=60.0)]
    assert list(failures(jumped)) == []


def test_counts_that_grow_are_told() -> None:
    (told,) = failures(samples(descriptors=10))
    assert told == (
        "descriptors of the daemon and the fork server grew: 42 at most in the first samples, 44 at least in the last"
    )


def test_a_call_without_a_journal_is_told() -> None:
    (told,) = failures([*samples(), msgspec.structs.replace(SAMPLE, minutes=61.0, calls=9)])
    assert told == "8 journals of 9 calls"


@pytest.mark.e2e
@pytest.mark.models
async def test_a_short_soak() -> None:
    """Two rounds of calls leave what one has left."""
    soak = Soak(Pattern(single=1, together=2, turns=1))
    await soak.run(seconds=0.0, rounds=2)
    assert not soak.wrong
    first, second = soak.samples
    assert second.calls == first.calls + 3
    assert second.journals == second.calls
    for name in ("processes", "descriptors", "threads", "files", "call_descriptors"):
        assert getattr(second, name) <= getattr(first, name), name
    assert second.connections <= 2  # the registration, and perhaps one to the server's API
