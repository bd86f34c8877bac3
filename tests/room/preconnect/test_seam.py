"""Where a recording and the live audio meet: found to the sample, and not found where it is not.

``pytest -s`` prints the figures.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.audio import AudioFrame, Pcm
from greenroom.room.capture import CaptureClock
from greenroom.room.preconnect.joint import FADE, FILLED, join
from greenroom.room.preconnect.seam import Seam, find_seam
from greenroom.room.preconnect.splice import Recording, splice, splice_late, stretch
from tests.room.preconnect.sounds import begun, level, recoded, resampled, voice

RATE, HIGH = 16_000, 48_000
SIZE = 512
LENGTH = 14.0
OVERLAPS = (0.0, 0.02, 0.05, 0.08, 0.125, 0.2, 0.3, 0.6)
LOUD = 600.0
"""Where the overlap is quieter than that there is nothing to be found, and nothing to be heard twice."""


@dataclass(frozen=True)
class Condition:
    """``noise``: of each side's own, root mean square. ``gain``: of the live side. ``opus``: both were encoded."""

    noise: float = 0.0
    gain: float = 1.0
    opus: bool = False
    squeezed: bool = False


CONDITIONS = {
    "as it is": Condition(),
    "noise on both sides": Condition(noise=300.0),
    "live 6 dB quieter": Condition(gain=0.5, noise=30.0),
    "live 6 dB louder": Condition(gain=2.0, noise=30.0),
    "Opus on both sides": Condition(opus=True),
    "Opus, noise, 6 dB": Condition(opus=True, noise=150.0, gain=0.5),
    "Opus and a jitter buffer": Condition(opus=True, squeezed=True),
}


@dataclass
class Pair:
    """``moments``: which sample of the overlap's timeline each live one is."""

    recorded: Pcm
    live: Pcm
    moments: np.ndarray

    def error(self, seam: Seam, overlap: int) -> float:
        """Milliseconds that are missing at the seam; repeated ones are below zero."""
        return float(self.moments[seam.live] - overlap + len(self.recorded) - seam.recorded) / RATE * 1000


def squeeze(pcm: Pcm, moments: np.ndarray, at: int) -> tuple[Pcm, np.ndarray]:
    """Take a pitch period out, as a jitter buffer does that has too much."""
    here = pcm[at : at + 208].astype(np.float64)
    period = max(range(56, 208), key=lambda lag: float(np.dot(here, pcm[at + lag : at + lag + 208].astype(np.float64))))
    falling = np.linspace(1.0, 0.0, period)
    crossed = pcm[at : at + period] * falling + pcm[at + period : at + 2 * period] * (1 - falling)
    pcm = np.concatenate((pcm[:at], crossed.astype(np.int16), pcm[at + 2 * period :]))
    return pcm, np.concatenate((moments[: at + period], moments[at + 2 * period :]))


def pair(condition: Condition, *, end: float, overlap: float, seed: int = 1) -> Pair:
    """A recording of three seconds up to ``end``, and live audio from ``overlap`` before that."""
    source, random = voice(LENGTH, HIGH, seed=seed), np.random.default_rng(seed)
    last, first = round(end * HIGH), round((end - overlap) * HIGH)

    def side(pcm: Pcm, bit_rate: int, frame: float) -> Pcm:
        noisy = np.clip(pcm + condition.noise * random.standard_normal(len(pcm)), -32768, 32767).astype(np.int16)
        return resampled(recoded(noisy, bit_rate=bit_rate, frame=frame) if condition.opus else noisy, HIGH, RATE)

    recorded = side(source[last - 3 * HIGH : last], 96_000, 0.06)
    louder = np.clip(source[first : first + 2 * HIGH] * condition.gain, -32768, 32767).astype(np.int16)
    live = side(louder, 32_000, 0.02)
    moments = np.arange(len(live), dtype=np.float64)
    if condition.squeezed:
        for at in random.integers(0, round(0.6 * RATE), 4):
            live, moments = squeeze(live, moments, int(at))
    return Pair(recorded, live, moments)


def clocks(overlap: float, random: np.random.Generator) -> float:
    """What clocks make of an overlap: a recording arrives a little later than the live audio of the same moment."""
    return overlap + float(random.normal(0.015, 0.03))


def figures(condition: Condition, overlap: float) -> tuple[list[float], list[float], int]:
    """The errors in ms, those of the level in dB, and how often an audible overlap was not found."""
    errors, steps, missed = [], [], 0
    random = np.random.default_rng(round(1000 * overlap))
    for number, moment in enumerate(np.linspace(3.2, LENGTH - 2.5, 12)):
        end = round(float(moment) * RATE) / RATE
        both = pair(condition, end=end, overlap=overlap, seed=1 + number % 3)
        seam = find_seam(both.recorded, both.live, RATE, expected=clocks(overlap, random))
        samples = round(overlap * RATE)
        if seam is not None:
            errors.append(both.error(seam, samples))
            steps.append(20 * math.log10(seam.gain / condition.gain))
        elif samples and 10 ** (level(both.recorded[-samples:]) / 20) * 32768 > LOUD:
            missed += 1
    return errors, steps, missed


@pytest.mark.parametrize("name", CONDITIONS)
def test_the_seam_is_found_where_it_is(name: str) -> None:
    condition = CONDITIONS[name]
    for overlap in OVERLAPS:
        errors, steps, missed = figures(condition, overlap)
        worst = max(map(abs, errors), default=0.0)
        step = max(map(abs, steps), default=0.0)
        print(  # noqa: T201  # what `pytest -s` is for
            f"{name:26} overlap {overlap * 1000:4.0f} ms: found {len(errors):2} of 12, missed {missed} audible ones;"
            f" error at most {worst:5.2f} ms, level at most {step:4.2f} dB off"
        )
        # A pitch period is the worst: one that the jitter buffer takes out just where it is cut, or one that cannot be
        # told from the next, as there is hardly more than one.
        assert worst <= (13.0 if condition.squeezed or overlap < 0.05 else 0.2), overlap
        # Less than a fifth of a second does not tell how loud the two are; in noise no more than that does.
        assert step < 1.0 or overlap < 0.2 or (condition.noise > 100 and overlap == 0.2), overlap
        if overlap >= 0.05:
            assert missed <= (2 if condition.squeezed or (condition.gain != 1 and condition.noise > 100) else 1), (
                overlap
            )
        if overlap == 0.0:
            assert errors == []


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("gap", [0.0, 0.02, 0.08, 0.2])
def test_what_follows_is_never_taken_for_the_same(seed: int, gap: float) -> None:
    source, random = voice(LENGTH, RATE, seed=seed), np.random.default_rng(seed)
    for end in np.linspace(1.2, LENGTH - 1.5, 12):
        last, first = round(float(end) * RATE), round((float(end) + gap) * RATE)
        expected = clocks(-gap, random)
        assert find_seam(source[:last], source[first : first + RATE], RATE, expected=expected) is None


def test_different_speech_is_hardly_ever_taken_for_the_same() -> None:
    """These voices are more like each other than people's are: three formants, and all pauses alike."""
    random, taken = np.random.default_rng(1), 0
    for seed, end in itertools.product(range(12), np.linspace(3.2, 11.0, 12)):
        recorded = voice(LENGTH, RATE, seed=seed)[: round(float(end) * RATE)]
        live = voice(LENGTH, RATE, seed=seed + 10)[round(float(random.uniform(0, 11)) * RATE) :][:RATE]
        taken += find_seam(recorded, live, RATE, expected=float(random.uniform(0.0, 0.6))) is not None
    assert taken <= 2


def tones(*pitches: float) -> Pcm:
    times = np.arange(3 * RATE) / RATE
    return np.asarray(sum(8000 / len(pitches) * np.sin(2 * np.pi * pitch * times) for pitch in pitches), np.int16)


@pytest.mark.parametrize("pitches", [(50,), (220,), (1000,), (3000,), (697, 1209), (261.6, 329.6, 392.0), (440, 443)])
@pytest.mark.parametrize("expected", [None, -0.1, 0.0, 0.1, 0.3, 0.6])
def test_what_goes_on_as_it_is_tells_nothing(pitches: tuple[float, ...], expected: float | None) -> None:
    """A tone, two keys of a telephone, a chord, a beat."""
    tone = tones(*pitches)
    for first in (RATE - 2000, RATE, RATE + 1000):
        assert find_seam(tone[:RATE], tone[first:], RATE, expected=expected) is None


@pytest.mark.parametrize("expected", [None, 0.0, 0.1, 0.3])
def test_noise_is_the_same_only_where_it_is(expected: float | None) -> None:
    random = np.random.default_rng(3)
    noise = (2000 * random.standard_normal(4 * RATE)).astype(np.int16)
    assert find_seam(noise[:RATE], noise[RATE + 100 :], RATE, expected=expected) is None
    assert find_seam(noise[:RATE], noise[2 * RATE :], RATE, expected=expected) is None
    seam = find_seam(noise[:RATE], noise[RATE - 2000 :], RATE, expected=expected)
    assert seam is not None
    assert seam.recorded - seam.live == RATE - 2000


def sung(*, seed: int) -> Pcm:
    """A vowel that is held, its pitch shaken a little five times a second."""
    random, times = np.random.default_rng(seed), np.arange(2 * RATE) / RATE
    pitch = random.uniform(110, 260) * (1 + 0.005 * np.sin(2 * np.pi * 5 * times))
    turns = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = sum(np.sin(k * turns) / k / (1 + abs(k - 5)) for k in range(1, 14)) + 0.01 * random.standard_normal(
        2 * RATE
    )
    return np.asarray(9000 * sound / np.abs(sound).max(), np.int16)


@pytest.mark.parametrize("gap", [0.0, 0.02, 0.08])
def test_a_vowel_that_is_held_tells_nothing(gap: float) -> None:
    random = np.random.default_rng(1)
    for seed in range(8):
        sound = sung(seed=seed)
        first = round((1 + gap) * RATE)
        assert find_seam(sound[:RATE], sound[first:], RATE, expected=clocks(-gap, random)) is None


@pytest.mark.parametrize("overlap", [0.02, 0.03, 0.05, 0.07])
def test_a_decoder_that_has_just_begun_is_understood(overlap: float) -> None:
    """The live audio's first packets are decoded without what was before them, as an agent's client does that joins."""
    found, audible, random = 0, 0, np.random.default_rng(1)
    for seed in range(4):
        source = voice(6.0, HIGH, seed=seed)
        recorded = resampled(recoded(source, bit_rate=96_000, frame=0.06), HIGH, RATE)
        for packet in range(60, 220, 16):
            live = resampled(begun(source, packet), HIGH, RATE)[: RATE // 2]
            end = round((packet * 0.02 + overlap) * RATE)
            tail = recorded[end - round(overlap * RATE) : end]
            if 10 ** (level(tail) / 20) * 32768 < LOUD:
                continue
            seam = find_seam(recorded[:end], live, RATE, expected=clocks(overlap, random))
            audible += 1
            if seam is not None:
                found += 1
                missing = (seam.live + packet * 0.02 * RATE - seam.recorded) / RATE
                assert -0.02 < missing < 0.01
    print(f"decoder begun, overlap {overlap * 1000:.0f} ms: found {found} of {audible}")  # noqa: T201
    assert found >= {0.02: 0.0, 0.03: 0.3, 0.05: 0.7, 0.07: 0.85}[overlap] * audible


def test_silence_tells_nothing() -> None:
    silence = np.zeros(RATE, dtype=np.int16)
    speech = resampled(voice(2.0, HIGH), HIGH, RATE)
    for recorded, live in (
        (silence, silence),
        (silence, speech),
        (speech, silence),
        (speech[:0], speech),
        (speech, speech[:0]),
    ):
        assert find_seam(recorded, live, RATE) is None


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_the_joint_is_the_voice_itself(rate: int) -> None:
    source = voice(6.0, rate)
    end, overlap = 4 * rate, round(0.25 * rate)
    recorded, live = source[:end], source[end - overlap :][:rate]
    seam = find_seam(recorded, live, rate)
    assert seam is not None
    joint = join(recorded, live, seam, sample_rate=rate)
    assert joint.start == -(end - overlap)
    whole = np.concatenate((joint.pcm, live[joint.resume :]))
    assert np.abs(whole.astype(int) - source[: len(whole)]).max() <= 1


def test_a_step_in_level_becomes_none() -> None:
    source = voice(6.0, RATE)
    end, overlap = 4 * RATE, round(0.3 * RATE)
    recorded, live = source[:end], (source[end - overlap :][:RATE] * 0.5).astype(np.int16)
    seam = find_seam(recorded, live, RATE)
    joint = join(recorded, live, seam, sample_rate=RATE)
    assert abs(level(joint.pcm) - level((source[: len(joint.pcm)] * 0.5).astype(np.int16))) < 0.1


@pytest.mark.parametrize("gap", [0, 1, 200, 1600, 3199])
def test_a_short_gap_is_filled_without_a_click(gap: int) -> None:
    source = voice(4.0, RATE)
    recorded, live = source[: 2 * RATE], source[2 * RATE + gap :]
    joint = join(recorded, live, None, sample_rate=RATE, gap=gap)
    assert joint.start == -len(recorded) - gap
    assert len(joint.pcm) == len(recorded) + gap + joint.resume
    filling = joint.pcm[len(recorded) : len(recorded) + gap]
    around = np.concatenate((recorded[-1600:], live[:1600]))
    steps = np.abs(np.diff(joint.pcm[len(recorded) - 50 : len(recorded) + gap + 50].astype(int)))
    assert steps.max() <= 2 * np.abs(np.diff(around.astype(int))).max() + 200
    if gap >= 1600:
        assert abs(level(filling) - level(around)) < 12


def test_a_long_gap_stays_one() -> None:
    source = voice(4.0, RATE)
    gap = round(FILLED * RATE)
    joint = join(source[:RATE], source[2 * RATE :], None, sample_rate=RATE, gap=gap)
    assert (joint.start, joint.resume, len(joint.pcm)) == (-RATE - gap, 0, RATE)
    assert abs(int(joint.pcm[-1])) < 0.01 * np.abs(source).max()
    assert np.array_equal(joint.pcm[: -round(FADE * RATE)], source[: RATE - round(FADE * RATE)])


# --- frames ---------------------------------------------------------------------------------------------------------


def spliced_pcm(frames: tuple[object, ...]) -> Pcm:
    return np.concatenate([frame.pcm for frame in frames])  # type: ignore[attr-defined]


def test_frames_are_whole_and_their_times_are_true() -> None:
    source = voice(8.0, RATE)
    end, overlap = 3 * RATE + 77, round(0.25 * RATE)
    live = np.concatenate((np.zeros(1000, dtype=np.int16), source[end - overlap :]))[: 40 * SIZE]
    live_at = 100.0
    recording = Recording(source[:end], RATE, ended=100.3)
    spliced = splice(recording, live, live_at, frame=SIZE)
    assert {len(frame.pcm) for frame in spliced.frames} == {SIZE}
    for number, frame in enumerate(spliced.frames):
        assert frame.at == pytest.approx(spliced.frames[0].at + number * SIZE / RATE)
    assert spliced.frames[-1].at + SIZE / RATE == pytest.approx(live_at + spliced.resume * SIZE / RATE)
    capture_began = live_at + (1000 + overlap - end) / RATE
    assert spliced.frames[0].at == pytest.approx(capture_began, abs=SIZE / RATE)
    assert spliced.overlap == pytest.approx(0.25, abs=0.0002)
    assert (spliced.gap, spliced.gain) == (0.0, 1.0)
    whole = np.concatenate((spliced_pcm(spliced.frames), live[spliced.resume * SIZE :]))
    padding = round((capture_began - spliced.frames[0].at) * RATE)
    assert np.abs(whole[padding:].astype(int) - source[: len(whole) - padding]).max() <= 1


def test_a_recording_that_ended_before_leaves_the_time_between() -> None:
    source = voice(8.0, RATE)
    recorded, live = source[: 2 * RATE], source[5 * RATE : 5 * RATE + 20 * SIZE]
    spliced = splice(Recording(recorded, RATE, ended=99.0), live, 100.0, frame=SIZE)
    assert spliced.gap == pytest.approx(1.0, abs=0.15)
    assert (spliced.overlap, spliced.resume) == (0.0, 0)
    assert spliced.frames[-1].at + SIZE / RATE == pytest.approx(100.0 - spliced.gap)


def test_without_live_audio_the_recording_ends_when_it_arrived() -> None:
    recorded = voice(2.0, RATE)
    spliced = splice(Recording(recorded, RATE, ended=99.0), recorded[:0], 99.0, frame=SIZE)
    assert spliced.resume == 0
    assert spliced.frames[-1].at + SIZE / RATE == pytest.approx(99.0)
    assert len(spliced_pcm(spliced.frames)) == -(-len(recorded) // SIZE) * SIZE


def test_a_late_recording_ends_where_the_live_audio_had_begun() -> None:
    source = voice(8.0, RATE)
    end, overlap = 3 * RATE, round(0.2 * RATE)
    live = source[end - overlap :][: 40 * SIZE]
    spliced = splice_late(Recording(source[:end], RATE, ended=105.0, late=True), live, 100.0, frame=SIZE)
    assert spliced.frames[-1].at + SIZE / RATE == pytest.approx(100.0, abs=0.001)
    assert spliced.overlap == pytest.approx(0.2, abs=0.0002)


def listened(arrivals: list[float], pcm: Pcm) -> list[AudioFrame]:
    """Frames as they are stamped when they arrive, each so much late."""
    clock = CaptureClock(RATE)
    return [
        AudioFrame(pcm[k * SIZE : (k + 1) * SIZE], RATE, clock.stamp(SIZE, 100.0 + (k + 1) * SIZE / RATE + late))
        for k, late in enumerate(arrivals)
    ]


@settings(max_examples=60, deadline=None)
@given(
    arrivals=st.lists(st.floats(0.0, 0.4), min_size=1, max_size=50),
    overlap=st.integers(-4000, 8000),
    ended=st.floats(99.0, 101.0),
    zeros=st.integers(0, 3000),
)
def test_times_never_run_backwards(arrivals: list[float], overlap: int, ended: float, zeros: int) -> None:
    """However late frames come: what was recorded ends before the live audio goes on, and all is in order."""
    source, recorded = voice(8.0, RATE), 3 * RATE
    arrivals = [late if k == 0 else max(late, arrivals[k - 1] - SIZE / RATE) for k, late in enumerate(arrivals)]
    sound = np.concatenate((np.zeros(zeros, dtype=np.int16), source[recorded - overlap :]))
    frames = listened(arrivals, sound)
    live, at = stretch(frames, ended)
    assert len(live) == len(frames) * SIZE
    assert at <= frames[0].at
    made = splice(Recording(source[:recorded], RATE, ended), live, at, frame=SIZE)
    whole = [*made.frames, *frames[made.resume :]]
    for one, other in itertools.pairwise(whole):
        assert other.at > one.at
    for one, other in itertools.pairwise(whole[: len(made.frames) + 1]):
        assert other.at >= one.at + one.duration - 1e-6


def test_without_frames_the_recording_says_when() -> None:
    live, at = stretch([], 7.0)
    assert (len(live), at) == (0, 7.0)


@settings(max_examples=60, deadline=None)
@given(
    recorded=st.integers(0, 40_000),
    live=st.integers(0, 40).map(lambda frames: frames * SIZE),
    zeros=st.integers(0, 20_000),
    overlap=st.integers(-8000, 8000),
    ended=st.floats(98.0, 103.0),
    late=st.booleans(),
)
def test_whatever_is_spliced_times_go_on_and_nothing_of_the_recording_is_lost(
    recorded: int, live: int, zeros: int, overlap: int, ended: float, late: bool
) -> None:
    source = voice(8.0, RATE)
    began = max(0, min(len(source), recorded - overlap))
    sound = np.concatenate((np.zeros(zeros, dtype=np.int16), source[began:]))[:live]
    sound = np.concatenate((sound, np.zeros(live - len(sound), dtype=np.int16)))
    made = (splice_late if late else splice)(Recording(source[:recorded], RATE, ended, late), sound, 100.0, frame=SIZE)
    assert 0 <= made.resume <= live // SIZE
    ats = [frame.at for frame in made.frames]
    assert all(other - one == pytest.approx(SIZE / RATE) for one, other in itertools.pairwise(ats))
    assert all(len(frame.pcm) == SIZE for frame in made.frames)
    if made.frames:
        end = made.frames[-1].at + SIZE / RATE
        assert end <= 100.0 + made.resume * SIZE / RATE + (SIZE + zeros) / RATE + 1e-6
        assert len(made.frames) * SIZE >= recorded - round(1.0 * RATE)
