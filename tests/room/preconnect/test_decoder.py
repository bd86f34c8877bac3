"""Recordings of every kind, whole, in pieces and broken."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from greenroom.audio import Pcm
from greenroom.room.preconnect.attributes import Claim
from greenroom.room.preconnect.decoder import Decoder
from greenroom.room.preconnect.pcm import channels_of, is_noise
from tests.room.preconnect.sounds import FRAGMENTED, alignment, encoded, level, resampled, scratched, stereo, voice, wav

RATE = 16_000
SECONDS = 3.1
WEBM = "audio/webm;codecs=opus"


def decode(
    data: bytes, *, claim: Claim | None = None, piece: int = 1500, max_seconds: float = 60.0
) -> tuple[Pcm, Decoder]:
    decoder = Decoder(claim or Claim(), sample_rate=RATE, max_seconds=max_seconds)
    pieces = [one for start in range(0, len(data), piece) for one in decoder.push(data[start : start + piece])]
    pieces += decoder.end()
    return np.concatenate([np.zeros(0, dtype=np.int16), *pieces]), decoder


def expected(sample_rate: int, seconds: float = SECONDS) -> Pcm:
    return resampled(voice(seconds, sample_rate), sample_rate, RATE)


def container(
    kind: str, sample_rate: int, *, codec: str = "libopus", channels: int = 1, options: dict[str, str] | None = None
) -> Callable[[], tuple[bytes, int]]:
    def make() -> tuple[bytes, int]:
        pcm = voice(SECONDS, sample_rate)
        return encoded(pcm, sample_rate, kind, codec=codec, channels=channels, options=options), sample_rate

    return make


RECORDINGS = {
    "webm mono": container("webm", 48_000),
    "webm stereo": container("webm", 48_000, channels=2),
    "ogg mono": container("ogg", 48_000),
    "ogg stereo": container("ogg", 48_000, channels=2),
    "mp4 aac mono": container("mp4", 48_000, codec="aac"),
    "mp4 aac stereo 44.1": container("mp4", 44_100, codec="aac", channels=2),
    "mp4 aac fragments": container("mp4", 48_000, codec="aac", options=FRAGMENTED),
    "mp4 aac fragments stereo 44.1": container("mp4", 44_100, codec="aac", channels=2, options=FRAGMENTED),
    "mp4 opus": container("mp4", 48_000),
    "mp4 opus fragments stereo": container("mp4", 48_000, channels=2, options=FRAGMENTED),
}


@pytest.mark.parametrize("name", RECORDINGS)
@pytest.mark.parametrize("piece", [7, 1500, 1 << 20])
def test_a_recording_is_decoded_to_the_sample(name: str, piece: int) -> None:
    data, rate = RECORDINGS[name]()
    heard, decoder = decode(data, piece=piece)
    wanted = expected(rate)
    assert decoder.problem == ""
    assert decoder.format == name.split(maxsplit=1)[0] + ("/aac" if "aac" in name else "/opus")
    lag, likeness = alignment(heard, wanted)
    assert lag == 0
    assert likeness > 0.97
    assert abs(level(heard) - level(wanted[: len(heard)])) < 0.3
    # A recorder that writes fragments does not say where the last packet's audio ends.
    assert 0 <= len(heard) - len(wanted) <= (1024 / rate * RATE + 1 if "fragments" in name else 1)


@pytest.mark.parametrize("name", ["webm mono", "ogg stereo", "mp4 aac fragments", "mp4 opus fragments stereo"])
def test_audio_is_there_while_the_recording_still_arrives(name: str) -> None:
    data, _ = RECORDINGS[name]()
    decoder = Decoder(Claim(), sample_rate=RATE, max_seconds=60.0)
    half = sum(len(piece) for piece in decoder.push(data[: len(data) // 2]))
    assert half > 0.25 * SECONDS * RATE


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_of_any_rate(rate: int, channels: int) -> None:
    pcm = voice(SECONDS, rate)
    data = (stereo(pcm) if channels == 2 else pcm).tobytes()
    heard, decoder = decode(data, claim=Claim(sample_rate=rate, channels=channels), piece=1499)
    lag, likeness = alignment(heard, expected(rate))
    assert (decoder.format, decoder.problem, lag) == (f"pcm/{rate}", "", 0)
    assert likeness > 0.999
    assert abs(len(heard) - SECONDS * RATE) <= 2


@pytest.mark.parametrize("right", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
@pytest.mark.parametrize("labelled", [0, 1, 2])
def test_the_samples_tell_how_many_channels_there_are(rate: int, labelled: int, right: float) -> None:
    pcm, claim = voice(2.0, rate), Claim(sample_rate=rate, channels=labelled)
    for data in (pcm.tobytes(), stereo(pcm, right).tobytes()):
        heard, _ = decode(data, claim=claim)
        assert len(heard) == pytest.approx(2.0 * RATE, abs=2)


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("labelled", [1, 2])
@pytest.mark.parametrize("piece", [1499, 1 << 20])
def test_what_a_scratch_array_still_holds_is_not_heard(rate: int, channels: int, labelled: int, piece: int) -> None:
    pcm = voice(SECONDS, rate)
    data = scratched((stereo(pcm) if channels == 2 else pcm).tobytes(), rate // 100 * 2 * channels)
    heard, _ = decode(data, claim=Claim(sample_rate=rate, channels=labelled), piece=piece)
    lag, likeness = alignment(heard, expected(rate))
    assert lag == 0
    assert likeness > 0.999
    assert abs(len(heard) - SECONDS * RATE) <= 2 + RATE // 100


def test_pauses_are_not_taken_for_a_scratch_array() -> None:
    pcm = voice(SECONDS, 48_000).copy()
    pcm[: 2 * 48_000] = 0
    pcm[1000::512] = 0
    heard, _ = decode(pcm.tobytes(), claim=Claim(sample_rate=48_000, channels=1))
    assert abs(len(heard) - SECONDS * RATE) <= 2


def test_silence_is_what_it_is_labelled() -> None:
    nothing = np.zeros(48_000, dtype=np.int16)
    assert channels_of(nothing) is None
    heard, _ = decode(nothing.tobytes(), claim=Claim(sample_rate=24_000, channels=2))
    assert len(heard) == pytest.approx(16_000, abs=2)


def test_a_wav_file_says_what_it_is() -> None:
    pcm = voice(SECONDS, 44_100)
    heard, decoder = decode(wav(stereo(pcm), 44_100, 2), claim=Claim(sample_rate=8_000, channels=1))
    assert (decoder.format, alignment(heard, expected(44_100))[0]) == ("pcm/44100", 0)


def test_the_bytes_decide_and_not_the_label() -> None:
    data, rate = RECORDINGS["ogg mono"]()
    heard, decoder = decode(data, claim=Claim.of({"sampleRate": "8000", "channels": "2"}, "video/mp4"))
    assert (decoder.format, alignment(heard, expected(rate))[0]) == ("ogg/opus", 0)


@pytest.mark.parametrize("rate", ["0", "-1", "abc", "1000000000", "", " ", "48e3", "٤٨٠٠٠", "48000\0"])
def test_samples_without_a_usable_rate_are_refused(rate: str) -> None:
    heard, decoder = decode(voice(1.0, 48_000).tobytes(), claim=Claim.of({"sampleRate": rate, "channels": "1"}, ""))
    assert (len(heard), decoder.problem) == (0, "samples without a usable sample rate")


def test_what_its_label_does_not_fit_is_not_taken_for_samples() -> None:
    noise = np.random.default_rng(1).bytes(50_000)
    claim = Claim.of({"sampleRate": "48000", "channels": "1"}, WEBM)
    assert decode(noise, claim=claim)[1].problem == "it is not what its mime type says"


def test_bytes_that_are_no_samples_are_not_played() -> None:
    noise = np.random.default_rng(1).bytes(200_000)
    heard, decoder = decode(noise, claim=Claim(sample_rate=48_000, channels=1))
    assert (len(heard), decoder.problem) == (0, "bytes that are no audio")
    for rate in (8_000, 24_000, 48_000):
        assert not is_noise(voice(2.0, rate))
        assert not is_noise(stereo(voice(2.0, rate), 0.0))


@pytest.mark.parametrize("kind", ["webm mono", "ogg mono", "mp4 aac fragments"])
def test_a_recording_that_breaks_off_is_used_as_far_as_it_came(kind: str) -> None:
    data, rate = RECORDINGS[kind]()
    heard, _ = decode(data[: round(0.6 * len(data))])
    lag, likeness = alignment(heard, expected(rate))
    assert 0.45 * SECONDS * RATE < len(heard) < 0.7 * SECONDS * RATE
    assert (lag, likeness > 0.97) == (0, True)


@pytest.mark.parametrize("kind", ["webm mono", "ogg mono"])
def test_damage_in_the_middle_leaves_the_rest_at_its_place(kind: str) -> None:
    data, rate = RECORDINGS[kind]()
    begin, end = round(0.4 * len(data)), round(0.5 * len(data))
    broken = data[:begin] + np.random.default_rng(3).bytes(end - begin) + data[end:]
    heard, decoder = decode(broken)
    wanted = expected(rate)
    third = len(wanted) // 3
    lag, likeness = alignment(heard[-third:], wanted[-third - (len(wanted) - len(heard)) :])
    assert abs(lag) <= 0.012 * RATE
    assert likeness > 0.9
    assert decoder.lost > 0.05
    assert abs(len(heard) - len(wanted)) <= 0.07 * RATE


def test_a_corrupt_second_half_does_not_spoil_the_first() -> None:
    data, rate = RECORDINGS["webm mono"]()
    half = len(data) // 2
    heard, _ = decode(data[:half] + np.random.default_rng(4).bytes(half))
    sound = heard[: round(0.45 * SECONDS * RATE)]
    assert alignment(sound, expected(rate)[: len(sound)])[1] > 0.97
    assert len(heard) <= SECONDS * RATE


@pytest.mark.parametrize(
    "data", [b"", b"\x1a", b"\x1a\x45\xdf\xa3", b"OggS", b"\0\0\0\x20ftypisom", b"RIFF\0\0\0\0WAVE"]
)
def test_a_header_alone_holds_no_audio(data: bytes) -> None:
    heard, _ = decode(data, claim=Claim.of({}, WEBM))
    assert len(heard) == 0


@pytest.mark.parametrize("kind", ["webm mono", "mp4 aac fragments"])
def test_no_more_is_made_than_is_wanted(kind: str) -> None:
    data, _ = RECORDINGS[kind]()
    heard, decoder = decode(data, max_seconds=1.0)
    assert (len(heard), decoder.full) == (RATE, True)


def test_a_codec_that_is_not_known_is_named() -> None:
    pcm = voice(1.0, 48_000)
    assert decode(encoded(pcm, 48_000, "matroska", codec="flac"))[1].problem == "A_FLAC in WebM"
    assert decode(encoded(pcm, 48_000, "mp4", codec="alac"))[1].problem == "an MP4 file without AAC or Opus"


@pytest.mark.parametrize(
    ("attributes", "mime", "claim"),
    [
        ({"trackId": "TR_1", "sampleRate": "48000", "channels": "1"}, WEBM, Claim("TR_1", 48_000, 1, raw=False)),
        ({"sampleRate": "24000", "channels": "1"}, "", Claim("", 24_000, 1)),
        ({"trackId": " TR_1 ", "sampleRate": "7999", "channels": "3"}, "application/octet-stream", Claim("TR_1", 0, 0)),
        ({"trackId": "x" * 500, "channels": "0"}, "audio/pcm", Claim("x" * 128, 0, 0)),
        ({}, "video/mp4", Claim(raw=False)),
    ],
)
def test_attributes_are_believed_as_far_as_they_can_be(attributes: dict[str, str], mime: str, claim: Claim) -> None:
    assert Claim.of(attributes, mime) == claim


def test_the_pieces_in_which_it_comes_make_no_difference() -> None:
    data, _ = RECORDINGS["webm mono"]()
    whole = decode(data, piece=1 << 20)[0]
    for piece in (7, 333, 4096):
        heard, _ = decode(data, piece=piece)
        assert len(heard) == len(whole)
        assert np.abs(heard.astype(int) - whole).max() <= 2, piece  # resampling to 16 bits is dithered
