"""The mix: levels, fades, ducking, ends, and the same again when it is read again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.audio import Pcm
from greenroom.background.envelope import Envelope
from greenroom.background.mixer import SOFT, Ducking, Mixer, Part
from greenroom.background.sounds import Clip

RATE = 24_000
BLOCK = 1200


def level(amplitude: int, seconds: float) -> Clip:
    return Clip(np.full(round(seconds * RATE), amplitude, dtype=np.int16))


def ramp(samples: int) -> Pcm:
    return np.arange(1, samples + 1, dtype=np.int16)


def part(sound: Clip, *, volume: float = 1.0, fade_in: float = 0.0, fade_out: float = 0.0) -> Part:
    return Part(sound, sample_rate=RATE, volume=volume, fade_in=fade_in, fade_out=fade_out)


def read(mixer: Mixer, seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    count = round(seconds * RATE)
    return np.concatenate([mixer.read(min(BLOCK, count - start)) for start in range(0, count, BLOCK)])


def test_an_envelope_rises_and_falls_with_equal_power() -> None:
    envelope = Envelope(0.0)
    envelope.go(1.0, samples=100)
    rising = np.asarray(envelope.take(0, 101))
    assert rising[0] == 0.0
    assert rising[50] == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert rising[100] == pytest.approx(1.0)
    assert envelope.take(101, 10) == 1.0
    envelope.go(0.0, samples=100)
    falling = np.asarray(envelope.take(200, 101))
    assert falling[50] == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert np.allclose(falling**2 + rising**2, 1.0, atol=1e-6)


def test_an_envelope_that_is_asked_again_says_the_same_and_turns_from_where_it_is() -> None:
    envelope = Envelope(1.0)
    envelope.take(0, 50)
    envelope.go(0.0, samples=100)
    once = np.asarray(envelope.take(50, 80))
    assert np.array_equal(once, np.asarray(envelope.take(50, 80)))
    assert np.array_equal(np.asarray(envelope.take(40, 10)), np.ones(10))
    envelope.go(1.0, samples=100)  # halfway down it is to come back
    back = np.asarray(envelope.take(100, 100))
    assert back[0] == pytest.approx(once[50], abs=1e-6)
    assert (np.diff(back) >= 0).all()


def test_parts_are_summed_each_at_its_volume() -> None:
    mixer = Mixer(RATE)
    mixer.add(part(level(1000, 1.0)))
    mixer.add(part(level(2000, 1.0), volume=0.25))
    assert np.allclose(read(mixer, 0.5)[round(SOFT * RATE) :], 1500)


def test_nothing_begins_or_ends_with_a_click() -> None:
    mixer = Mixer(RATE)
    loud = part(level(20_000, 5.0))
    mixer.add(loud)
    first = read(mixer, 0.1)
    loud.stop()
    last = read(mixer, 0.1)
    heard = np.concatenate((first, last))
    assert heard[0] == 0.0
    assert heard[-1] == 0.0
    assert np.abs(np.diff(heard)).max() < 20_000 / (SOFT * RATE) * 2
    assert not mixer.playing


def test_a_fade_takes_its_time_and_its_end_is_known() -> None:
    mixer = Mixer(RATE)
    faded = part(level(8000, 10.0), fade_in=0.4, fade_out=1.0)
    mixer.add(faded)
    heard = read(mixer, 1.0)
    assert heard[round(0.2 * RATE)] == pytest.approx(8000 * np.sin(np.pi / 4), rel=0.01)
    assert np.allclose(heard[round(0.4 * RATE) :], 8000)
    faded.stop()
    mixer.read(BLOCK)
    assert faded.end == round(2.0 * RATE)
    assert mixer.reap(round(1.99 * RATE)) == []
    read(mixer, 1.0)
    assert mixer.reap(round(2.0 * RATE)) == [faded]
    assert faded.sound.ended


def test_a_second_stop_does_not_begin_the_fade_again() -> None:
    mixer = Mixer(RATE)
    faded = part(level(8000, 10.0), fade_out=0.3)
    mixer.add(faded)
    read(mixer, 0.5)
    faded.stop()
    read(mixer, 0.1)
    faded.stop()
    read(mixer, 0.1)
    assert faded.end == round(0.8 * RATE)


def test_ducking_goes_down_and_comes_back() -> None:
    mixer = Mixer(RATE, ducking=Ducking(to=0.25, attack=0.1, release=0.5))
    mixer.add(part(level(8000, 10.0)))
    assert np.allclose(read(mixer, 0.5)[BLOCK:], 8000)
    mixer.duck(down=True)
    down = read(mixer, 0.5)
    assert (np.diff(down[: round(0.1 * RATE)]) <= 0.01).all()
    assert np.allclose(down[round(0.1 * RATE) :], 2000)
    mixer.duck(down=True)
    assert np.allclose(read(mixer, 0.2), 2000)
    mixer.duck(down=False)
    back = read(mixer, 1.0)
    assert back[round(0.25 * RATE)] == pytest.approx(2000 + 6000 * np.sin(np.pi / 4), rel=0.01)
    assert np.allclose(back[round(0.5 * RATE) :], 8000)


def test_a_loop_has_no_seam() -> None:
    mixer = Mixer(RATE)
    pcm = ramp(1000)
    mixer.add(Part(Clip(pcm, loop=True), sample_rate=RATE))
    heard = read(mixer, 0.5)[round(SOFT * RATE) :]
    assert np.array_equal(heard, np.resize(pcm, 12_000)[round(SOFT * RATE) :].astype(np.float32))


def test_what_has_ended_is_over_at_its_last_sample() -> None:
    mixer = Mixer(RATE)
    short = part(Clip(ramp(1000)))
    mixer.add(short)
    assert mixer.playing
    heard = mixer.read(BLOCK)
    assert short.end == 1000
    assert not heard[1000:].any()
    assert not mixer.playing
    assert not mixer.read(BLOCK).any()
    assert mixer.reap(999) == []
    assert mixer.reap(1000) == [short]


def test_a_sound_that_is_late_is_heard_whole_after_the_silence() -> None:
    class Late(Clip):
        late = True

        def take(self, samples: int) -> Pcm:
            return super().take(0 if self.late else samples)

    mixer, sound = Mixer(RATE), Late(np.full(2000, 500, dtype=np.int16))
    mixer.add(part(sound))
    assert not mixer.read(BLOCK).any()
    sound.late = False
    heard = np.concatenate([mixer.read(BLOCK), mixer.read(BLOCK)])
    assert np.count_nonzero(heard) == 2000


def test_what_was_taken_back_sounds_as_it_is_to_sound_now() -> None:
    mixer = Mixer(RATE)
    first, second = part(Clip(ramp(20_000))), part(level(300, 1.0))
    mixer.add(first)
    once = np.concatenate([mixer.read(BLOCK) for _ in range(5)])
    mixer.rewind(4 * BLOCK)
    first.turn(0.5, seconds=0.01)
    mixer.add(second)
    again = np.concatenate([mixer.read(BLOCK) for _ in range(4)])
    settled = round(0.01 * RATE)
    assert np.allclose(again[settled:], once[BLOCK + settled :] * 0.5 + 300, atol=0.01)
    mixer.rewind(4 * BLOCK + 100)  # to before both changes
    assert np.array_equal(mixer.read(100), once[BLOCK - 100 : BLOCK])
    assert np.array_equal(mixer.read(4 * BLOCK), again)


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 5000)), max_size=30),
    length=st.integers(1, 30_000),
    loop=st.booleans(),
)
def test_reading_again_gives_the_same_samples(steps: list[tuple[int, int]], length: int, loop: bool) -> None:
    pcm = np.resize(ramp(30_000), length)
    mixer = Mixer(RATE)
    mixer.add(part(Clip(pcm, loop=loop), fade_in=0.3, volume=0.7))
    whole = Mixer(RATE)
    whole.add(part(Clip(pcm, loop=loop), fade_in=0.3, volume=0.7))
    expected = np.concatenate([whole.read(10_000) for _ in range(10)])
    for forward, back in steps:
        start = mixer.position
        assert np.allclose(mixer.read(forward), expected[start : start + forward], atol=1e-2)
        mixer.rewind(min(back, mixer.position))
