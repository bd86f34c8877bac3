"""When something could be heard: synthetic signals whose bounds are known to the sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.audio import Pcm
from greenroom.embedded.measure import AUDIBLE, WINDOW, Ear, StreamClock, audible_span

RATE = 24000
FRAME = RATE // 100


def tone(seconds: float, *, amplitude: float = 8000.0, rate: int = RATE) -> Pcm:
    """A cosine: loud from its first sample to, within a period, its last."""
    time = np.arange(round(seconds * rate)) / rate
    return np.asarray(amplitude * np.cos(2 * np.pi * 440 * time), dtype=np.int16)


def quiet(seconds: float, *, rate: int = RATE) -> Pcm:
    return np.zeros(round(seconds * rate), dtype=np.int16)


def test_span_of_a_tone_between_silences() -> None:
    pcm = np.concatenate([quiet(0.1), tone(0.3), quiet(0.2)])
    span = audible_span(pcm, sample_rate=RATE)
    assert span is not None
    assert span[0] == 0.1 * RATE
    assert span[1] == pytest.approx(0.4 * RATE, abs=RATE / 440 / 2)


def test_silence_and_a_codecs_noise_have_no_span() -> None:
    noise = np.random.default_rng(1).normal(0, 20, RATE).astype(np.int16)
    assert audible_span(quiet(1.0), sample_rate=RATE) is None
    assert audible_span(noise, sample_rate=RATE) is None
    assert audible_span(np.zeros(0, dtype=np.int16), sample_rate=RATE) is None


def test_a_single_click_is_no_sound() -> None:
    pcm = quiet(0.1)
    pcm[500] = int(AUDIBLE * 5)
    assert audible_span(pcm, sample_rate=RATE) is None


@given(lead=st.integers(0, 4000), length=st.integers(600, 4000), tail=st.integers(0, 4000))
def test_span_is_exact_at_the_start_and_within_a_window_at_the_end(lead: int, length: int, tail: int) -> None:
    loud = np.full(length, 2000, dtype=np.int16)
    pcm = np.concatenate([np.zeros(lead, dtype=np.int16), loud, np.zeros(tail, dtype=np.int16)])
    span = audible_span(pcm, sample_rate=RATE)
    assert span is not None
    # A window of which the sound fills too little to be audible may be missing at either end.
    slack = round(WINDOW * RATE)
    assert lead <= span[0] < lead + slack
    assert lead + length - slack < span[1] <= lead + length


@given(delays=st.lists(st.floats(0, 0.15), min_size=1, max_size=200))
def test_jitter_moves_no_sample_by_more_than_the_least_delay(delays: list[float]) -> None:
    clock = StreamClock(RATE, drift=0.0)
    least = delays[0]
    for index, delay in enumerate(delays):
        least = min(least, delay)
        placed = clock.place(FRAME, 10.0 + (index + 1) * 0.01 + delay)
        assert placed == pytest.approx(10.0 + index * 0.01 + least, abs=1e-6)


def test_a_stream_that_paused_begins_anew() -> None:
    clock = StreamClock(RATE)
    clock.place(FRAME, 1.01)
    assert clock.place(FRAME, 3.01) == pytest.approx(3.0)


def test_the_clock_follows_a_slow_sender() -> None:
    clock = StreamClock(RATE)
    placed = 0.0
    for index in range(6000):  # a minute at 100 parts in a million
        placed = clock.place(FRAME, (index + 1) * 0.01 * 1.0001)
    assert placed == pytest.approx(5999 * 0.01 * 1.0001, abs=0.002)


def heard(*pieces: Pcm, start: float = 5.0) -> Ear:
    ear = Ear(RATE)
    pcm = np.concatenate(pieces)
    for at in range(0, len(pcm), FRAME):
        frame = pcm[at : at + FRAME]
        ear.hear(frame, arrival=start + (at + len(frame)) / RATE)
    return ear


def test_first_audible_sample_after_a_time() -> None:
    ear = heard(quiet(0.5), tone(0.5), quiet(1.0), tone(0.5), quiet(0.5))
    assert ear.first_audible(after=5.0) == pytest.approx(5.5, abs=1e-6)
    assert ear.first_audible(after=5.7) == pytest.approx(5.7), "it is sounding then"
    assert ear.first_audible(after=6.2) == pytest.approx(7.0, abs=1e-6)
    assert ear.first_audible(after=7.6) is None
    assert ear.last_audible == pytest.approx(7.5, abs=0.002)


def test_nothing_heard() -> None:
    ear = heard(quiet(1.0))
    assert ear.first_audible(after=0.0) is None
    assert ear.last_audible is None
    assert Ear(RATE).recording().shape == (0,)


def test_the_recording_keeps_the_pauses_of_the_stream() -> None:
    ear = Ear(RATE)
    ear.hear(tone(0.01), arrival=1.01)
    ear.hear(tone(0.01), arrival=2.01)
    recording = ear.recording()
    assert len(recording) == pytest.approx(1.01 * RATE, abs=2)
    assert not recording[FRAME : round(0.99 * RATE)].any()
