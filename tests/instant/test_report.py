"""The ruler itself: seams that are known, made from sounds that are as unlike each other as words."""

from __future__ import annotations

import numpy as np
import pytest

from greenroom.audio import Pcm
from tests.instant.report import Recordings, Report, report
from tests.instant.seam import Ruler
from tests.instant.tap import RATE
from tests.instant.words import GRID, Word
from tests.room.preconnect.sounds import begun, level, resampled, voice

SECONDS = 3.1
TOLERANCE = 0.002
"""A seam is found to within a third of a piece of silence or of a few samples of sound; 2 ms is what is asked."""


def made_up() -> tuple[Pcm, tuple[Word, ...]]:
    """Noises with a shape in time and in frequency, each another, 300 ms apart."""
    random = np.random.default_rng(5)
    pcm = np.zeros(round(SECONDS * RATE))
    words = []
    for number in range(round(SECONDS / GRID) - 1):
        start, length = 0.1 + number * GRID, 0.2 + 0.06 * random.random()
        sound = np.convolve(random.standard_normal(round(length * RATE)), random.standard_normal(24), mode="same")
        sound *= 4000 / np.sqrt(np.mean(sound**2))
        first = round(start * RATE)
        pcm[first : first + len(sound)] = sound
        words.append(Word(f"word{number}", start, start + len(sound) / RATE))
    return np.clip(pcm, -32768, 32767).astype(np.int16), tuple(words)


SOURCE, WORDS = made_up()
RULER = Ruler(SOURCE, WORDS, sample_rate=RATE)


def cut(start: float, end: float) -> Pcm:
    return SOURCE[round(start * RATE) : round(end * RATE)]


def examine(buffer: Pcm, live: Pcm, heard: Pcm) -> Report:
    """With capture times as they should be, and all frames there 3 s after the beginning."""
    capture = [(at / 100, 50.0 + at / 100, 103.0) for at in range(round(100 * len(heard) / RATE))]
    return report(RULER, Recordings(buffer, live, heard, capture), joined=102.5)


@pytest.mark.parametrize("seam", [1.32, 1.45, 1.5, 1.61, 1.73])
def test_a_perfect_seam_shows_nothing_wherever_it_is(seam: float) -> None:
    found = examine(cut(0, 1.8), cut(1.2, SECONDS), np.concatenate([cut(0, seam), cut(seam, SECONDS)]))
    assert found.failures == []
    assert found.missing == pytest.approx(0, abs=TOLERANCE)
    assert found.duplicated == pytest.approx(0, abs=TOLERANCE)
    assert found.overlap == pytest.approx(0.6, abs=TOLERANCE)
    assert found.unsent == 0
    assert found.unsent_head == pytest.approx(0, abs=TOLERANCE)
    assert found.delivered == pytest.approx(0.5)
    assert found.words == len(WORDS)


@pytest.mark.parametrize("lost", [0.015, 0.05, 0.12])
def test_what_is_missing_is_measured(lost: float) -> None:
    found = examine(cut(0, 1.8), cut(1.2, SECONDS), np.concatenate([cut(0, 1.36), cut(1.36 + lost, SECONDS)]))
    assert found.missing == pytest.approx(lost, abs=TOLERANCE)
    assert found.failures


@pytest.mark.parametrize("twice", [0.025, 0.1, 0.15])
def test_what_comes_twice_is_measured(twice: float) -> None:
    found = examine(cut(0, 1.8), cut(1.2, SECONDS), np.concatenate([cut(0, 1.48), cut(1.48 - twice, SECONDS)]))
    assert found.duplicated == pytest.approx(twice, abs=TOLERANCE)
    assert found.missing == 0
    assert found.failures


@pytest.mark.parametrize("more", [-0.03, 0.03])
def test_a_pause_that_is_longer_or_shorter_is_no_sound(more: float) -> None:
    middle = (WORDS[4].end + WORDS[5].start) / 2
    found = examine(
        cut(0, 1.8),
        cut(1.2, SECONDS),
        np.concatenate([cut(0, middle + more / 2), cut(middle - more / 2, SECONDS)]),
    )
    assert found.failures == []
    assert (found.missing, found.duplicated) == (0, 0)
    assert found.pause == pytest.approx(more, abs=TOLERANCE)


def test_a_word_that_is_heard_twice_is_named() -> None:
    first, last = WORDS[3].start - 0.01, WORDS[3].end + 0.01
    found = examine(cut(0, 1.8), cut(0.9, SECONDS), np.concatenate([cut(0, last), cut(first, SECONDS)]))
    assert found.doubled == ("word3",)


def test_a_word_that_is_lost_is_named() -> None:
    first, last = WORDS[3].start - 0.01, WORDS[3].end + 0.01
    found = examine(cut(0, 1.8), cut(0.9, SECONDS), np.concatenate([cut(0, first), cut(last, SECONDS)]))
    assert found.broken == ("word3",)


def test_what_the_client_never_sent_is_not_the_agents_loss() -> None:
    joined = examine(cut(0.03, 1.4), cut(1.47, SECONDS), np.concatenate([cut(0.03, 1.4), cut(1.47, SECONDS)]))
    bridged = examine(
        cut(0.03, 1.4),
        cut(1.47, SECONDS),
        np.concatenate([cut(0.03, 1.4), np.zeros(1120, dtype=np.int16), cut(1.47, SECONDS)]),
    )
    for found in (joined, bridged):
        assert found.unsent == pytest.approx(0.07, abs=TOLERANCE)
        assert found.unsent_head == pytest.approx(0.03, abs=TOLERANCE)
        assert found.missing == pytest.approx(0, abs=TOLERANCE)
        assert found.duplicated == pytest.approx(0, abs=TOLERANCE)
        assert found.broken == ()


def test_a_head_that_was_sent_and_not_heard_is_the_agents_loss() -> None:
    found = examine(cut(0, 1.8), cut(1.2, SECONDS), np.concatenate([cut(0.06, 1.5), cut(1.5, SECONDS)]))
    assert found.head_loss == pytest.approx(0.06, abs=TOLERANCE)


def test_a_step_in_level_is_measured() -> None:
    found = examine(cut(0, 1.8), cut(1.2, SECONDS), np.concatenate([cut(0, 1.5) // 2, cut(1.5, SECONDS)]))
    assert found.step == pytest.approx(6.0, abs=0.3)


def test_a_buffer_that_is_not_heard_is_no_seam() -> None:
    found = examine(cut(0, 1.8), cut(1.2, SECONDS), cut(1.2, SECONDS))
    assert found.delivered is None
    assert found.head_loss == pytest.approx(1.2, abs=TOLERANCE)
    assert found.broken[:3] == ("word0", "word1", "word2")
    assert "no buffer was heard" in found.failures


def test_what_the_jitter_buffer_did_to_the_live_audio_is_not_the_agents() -> None:
    """40 ms of the live audio come twice there, after the seam."""
    live = np.concatenate([cut(1.2, 1.9), cut(1.86, SECONDS)])
    heard = np.concatenate([cut(0, 1.5), live[round(0.3 * RATE) :]])
    found = examine(cut(0, 1.8), live, heard)
    assert found.failures == []


def test_silence_is_reported_as_such() -> None:
    with pytest.raises(ValueError, match="nothing of the source"):
        examine(cut(0, 1.8), cut(1.2, SECONDS), np.zeros(RATE, dtype=np.int16))


def test_the_ends_of_a_recording_are_known_to_the_sample() -> None:
    """Though its decoder began in the middle of a stream, and though more than a period away is expected."""
    source, asked = voice(6.0, 48_000, seed=2), 0
    ruler = Ruler(resampled(source, 48_000, RATE), (), sample_rate=RATE)
    for packet in range(60, 200, 10):
        recording = resampled(begun(source, packet), 48_000, RATE)[: RATE // 2]
        head = packet * 0.02
        for place, ending, stretch in ((0.0, False, recording[:480]), (0.5, True, recording[-480:])):
            if level(stretch) > -30:
                moment = ruler.moment(recording, place, near=head + place + 0.013, ending=ending)
                assert moment == pytest.approx(head + place, abs=0.0002)
                asked += 1
    assert asked > 10


def test_where_nothing_sounds_the_moment_is_what_is_believed() -> None:
    ruler = Ruler(voice(3.0, RATE), (), sample_rate=RATE)
    assert ruler.moment(np.zeros(RATE, dtype=np.int16), 0.0, near=1.5, ending=False) == 1.5
    assert ruler.moment(np.zeros(10, dtype=np.int16), 0.0, near=1.5, ending=True) == 1.5
