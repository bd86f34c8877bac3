"""When a voice begins and ends, by probabilities and by loudness."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.session.segments import SegmentRules, VoiceSegmenter, VoiceStarted, VoiceStopped

SECONDS = 0.032
SAMPLES = 512
LOUD = [8000] * 4
SILENT = [0] * 4

Window = tuple[float, Sequence[int]]


def near(windows: float) -> Any:
    """So many windows, whatever rounding has made of them."""
    expected: Any = pytest.approx(windows * SECONDS)
    return expected


def pushed(windows: Iterable[Window], rules: SegmentRules | None = None) -> list[VoiceStarted | VoiceStopped]:
    segmenter, found = VoiceSegmenter(rules or SegmentRules()), []
    for number, (probability, peaks) in enumerate(windows):
        # Below zero: there int16 has the loudest sample of all.
        window = np.repeat(-np.asarray(peaks), SAMPLES // len(peaks)).astype(np.int16) if peaks else None
        happened = segmenter.push(probability, at=number * SECONDS, seconds=SECONDS, window=window)
        if happened is not None:
            found.append(happened)
    return found


def test_a_voice_ends_with_its_last_voiced_window_where_nothing_is_known_of_its_loudness() -> None:
    found = pushed([(0.9, ())] * 10 + [(0.0, ())] * 10)
    assert found == [VoiceStarted(0.0), VoiceStopped(near(10))]


def test_a_voice_ends_with_its_last_sound_and_not_when_the_model_has_forgotten_it() -> None:
    remembered = [(0.9, SILENT), (0.7, SILENT), (0.4, SILENT)]
    found = pushed([(0.9, LOUD)] * 9 + [(0.95, [8000, 6000, 0, 0]), *remembered] + [(0.0, SILENT)] * 10)
    assert found == [VoiceStarted(0.0), VoiceStopped(near(9.5))]


def test_what_is_quiet_beside_the_voice_is_no_sound_of_it() -> None:
    noise = [100] * 4  # 38 dB below
    found = pushed([(0.9, LOUD)] * 10 + [(0.6, noise)] * 3 + [(0.0, noise)] * 10)
    assert found[-1] == VoiceStopped(near(10))


def test_a_soft_end_is_a_sound_of_the_voice() -> None:
    soft = [300] * 4  # 29 dB below
    found = pushed([(0.9, LOUD)] * 10 + [(0.6, soft)] * 3 + [(0.0, SILENT)] * 10)
    assert found[-1] == VoiceStopped(near(13))


def test_a_soft_voice_goes_on_after_a_bump() -> None:
    soft, bump = [300] * 4, [30_000] * 4
    found = pushed([(0.9, soft)] * 10 + [(0.9, bump)] + [(0.9, soft)] * 20 + [(0.0, SILENT)] * 10)
    assert found == [VoiceStarted(0.0), VoiceStopped(near(31))]


def test_a_voice_that_the_model_hears_in_silence_ends() -> None:
    """A model that is stuck at 1 holds nobody's turn open."""
    found = pushed([(0.9, LOUD)] * 10 + [(1.0, SILENT)] * 8)
    assert found == [VoiceStarted(0.0), VoiceStopped(near(10))]


windows = st.lists(
    st.tuples(st.floats(0, 1), st.one_of(st.just(()), st.lists(st.integers(0, 32_768), min_size=1, max_size=16))),
    max_size=60,
)


@given(windows)
def test_beginnings_and_ends_take_turns_and_times_rise(given_windows: list[Window]) -> None:
    found = pushed(given_windows)
    kinds = [type(happened) for happened in found]
    assert kinds == [VoiceStarted, VoiceStopped] * (len(kinds) // 2) + [VoiceStarted] * (len(kinds) % 2)
    times = [happened.at for happened in found]
    assert times == sorted(times)
