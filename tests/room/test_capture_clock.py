"""Capture times out of late and uneven arrivals."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.room.capture import WINDOW, CaptureClock

RATE, SIZE = 16_000, 512
DURATION = SIZE / RATE


def arrival(n: int) -> float:
    """When the n-th frame is complete if audio comes in pieces of 10 ms, the first of them at 10 ms."""
    end = (n + 1) * SIZE
    return -(-end // 160) * 0.010


def test_pieces_of_10_ms_do_not_show_once_settled() -> None:
    clock = CaptureClock(RATE)
    times = [clock.stamp(SIZE, arrival(n)) for n in range(200)]
    for n, at in enumerate(times[10:], start=10):
        assert at == pytest.approx(n * DURATION, abs=1e-9)


def test_a_late_start_is_made_good_without_running_backwards() -> None:
    clock = CaptureClock(RATE)
    times = [clock.stamp(SIZE, (n + 1) * DURATION + (0.030 if n == 0 else 0.0)) for n in range(10)]
    assert times[0] == pytest.approx(0.030)
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert times[-1] == pytest.approx(9 * DURATION)


def test_a_busy_loop_changes_nothing() -> None:
    clock = CaptureClock(RATE)
    randomness = random.Random(1)
    for n in range(500):
        delay = randomness.random() * 0.020 if n % 7 else 0.0
        delay = 0.4 if 100 <= n < 103 else delay
        at = clock.stamp(SIZE, (n + 1) * DURATION + delay)
        assert at == pytest.approx(n * DURATION, abs=0.021 if n < 7 else 1e-9)


def test_missing_audio_shows_as_a_gap_once_it_cannot_be_lateness() -> None:
    clock = CaptureClock(RATE)
    for n in range(100):
        clock.stamp(SIZE, (n + 1) * DURATION)
    lost = 0.5
    times = [clock.stamp(SIZE, (n + 1) * DURATION + lost) for n in range(100, 300)]
    late = round(WINDOW / DURATION) + 2
    for n, at in enumerate(times[late:], start=100 + late):
        assert at == pytest.approx(n * DURATION + lost)


def test_a_new_track_does_not_overlap_the_one_before() -> None:
    clock = CaptureClock(RATE, not_before=10.0)
    assert clock.stamp(SIZE, 10.010) == 10.0


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=100), st.floats(-5, 5))
def test_times_increase_are_never_too_early_and_find_the_truth(delays: list[float], offset: float) -> None:
    clock = CaptureClock(RATE)
    last, latest = float("-inf"), float("-inf")
    for n, delay in enumerate(delays + [0.0] * 8):
        latest = max(latest, offset + (n + 1) * DURATION + delay)  # frames arrive in order
        at = clock.stamp(SIZE, latest)
        assert at > last
        assert at >= offset + n * DURATION - 1e-9
        last = at
    assert last == pytest.approx(offset + (len(delays) + 7) * DURATION, abs=1e-9)
