"""Sources: clips that come along, files, and frames; none of them in memory for longer than it is played."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest

from greenroom.audio import AudioFrame, Pcm, rms, write_wav
from greenroom.background.clips import BuiltinAudioClip
from greenroom.background.config import AudioConfig, choices, choose
from greenroom.background.decoding import Decoder, decoded
from greenroom.background.mixer import Sound
from greenroom.background.sounds import AHEAD, Clip, Stream, Told, frame_pieces, open_sound, prepare
from greenroom.testing.virtual_time import virtual_time

RATE = 24_000


def tone(seconds: float, *, pitch: float = 440.0, sample_rate: int = RATE) -> Pcm:
    wave = np.sin(2 * np.pi * pitch / sample_rate * np.arange(round(seconds * sample_rate)))
    return np.asarray(8000 * wave, dtype=np.int16)


def pitch(pcm: Pcm) -> float:
    spectrum = np.abs(np.fft.rfft(pcm.astype(np.float64) * np.hanning(len(pcm))))
    return float(np.fft.rfftfreq(len(pcm), 1 / RATE)[np.argmax(spectrum)])


def encode(path: Path, pcm: Pcm, *, codec: str, sample_rate: int) -> Path:
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream(codec, rate=sample_rate, layout="stereo")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(np.repeat(pcm, 2).reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = sample_rate
        resampler = av.AudioResampler(format=stream.format, layout="stereo", rate=sample_rate, frame_size=1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


async def all_of(sound: Sound, *, limit: int = 10_000_000) -> Pcm:
    """What a sound gives, taken as fast as it comes."""
    pieces = [np.zeros(0, dtype=np.int16)]
    while not sound.ended and sum(map(len, pieces)) < limit:
        pieces.append(sound.take(4800))
        await asyncio.sleep(0.01)
    return np.concatenate(pieces)


def telling(errors: list[Exception] | None = None) -> Told:
    """``errors``: what failed; none may where there is no list."""

    def failed(error: Exception) -> None:
        assert errors is not None, error
        errors.append(error)

    return Told(ready=lambda: None, failed=failed)


# --- clips ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", BuiltinAudioClip)
def test_a_clip_is_a_quiet_loop_without_a_seam(clip: BuiltinAudioClip) -> None:
    pcm = clip.samples(RATE)
    assert clip.made(RATE)
    assert clip.samples(RATE) is pcm
    assert 2.0 <= len(pcm) / RATE <= 30.0
    loudness = 20 * np.log10(rms(pcm) / 32767)
    assert -40.0 <= loudness <= -22.0
    assert np.abs(pcm.astype(np.int32)).max() < 32767 * 0.5
    steps = np.abs(np.diff(pcm.astype(np.int32)))
    assert abs(int(pcm[0]) - int(pcm[-1])) <= np.quantile(steps, 0.999)
    assert abs(float(pcm.mean())) < 20


def test_clips_differ_and_cannot_be_spoilt() -> None:
    typing, shorter = BuiltinAudioClip.KEYBOARD_TYPING.samples(RATE), BuiltinAudioClip.KEYBOARD_TYPING2.samples(RATE)
    assert len(shorter) < len(typing)
    with pytest.raises(ValueError, match="read-only"):
        typing[0] = 1


# --- choosing -------------------------------------------------------------------------------------------------------


def test_several_are_chosen_among_by_their_probabilities() -> None:
    one, two = AudioConfig("a.wav", probability=0.6), AudioConfig("b.wav", probability=0.2)
    draws = [choose((one, two), draw=draw) for draw in (0.0, 0.59, 0.61, 0.79, 0.81, 0.99)]
    assert draws == [one, one, two, two, None, None]
    likely = AudioConfig("a.wav", probability=3.0)
    assert choose((likely, AudioConfig("b.wav")), draw=0.74) == likely
    assert choose((), draw=0.5) is None
    assert choose((AudioConfig("a.wav"),)) == AudioConfig("a.wav")


def test_whatever_may_be_played_becomes_configurations() -> None:
    config = AudioConfig("a.wav", volume=0.5)
    assert choices(None) == ()
    assert choices(config) == (config,)
    assert choices([config, "b.wav"]) == (config, AudioConfig("b.wav"))
    assert choices(BuiltinAudioClip.HOLD_MUSIC) == (AudioConfig(BuiltinAudioClip.HOLD_MUSIC),)


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf")])
def test_a_volume_is_a_number_from_zero_on(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"volume is .*; expected a number from 0 on"):
        AudioConfig("a.wav", volume=wrong)


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "sample_rate"),
    [
        ("a.mp3", "libmp3lame", 44_100),
        ("a.ogg", "libopus", 48_000),
        ("a.flac", "flac", 16_000),
        ("a.m4a", "aac", 48_000),
    ],
)
@virtual_time
async def test_any_format_is_played_mono_and_at_our_rate(
    tmp_path: Path, name: str, codec: str, sample_rate: int
) -> None:
    path = encode(tmp_path / name, tone(3.0, sample_rate=sample_rate), codec=codec, sample_rate=sample_rate)
    sound = open_sound(path, sample_rate=RATE, loop=False, told=telling())
    heard = await all_of(sound)
    assert len(heard) / RATE == pytest.approx(3.0, abs=0.1)
    assert pitch(heard[RATE : 2 * RATE]) == pytest.approx(440, abs=2)
    assert rms(heard[RATE : 2 * RATE]) == pytest.approx(8000 / np.sqrt(2), rel=0.1)


@virtual_time
async def test_a_wav_is_played_to_the_sample_and_looped_without_a_gap(tmp_path: Path) -> None:
    pcm = np.random.default_rng(4).integers(-9000, 9000, round(1.3 * RATE)).astype(np.int16)
    write_wav(tmp_path / "noise.wav", AudioFrame(pcm, RATE))
    assert np.array_equal(
        await all_of(open_sound(tmp_path / "noise.wav", sample_rate=RATE, loop=False, told=telling())), pcm
    )
    looped = open_sound(str(tmp_path / "noise.wav"), sample_rate=RATE, loop=True, told=telling())
    heard = await all_of(looped, limit=5 * RATE)
    looped.close()
    await looped.wait_closed()
    assert np.array_equal(heard, np.resize(pcm, len(heard)))


@virtual_time
async def test_a_long_file_is_decoded_only_so_far_ahead(tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", AudioFrame(np.tile(tone(1.0), 120), RATE))
    prepare(tmp_path / "long.wav", sample_rate=RATE)
    sound = open_sound(tmp_path / "long.wav", sample_rate=RATE, loop=False, told=telling())
    await asyncio.sleep(5.0)
    assert isinstance(sound, Stream)
    assert 0 < sound._waiting <= (AHEAD + 1.0) * RATE
    sound.close()
    await sound.wait_closed()


@virtual_time
async def test_a_short_file_that_was_prepared_needs_no_file_any_more(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    write_wav(path, AudioFrame(tone(0.5), RATE))
    prepare(str(path), sample_rate=RATE)
    os.remove(path)
    prepare(path, sample_rate=RATE)
    sound = open_sound(path, sample_rate=RATE, loop=True, told=telling())
    assert isinstance(sound, Clip)
    assert np.array_equal(sound.take(round(0.5 * RATE)), tone(0.5))


def test_what_is_no_audio_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "text.ogg").write_text("no sound at all")
    with pytest.raises(ValueError, match=r"text.ogg: .*; expected an audio file"):
        Decoder(tmp_path / "text.ogg", sample_rate=RATE)
    with pytest.raises(ValueError, match="no such file; expected an audio file"):
        prepare(tmp_path / "absent.ogg", sample_rate=RATE)
    with pytest.raises(ValueError, match="no such file; expected an audio file"):
        prepare("http://127.0.0.1:9/sound.mp3", sample_rate=RATE)
    write_wav(tmp_path / "empty.wav", AudioFrame(np.zeros(0, dtype=np.int16), RATE))
    with pytest.raises(ValueError, match="expected an audio file"):
        decoded(tmp_path / "empty.wav", sample_rate=RATE, longest=1.0)


@virtual_time
async def test_a_file_that_is_broken_later_ends_its_sound_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.mp3").write_bytes(b"\xff\xfb\x90\x00" + b"\x12" * 40)
    errors: list[Exception] = []
    sound = open_sound(tmp_path / "broken.mp3", sample_rate=RATE, loop=True, told=telling(errors))
    await all_of(sound)
    assert [type(error) for error in errors] == [ValueError]
    assert "broken.mp3" in str(errors[0])


# --- frames ---------------------------------------------------------------------------------------------------------


class Frames:
    """Tones, with somebody who counts what was asked for and whether it was closed."""

    def __init__(self, *, rate: int = 48_000, fail: bool = False) -> None:
        self.given = 0
        self.closed = False
        self._rate = rate
        self._fail = fail

    async def __aiter__(self) -> AsyncIterator[AudioFrame]:
        try:
            for _ in range(3000):
                self.given += 1
                yield AudioFrame(tone(0.02, pitch=500, sample_rate=self._rate), self._rate)
                if self._fail and self.given == 5:
                    raise RuntimeError("no more")
        finally:
            self.closed = True


@virtual_time
async def test_frames_of_another_rate_are_played_and_not_taken_early() -> None:
    frames = Frames()
    sound = open_sound(frames, sample_rate=RATE, loop=False, told=telling())
    await asyncio.sleep(1.0)
    assert frames.given == pytest.approx(AHEAD / 0.02, abs=3)
    heard = np.concatenate([sound.take(480) for _ in range(40)])
    assert pitch(heard[-9600:]) == pytest.approx(500, abs=5)
    sound.close()
    await sound.wait_closed()
    assert frames.closed


@virtual_time
async def test_frames_that_fail_end_their_sound() -> None:
    errors: list[Exception] = []
    sound = open_sound(Frames(fail=True), sample_rate=RATE, loop=False, told=telling(errors))
    heard = await all_of(sound)
    assert len(heard) <= 0.1 * RATE
    assert [str(error) for error in errors] == ["no more"]


@virtual_time
async def test_frames_cannot_be_looped() -> None:
    with pytest.raises(ValueError, match="frames can be played only once"):
        open_sound(Frames(), sample_rate=RATE, loop=True, told=telling())


@virtual_time
async def test_stereo_frames_become_mono() -> None:
    from livekit import rtc

    async def stereo() -> AsyncIterator[rtc.AudioFrame]:
        left = tone(0.1)
        yield rtc.AudioFrame(np.stack((left, left), axis=1).tobytes(), RATE, 2, len(left))

    pieces = [piece async for piece in frame_pieces(stereo(), sample_rate=RATE)]
    assert np.array_equal(np.concatenate(pieces), tone(0.1))
