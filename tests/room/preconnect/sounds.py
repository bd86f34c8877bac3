"""Voices that nobody has, and what recorders make of them."""

from __future__ import annotations

import io
import math
import struct
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream

from greenroom.audio import Pcm, Resampler
from greenroom.room.preconnect.pcm import SCRATCH

__all__ = [
    "FRAGMENTED",
    "alignment",
    "begun",
    "encoded",
    "level",
    "recoded",
    "resampled",
    "scratched",
    "stereo",
    "voice",
    "wav",
]

THROAT = 16_000
"""Hz, at which voices are made."""

FRAGMENTED = {"movflags": "frag_keyframe+delay_moov+default_base_moof", "frag_duration": "250000"}
"""MP4 as recorders write it that write while they record."""


@lru_cache(maxsize=32)
def voice(seconds: float, sample_rate: int = 48_000, *, seed: int = 1) -> Pcm:
    """Syllables with a gliding pitch and formants that wander, some hiss, and pauses between words. No two periods of
    it are the same, as no two of a person's are: in length (1 %), in loudness (5 %), and by the hiss."""
    random, count = np.random.default_rng(seed), round(seconds * THROAT) + THROAT // 10
    times = np.arange(count)
    pitch = np.interp(times, *_wandering(random, count, 95, 180))
    pulses = np.diff(np.floor(np.cumsum(pitch) / THROAT), prepend=0.0)
    at = np.flatnonzero(pulses)
    pulses[:] = 0.0
    shaken = at + random.normal(0.0, 0.01 * THROAT / pitch[at])
    pulses[np.clip(np.rint(shaken).astype(int), 0, count - 1)] = random.normal(1.0, 0.05, len(at))
    sound = np.convolve(pulses, np.hanning(24))[:count] + 0.06 * random.standard_normal(count)
    sound *= np.interp(times, *_words(random, count))
    for low, high, width in ((300, 800, 90), (900, 2200, 120), (2300, 3200, 180)):
        sound = _resonated(sound, np.interp(times, *_wandering(random, count, low, high)), width)
    pcm = np.asarray(np.clip(sound * 15_000 / np.abs(sound).max(), -32768, 32767), dtype=np.int16)
    return resampled(pcm, THROAT, sample_rate)[: round(seconds * sample_rate)]


def _resonated(sound: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
    """Through a resonance that moves."""
    radius = math.exp(-math.pi * width / THROAT)
    turns = (2 * radius * np.cos(2 * np.pi * centres / THROAT)).tolist()
    last, before, out = 0.0, 0.0, []
    for sample, turn in zip(sound.tolist(), turns, strict=True):
        last, before = sample + turn * last - radius * radius * before, last
        out.append(last)
    return np.array(out)


def _wandering(random: np.random.Generator, count: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    points = max(2, round(count / THROAT / 0.11))
    return np.linspace(0, count, points), random.uniform(low, high, points)


def _words(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    at, times, levels = 0.0, [0.0], [0.0]
    while at < count / THROAT:
        length, pause = random.uniform(0.12, 0.35), random.uniform(0.01, 0.09)
        times += [at + 0.015, at + length - 0.03, at + length, at + length + pause]
        levels += [1.0, random.uniform(0.5, 1.0), 0.01, 0.01]
        at += length + pause
    return np.array(times) * THROAT, np.array(levels)


def resampled(pcm: Pcm, source: int, target: int) -> Pcm:
    resampler = Resampler(source, target)
    return np.concatenate((resampler.push(pcm), resampler.flush()))


def stereo(pcm: Pcm, right: float = 1.0) -> Pcm:
    """Interleaved; the right channel ``right`` times as loud."""
    return np.stack((pcm, (pcm * right).astype(np.int16)), axis=1).reshape(-1)


def scratched(pcm: bytes, size: int) -> bytes:
    """As a client writes it that writes its whole scratch array, however little of it 10 ms (``size`` bytes) fill."""
    scratch, written = bytearray(SCRATCH), b""
    for start in range(0, len(pcm) - size + 1, size):
        for first in range(start, start + size, SCRATCH):
            part = pcm[first : min(first + SCRATCH, start + size)]
            scratch[: len(part)] = part
            written += scratch
    return written


def wav(pcm: Pcm, sample_rate: int, channels: int = 1) -> bytes:
    data = pcm.tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, channels, sample_rate,
                       sample_rate * 2 * channels, 2 * channels, 16)  # fmt: skip
    return head + struct.pack("<4sI", b"data", len(data)) + data


def encoded(
    pcm: Pcm,
    sample_rate: int,
    container: str,
    *,
    codec: str = "libopus",
    channels: int = 1,
    options: dict[str, str] | None = None,
) -> bytes:
    """A whole recording; ``pcm`` is mono, and every channel holds it."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options or {}) as output:
        stream = output.add_stream(codec, rate=sample_rate)
        assert isinstance(stream, AudioStream)
        layout = stream.layout = "mono" if channels == 1 else "stereo"
        stream.bit_rate = 64_000 * channels
        interleaved = np.repeat(pcm, channels).reshape(1, -1)
        for start in range(0, len(pcm), 960):
            piece = interleaved[:, start * channels : (start + 960) * channels]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="s16", layout=layout)
            frame.sample_rate, frame.pts = sample_rate, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def recoded(pcm: Pcm, *, bit_rate: int, frame: float) -> Pcm:
    """48 kHz audio after its way through Opus, in packets of ``frame`` seconds."""
    return _decoded(_packets(pcm, bit_rate, frame))[: len(pcm)]


def begun(pcm: Pcm, packet: int) -> Pcm:
    """The same, of 20 ms packets at a call's bit rate, for who comes when that many have passed: the first sample is
    that of the packet's beginning."""
    return _decoded(_packets(pcm, 32_000, 0.02)[packet:])


def _packets(pcm: Pcm, bit_rate: int, frame: float) -> list[bytes]:
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "s16"
    encoder.bit_rate, encoder.time_base = bit_rate, Fraction(1, 48_000)
    encoder.options = {"frame_duration": f"{frame * 1000:g}", "application": "voip"}
    size, made = round(frame * 48_000), []
    padded = np.concatenate((pcm, np.zeros(2 * size, dtype=np.int16)))
    for start in range(0, len(padded) - size + 1, size):
        audio = av.AudioFrame.from_ndarray(padded[start : start + size].reshape(1, -1), format="s16", layout="mono")
        audio.sample_rate, audio.pts = 48_000, start
        made += [bytes(packet) for packet in encoder.encode(audio)]
    return made


def _decoded(packets: list[bytes]) -> Pcm:
    decoder = av.CodecContext.create("libopus", "r")
    assert isinstance(decoder, AudioCodecContext)
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    made = [decoded.to_ndarray().reshape(-1) for packet in packets for decoded in decoder.decode(av.Packet(packet))]
    delay = 312  # samples that the encoder looks ahead
    return np.asarray(np.concatenate(made)[delay:], dtype=np.int16)


def alignment(heard: Pcm, source: Pcm) -> tuple[int, float]:
    """By how many samples ``heard`` is later than ``source``, and how well the two then correlate."""
    size = 1 << (len(heard) + len(source)).bit_length()
    one, other = heard.astype(np.float64), source.astype(np.float64)
    products = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size)), size)
    best = int(np.argmax(products))
    lag = best - size if best > size // 2 else best
    first, last = max(0, lag), min(len(one), len(other) + lag)
    mine, theirs = one[first:last], other[first - lag : last - lag]
    norm = float(np.sqrt(np.dot(mine, mine) * np.dot(theirs, theirs)))
    return lag, float(np.dot(mine, theirs)) / norm if norm else 0.0


def level(pcm: Pcm) -> float:
    """Root mean square, dB of full scale."""
    wide = pcm.astype(np.float64)
    power = float(np.dot(wide, wide)) / max(1, len(wide))
    return 10 * math.log10(max(1e-12, power / 32768**2))
