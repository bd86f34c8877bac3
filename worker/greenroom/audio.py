"""PCM audio frames and resampling. No I/O.

Inside greenroom audio is 16-bit signed little-endian PCM, interleaved. ``AudioFrame`` carries the same attribute names
as ``livekit.rtc.AudioFrame``, so whatever has them can be handed in (``AudioFrameLike``).
"""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import soxr
from numpy.typing import NDArray

__all__ = [
    "AudioFrame",
    "AudioFrameLike",
    "Pcm",
    "Resampler",
    "faded",
    "quietest",
    "read_wav",
    "rms",
    "silence",
    "to_mono",
    "write_wav",
]

Pcm: TypeAlias = NDArray[np.int16]
"""Mono samples, shape ``(n,)``, int16."""


class AudioFrameLike(Protocol):
    """Any PCM frame: ours, or LiveKit's ``rtc.AudioFrame``."""

    @property
    def data(self) -> memoryview: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def num_channels(self) -> int: ...
    @property
    def samples_per_channel(self) -> int: ...


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """A stretch of mono audio.

    ``pcm``: int16 samples, shape ``(n,)``. ``sample_rate``: Hz. ``at``: when its first sample was captured, on the
    loop's clock, seconds; 0.0 where that has no meaning (synthesised audio).
    """

    pcm: Pcm
    sample_rate: int
    at: float = 0.0

    @property
    def data(self) -> memoryview:
        return self.pcm.data

    @property
    def num_channels(self) -> int:
        return 1

    @property
    def samples_per_channel(self) -> int:
        return len(self.pcm)

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.pcm) / self.sample_rate


def to_mono(frame: AudioFrameLike) -> Pcm:
    """The samples of any frame as mono int16; channels are averaged."""
    pcm: Pcm = np.frombuffer(frame.data, dtype=np.int16)
    if frame.num_channels == 1:
        return pcm
    return np.asarray(pcm.reshape(-1, frame.num_channels).mean(axis=1).round(), dtype=np.int16)


def silence(seconds: float, sample_rate: int) -> AudioFrame:
    """A frame of zeros."""
    return AudioFrame(np.zeros(round(seconds * sample_rate), dtype=np.int16), sample_rate)


def rms(pcm: Pcm) -> float:
    """Root mean square in int16 units, 0..32768; 0.0 for no samples."""
    if len(pcm) == 0:
        return 0.0
    wide = pcm.astype(np.float32)
    return float(np.sqrt(np.dot(wide, wide) / len(wide)))


def faded(pcm: Pcm) -> Pcm:
    """The same samples falling to silence, along half a cosine from just below 1 to just above 0."""
    curve = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, len(pcm) + 1) / (len(pcm) + 1))
    return np.asarray(np.rint(pcm * curve), dtype=np.int16)


def quietest(pcm: Pcm) -> int:
    """How many samples to take of these so that the cut is heard least: where two neighbours are nearest to zero.

    The first such place; 1 at least, or all of what is shorter than two samples.
    """
    if len(pcm) < 2:
        return len(pcm)
    levels = np.abs(pcm.astype(np.int32))
    return 1 + int(np.argmin(levels[:-1] + levels[1:]))


class Resampler:
    """Changes the rate of a mono stream, keeping state between frames so that they join without a click.

    ``push`` returns what is ready (it may be empty), ``flush`` the tail. With equal rates it hands samples through.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self.source_rate = source_rate
        self.target_rate = target_rate
        self._stream = (
            None
            if source_rate == target_rate
            else soxr.ResampleStream(source_rate, target_rate, 1, dtype="int16", quality="MQ")
        )

    def push(self, pcm: Pcm) -> Pcm:
        if self._stream is None:
            return pcm
        ready: Pcm = self._stream.resample_chunk(pcm)
        return ready

    def flush(self) -> Pcm:
        if self._stream is None:
            return np.zeros(0, dtype=np.int16)
        tail: Pcm = self._stream.resample_chunk(np.zeros(0, dtype=np.int16), last=True)
        self._stream.clear()
        return tail


def read_wav(path: Path | str) -> AudioFrame:
    """A whole 16-bit PCM wav file as one mono frame.

    Raises ``ValueError`` that names the file when it is not 16-bit PCM.
    """
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise ValueError(f"{path}: {8 * file.getsampwidth()}-bit samples; expected 16-bit PCM")
            channels, rate = file.getnchannels(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path}: not a wav file ({error}); expected 16-bit PCM") from error
    whole = len(data) - len(data) % (2 * channels)  # a file that was cut off may end inside a sample
    pcm: Pcm = np.frombuffer(data[:whole], dtype=np.int16)
    if channels > 1:
        pcm = np.asarray(pcm.reshape(-1, channels).mean(axis=1).round(), dtype=np.int16)
    return AudioFrame(pcm, rate)


def write_wav(path: Path | str, frame: AudioFrameLike) -> None:
    """Write a frame as a 16-bit PCM wav file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(frame.num_channels)
        file.setsampwidth(2)
        file.setframerate(frame.sample_rate)
        file.writeframes(bytes(frame.data))
