"""What is new in a sound: alike at one place, and at no other period."""

from __future__ import annotations

import numpy as np
import pytest

from greenroom.room.preconnect.bands import banded
from greenroom.room.preconnect.innovation import innovations_alike
from tests.room.preconnect.sounds import begun, level, recoded, resampled, voice

RATE, HIGH = 16_000, 48_000
BLOCK = 320


def alike(ours: np.ndarray, begins: list[int], theirs: np.ndarray) -> np.ndarray:
    one, other = banded(ours, RATE).wide, banded(theirs, RATE).wide
    return innovations_alike(one, np.array(begins), other, BLOCK, RATE)


@pytest.mark.parametrize("seed", range(4))
def test_a_voice_is_like_itself_where_it_is_and_nowhere_else(seed: int) -> None:
    source = voice(3.0, RATE, seed=seed)
    begins = [first for first in range(8000, 40_000, 1600) if level(source[first : first + BLOCK]) > -35]
    likeness = alike(source, begins, source[4000:44_000])
    for row, begin in zip(likeness, begins, strict=True):
        place = begin - 4000
        assert int(np.argmax(row)) == place
        assert row[place] > 0.9
        row[place - 8 : place + 9] = 0.0
        assert row.max() < 0.75


def test_what_a_decoder_makes_first_is_known_though_it_sounds_otherwise() -> None:
    """By the innovation nine of ten first blocks are found within a millisecond; by the waves fewer."""
    by_innovation, by_wave, asked = 0, 0, 0
    for seed in range(4):
        source = voice(6.0, HIGH, seed=seed)
        recorded = resampled(recoded(source, bit_rate=96_000, frame=0.06), HIGH, RATE)
        for packet in range(60, 220, 16):
            live = resampled(begun(source, packet), HIGH, RATE)[:BLOCK]
            first = packet * BLOCK
            if level(recorded[first : first + BLOCK]) < -30:
                continue
            begins = list(range(first - 480, first + 481))
            asked += 1
            by_innovation += abs(int(np.argmax(alike(recorded, begins, live)[:, 0])) - 480) <= 16
            there = banded(live, RATE).heard
            blocks = np.lib.stride_tricks.sliding_window_view(banded(recorded, RATE).heard, BLOCK)[begins]
            waves = blocks @ there / np.sqrt(np.sum(np.square(blocks), axis=1))
            by_wave += abs(int(np.argmax(waves)) - 480) <= 16
    print(f"decoder begun: {by_innovation} and {by_wave} of {asked} by innovation and by wave")  # noqa: T201
    assert by_innovation >= 0.9 * asked
    assert by_innovation > by_wave


def test_silence_and_rounding_are_like_nothing() -> None:
    source, random = voice(2.0, RATE), np.random.default_rng(1)
    silence = np.zeros(8000, dtype=np.int16)
    rounding = random.integers(-1, 2, 8000).astype(np.int16)
    for ours, theirs in ((silence, source[:8000]), (source[:8000], silence), (silence, silence), (rounding, rounding)):
        likeness = alike(ours, [0, 2000, 8000 - BLOCK], theirs)
        assert np.isfinite(likeness).all()
        assert likeness.max() < 0.6


def test_the_level_of_either_changes_nothing() -> None:
    source = voice(2.0, RATE)
    likeness = alike(source, [8000, 9600], (source[6000:14_000] * 0.25).astype(np.int16))
    assert likeness[0, 2000] > 0.95
    assert likeness[1, 3600] > 0.95
