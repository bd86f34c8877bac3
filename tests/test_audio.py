"""Frames, resampling and wav files."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit import rtc

from greenroom.audio import AudioFrame, Pcm, Resampler, read_wav, rms, silence, to_mono, write_wav


def tone(seconds: float, sample_rate: int, *, frequency: float = 440.0) -> Pcm:
    at = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.round(10000 * np.sin(2 * np.pi * frequency * at)).astype(np.int16)


def differ(one: Pcm, other: Pcm) -> int:
    """The largest difference of two samples; the resampler dithers, so it is seldom none."""
    assert len(one) == len(other)
    return int(np.abs(one.astype(int) - other.astype(int)).max(initial=0))


def test_a_frame_describes_itself() -> None:
    frame = AudioFrame(np.arange(480, dtype=np.int16), 24000, at=1.5)
    assert (frame.num_channels, frame.samples_per_channel, frame.duration, frame.at) == (1, 480, 0.02, 1.5)
    assert bytes(frame.data) == np.arange(480, dtype="<i2").tobytes()


def test_a_frame_of_a_strided_view_has_its_own_samples() -> None:
    frame = AudioFrame(np.arange(10, dtype=np.int16)[::2], 16000)
    assert bytes(frame.data) == np.array([0, 2, 4, 6, 8], dtype="<i2").tobytes()


def test_silence() -> None:
    frame = silence(0.25, 8000)
    assert (len(frame.pcm), frame.sample_rate, rms(frame.pcm)) == (2000, 8000, 0.0)


def test_mono_is_handed_through_and_channels_are_averaged() -> None:
    mono = rtc.AudioFrame(np.array([1, 2, 3], dtype=np.int16).tobytes(), 16000, 1, 3)
    assert to_mono(mono).tolist() == [1, 2, 3]
    stereo = rtc.AudioFrame(np.array([100, 200, -32768, -32768, 32767, 32767], dtype=np.int16).tobytes(), 16000, 2, 3)
    assert to_mono(stereo).tolist() == [150, -32768, 32767]


def test_rms() -> None:
    assert rms(np.zeros(0, dtype=np.int16)) == 0.0
    assert rms(np.full(100, -32768, dtype=np.int16)) == pytest.approx(32768)
    assert rms(tone(1.0, 16000)) == pytest.approx(10000 / np.sqrt(2), rel=1e-3)


def test_equal_rates_hand_samples_through() -> None:
    pcm = tone(0.1, 16000)
    resampler = Resampler(16000, 16000)
    assert resampler.push(pcm) is pcm
    assert len(resampler.flush()) == 0


@pytest.mark.parametrize(("source", "target"), [(22050, 24000), (48000, 16000), (16000, 48000), (8000, 44100)])
def test_resampling_keeps_length_and_sound(source: int, target: int) -> None:
    resampler = Resampler(source, target)
    out = np.concatenate([resampler.push(tone(1.0, source)), resampler.flush()])
    assert abs(len(out) - target) <= 2
    spectrum = np.abs(np.fft.rfft(out[: target // 2 * 2].astype(np.float64)))
    assert np.argmax(spectrum) * target / (target // 2 * 2) == pytest.approx(440, abs=2)
    assert rms(out) == pytest.approx(10000 / np.sqrt(2), rel=0.02)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.integers(1, 700), min_size=1, max_size=40))
def test_how_a_stream_is_cut_changes_nothing(cuts: list[int]) -> None:
    pcm = tone(sum(cuts) / 22050, 22050)[: sum(cuts)]
    whole, pieces = Resampler(22050, 16000), Resampler(22050, 16000)
    expected = np.concatenate([whole.push(pcm), whole.flush()])
    ends = np.cumsum(cuts)
    parts = [pieces.push(pcm[end - cut : end]) for cut, end in zip(cuts, ends, strict=True)]
    got = np.concatenate([*parts, pieces.flush()])
    assert differ(got, expected) <= 3


def test_a_flushed_resampler_starts_afresh() -> None:
    pcm, resampler = tone(0.2, 48000), Resampler(48000, 16000)
    first = np.concatenate([resampler.push(pcm), resampler.flush()])
    second = np.concatenate([resampler.push(pcm), resampler.flush()])
    assert differ(first, second) <= 3


def test_wav_round_trip(tmp_path: Path) -> None:
    path, frame = tmp_path / "tone.wav", AudioFrame(tone(0.1, 22050), 22050)
    write_wav(path, frame)
    back = read_wav(path)
    assert back.sample_rate == 22050
    assert np.array_equal(back.pcm, frame.pcm)


def test_a_stereo_wav_is_read_as_mono(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    write_wav(path, rtc.AudioFrame(np.array([10, 20, -10, -20], dtype=np.int16).tobytes(), 8000, 2, 2))
    assert read_wav(path).pcm.tolist() == [15, -15]


def test_a_wav_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    write_wav(path, AudioFrame(np.arange(100, dtype=np.int16), 8000))
    path.write_bytes(path.read_bytes()[:-51])
    assert read_wav(path).pcm.tolist() == list(range(74))


def test_what_is_no_16_bit_wav_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "voice.wav"
    path.write_bytes(b"this is no wav file")
    with pytest.raises(ValueError, match=r"voice\.wav: not a wav file .*expected 16-bit PCM"):
        read_wav(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"voice\.wav"):
        read_wav(path)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(b"\x80" * 10)
    with pytest.raises(ValueError, match=r"voice\.wav: 8-bit samples"):
        read_wav(path)
