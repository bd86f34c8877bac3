"""Places in a stream and times of capture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.audio import AudioFrame
from greenroom_plugins.openai_realtime.tape import Tape

RATE = 1000


def tape(*frames: tuple[float, int], **limits: float) -> Tape:
    """Frames of so many samples, captured from then on; the samples count up."""
    made = Tape(RATE, **limits)
    for at, count in frames:
        made.push(AudioFrame(np.arange(made.end, made.end + count, dtype=np.int16), RATE, at))
    return made


def samples(data: bytes) -> list[int]:
    return list(np.frombuffer(data, dtype="<i2"))


def test_a_gap_in_the_capture_is_none_in_the_stream() -> None:
    made = tape((10.0, 100), (10.1, 100), (20.0, 100))
    assert (made.begin, made.end) == (0, 300)
    assert [made.time(place) for place in (0, 50, 100, 250)] == pytest.approx([10.0, 10.05, 10.1, 20.05])
    assert [made.place(at) for at in (9.0, 10.05, 15.0, 20.05, 21.0)] == [0, 50, 200, 250, 300]
    assert samples(made.read(198, 203)) == [198, 199, 200, 201, 202]


def test_an_empty_tape() -> None:
    made = tape()
    assert (made.begin, made.end, made.place(1.0), made.time(0), made.read(0, 9)) == (0, 0, 0, 0.0, b"")


def test_it_keeps_the_last_seconds_what_is_held_and_never_too_much() -> None:
    frames = [(number / 10, 100) for number in range(100)]
    made = tape(*frames[:50], lookback=1.0, limit=4.0)
    assert made.begin == 4000
    made.hold = 4300
    for at, count in frames[50:70]:
        made.push(AudioFrame(np.zeros(count, dtype=np.int16), RATE, at))
    assert made.begin == 4300
    for at, count in frames[70:]:
        made.push(AudioFrame(np.zeros(count, dtype=np.int16), RATE, at))
    assert made.begin == 6000


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.data())
def test_a_place_and_its_time_are_one(counts: list[int], data: st.DataObject) -> None:
    at, frames = 5.0, []
    for count in counts:
        frames.append((at, count))
        at += count / RATE + data.draw(st.sampled_from([0.0, 0.5]))
    made = tape(*frames)
    place = data.draw(st.integers(0, made.end - 1))
    assert made.place(made.time(place) + 0.2 / RATE) in (place, place + 1)
    assert samples(made.read(place, made.end)) == list(range(place, made.end))
