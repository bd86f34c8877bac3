"""What is counted of overlaps that were made."""

from __future__ import annotations

import numpy as np
import pytest

from tests.instant.overlaps import Call, Count
from tests.instant.seam import Ruler
from tests.instant.tap import RATE
from tests.room.preconnect.sounds import begun, recoded, resampled, voice

PACKET = 100
HEAD, END = PACKET * 0.02, 2.4


@pytest.fixture(scope="module")
def call() -> Call:
    source = voice(5.0, 48_000, seed=2)
    recorded = resampled(recoded(source, bit_rate=96_000, frame=0.06), 48_000, RATE)[: round(END * RATE)]
    live = resampled(begun(source, PACKET), 48_000, RATE)[: RATE // 2]
    return Call(Ruler(resampled(source, 48_000, RATE), (), sample_rate=RATE), recorded, live, HEAD, END)


@pytest.mark.parametrize("overlap", [0.08, 0.2])
def test_an_overlap_that_is_found_is_neither_heard_twice_nor_lost(call: Call, overlap: float) -> None:
    count = Count()
    count.add(call, overlap, np.random.default_rng(1))
    assert count == Count(tried=1, found=1)


def test_a_gap_is_not_found(call: Call) -> None:
    count = Count()
    count.add(call, -0.03, np.random.default_rng(1))
    assert count == Count(tried=1)


def test_an_overlap_that_is_not_found_is_heard_twice(call: Call) -> None:
    """As the live audio is another's."""
    other = resampled(voice(3.0, 48_000, seed=9), 48_000, RATE)[: RATE // 2]
    count = Count()
    count.add(Call(call.ruler, call.recorded, other, HEAD, END), 0.3, np.random.default_rng(1))
    assert count == Count(tried=1, twice=1)


def test_a_call_without_so_much_overlap_is_not_tried(call: Call) -> None:
    count = Count()
    count.add(call, END - HEAD + 0.01, np.random.default_rng(1))
    assert count == Count()
