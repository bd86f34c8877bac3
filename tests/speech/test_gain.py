"""A volume that changes without a click, and by the sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.audio import Pcm
from greenroom.speech.gain import KNEE, LOUDEST, RAMP, Gain

RATE = 8000
LEVEL = 6000
STEEPEST = LEVEL * LOUDEST * np.pi / 2 / (RAMP * RATE) + 1
"""The most that one sample of a constant can differ from the one before while the volume changes."""


def constant(samples: int) -> Pcm:
    return np.full(samples, LEVEL, dtype=np.int16)


def test_at_full_volume_the_samples_are_handed_through() -> None:
    pcm = constant(100)
    assert Gain(RATE).apply(pcm) is pcm


def test_a_change_takes_its_time_and_then_holds() -> None:
    gain = Gain(RATE)
    gain.apply(constant(100))
    gain.aim(0.5)
    out = gain.apply(constant(400))
    ramp = round(RAMP * RATE)
    assert out[0] == LEVEL
    assert np.all(np.diff(out[: ramp + 1]) <= 0)
    assert np.all(out[ramp:] == LEVEL // 2)
    assert gain.volume == 0.5


def test_in_a_silence_it_jumps() -> None:
    gain = Gain(RATE, volume=0.25)
    assert np.all(gain.apply(constant(10)) == LEVEL // 4)
    gain.jump(0.5)
    assert np.all(gain.apply(constant(10)) == LEVEL // 2)


def test_samples_that_are_taken_back_get_the_volume_that_they_had() -> None:
    gain = Gain(RATE)
    gain.apply(constant(50))
    gain.aim(0.0)
    first = gain.apply(constant(100))
    gain.rewind(40)
    assert np.array_equal(gain.apply(constant(40)), first[60:])
    gain.rewind(100)  # before the change, which has not happened then
    assert gain.volume == 1.0
    assert np.array_equal(gain.apply(constant(10)), constant(10))


def test_a_voice_that_is_made_louder_is_rounded_off_and_does_not_wrap() -> None:
    pcm = np.arange(-32768, 32768, dtype=np.int16)
    out = Gain(RATE, volume=LOUDEST).apply(pcm).astype(np.int64)
    assert np.all(np.diff(out) >= 0)
    assert (int(np.min(out)), int(np.max(out))) == (-32767, 32767)
    small = np.abs(pcm * LOUDEST) <= KNEE
    assert np.array_equal(out[small], pcm[small] * LOUDEST)
    assert np.abs(out - np.clip(pcm * LOUDEST, -32767, 32767)).max() < 0.2 * 32767


@given(
    st.lists(
        st.tuples(st.integers(1, 400), st.sampled_from([0.0, 0.2, 1.0, LOUDEST]), st.integers(0, 400)), max_size=12
    )
)
def test_whatever_is_asked_there_is_no_step(script: list[tuple[int, float, int]]) -> None:
    gain, heard = Gain(RATE), constant(1)
    for samples, volume, back in script:
        gain.aim(volume)
        heard = np.concatenate((heard, gain.apply(constant(samples))))
        taken = min(back, len(heard) - 1)
        gain.rewind(taken)
        heard = heard[: len(heard) - taken]
    assert np.abs(np.diff(heard.astype(np.int64))).max(initial=0) <= STEEPEST
    assert gain.apply(constant(0)).size == 0


def test_pieces_change_nothing() -> None:
    whole, parts = Gain(RATE), Gain(RATE)
    for gain in (whole, parts):
        gain.aim(0.3)
    got = np.concatenate([parts.apply(constant(size)) for size in (1, 7, 100, 292)])
    assert np.array_equal(whole.apply(constant(400)), got)
    assert got[-1] == pytest.approx(0.3 * LEVEL, abs=1)
