"""Raw samples, 16 bits little-endian, as LiveKit's clients for phones send them. Pure.

Nothing in the bytes says what they are, and the attributes that do may be wrong: one client labelled its mono audio
stereo, which at half the speed is nobody's voice. But a voice's samples follow each other smoothly, and two channels
side by side do not, or do so pairwise; so the first second tells. Another client wrote all of its scratch array for
every 10 ms that it was given, though they filled only a part; what was left in the rest is found and taken out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from greenroom.audio import Pcm
from greenroom.room.preconnect.attributes import RATES, Claim

__all__ = ["SCRATCH", "PcmReader", "RiffHeader", "channels_of", "is_noise"]

EVIDENCE: Final = 1.0
"""Audio from which it is told how many channels there are. Seconds."""
QUIET: Final = 100.0
"""Below this root mean square nothing is told from."""
SAME: Final = 0.3
"""Of the distance between neighbours: channels that carry one voice are nearer than that."""
APART: Final = 0.7
"""Of the distance between neighbours: a sample is nearer than that to the one after the next, if only they are of one
channel."""
LOUD: Final = 1500.0
ROUGH: Final = 0.15
"""A voice is smooth: neighbours correlate by far more. Bytes that are no samples do not, and they are loud."""

SCRATCH: Final = 1024
"""Bytes of the array that Android's client writes whole. What 10 ms leave of the last one is as it was before."""
BLOCKS: Final = 8
"""So many of them show that it does. Half of them must hold sound: all of what is silent looks alike."""


def channels_of(samples: Pcm) -> int | None:
    """1 or 2, from the samples themselves; ``None`` where they do not tell."""
    wide = samples[: len(samples) - len(samples) % 2].astype(np.float64)
    if len(wide) < 512 or np.sqrt(np.mean(wide**2)) < QUIET:
        return None
    steps = np.square(np.diff(wide))
    inside, across = float(np.mean(steps[0::2])), float(np.mean(steps[1::2]))
    after_next = float(np.mean(np.square(wide[2:] - wide[:-2])))
    if inside < SAME * across or after_next < APART * (inside + across) / 2:
        return 2
    return 1 if after_next > (inside + across) / 2 else None


def is_noise(samples: Pcm) -> bool:
    """Whether these are bytes of something else, taken for samples."""
    wide = samples.astype(np.float64)
    power = float(np.mean(wide**2)) if len(wide) else 0.0
    if len(wide) < 512 or power < LOUD**2:
        return False
    return all(abs(float(np.mean(wide[lag:] * wide[:-lag]))) < ROUGH * power for lag in (1, 2, 3, 4))


@dataclass(frozen=True, slots=True)
class _Padding:
    """``audio`` bytes of each ``block`` are audio; the rest is left over from before."""

    audio: int
    block: int

    @staticmethod
    def of(data: bytes, sample_rate: int) -> _Padding | None:
        """Found in the bytes themselves; ``None`` where there is none."""
        for channels in (1, 2):
            audio = sample_rate // 100 * 2 * channels
            block = -(-audio // SCRATCH) * SCRATCH
            count = len(data) // block
            if block == audio or count < BLOCKS:
                continue
            blocks = np.frombuffer(data[: count * block], dtype=np.uint8).reshape(count, block)
            before = blocks[:, audio - SCRATCH : block - SCRATCH] if block > SCRATCH else np.uint8(0)
            sounding = np.count_nonzero(blocks[:, :audio].any(axis=1))
            if 2 * sounding >= count and np.all(blocks[:, audio:] == before):
                return _Padding(audio, block)
        return None

    def take(self, data: bytearray, *, rest: bool) -> bytes:
        """The audio of the whole blocks, which ``data`` loses; with ``rest``, of what follows them too."""
        whole = len(data) if rest else len(data) - len(data) % self.block
        taken, data[:whole] = bytes(data[:whole]), b""
        return b"".join(taken[start : start + self.audio] for start in range(0, len(taken), self.block))


class RiffHeader:
    """The header of a wav file. ``claim``: what it says, once all of its ``size`` is there."""

    def __init__(self, data: bytes) -> None:
        self.size = 0
        self.claim: Claim | None = None
        self.problem = ""
        claim: Claim | None = None
        at = 12
        while len(data) >= at + 8:
            kind, size = struct.unpack_from("<4sI", data, at)
            if kind == b"data":
                self.size, self.claim = at + 8, claim
                return
            if kind == b"fmt " and len(data) >= at + 24:
                form, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at + 8)
                if form not in (1, 0xFFFE) or bits != 16 or channels not in (1, 2) or rate not in RATES:
                    self.problem = f"wav with {channels} channels of {bits} bits at {rate} Hz"
                    return
                claim = Claim(sample_rate=rate, channels=channels)
            at += 8 + size + size % 2


class PcmReader:
    """Makes whole mono samples of bytes. ``channels``: what they are said to be, 0 where nothing usable is said."""

    def __init__(self, *, sample_rate: int, channels: int) -> None:
        self.channels = channels
        self.problem = ""
        self._sample_rate = sample_rate
        self._needed = round(EVIDENCE * sample_rate) * 2 * max(1, channels)
        self._came = bytearray()
        self._data = bytearray()
        """The same without what is no audio."""
        self._padding: _Padding | None = None
        self._decided = False

    def push(self, data: bytes) -> Pcm:
        self._came += data
        if not self._decided and len(self._came) < self._needed:
            return np.zeros(0, dtype=np.int16)
        return self._read(rest=False)

    def end(self) -> Pcm:
        return self._read(rest=True)

    def _read(self, *, rest: bool) -> Pcm:
        decided, self._decided = self._decided, True
        if not decided:
            self._padding = _Padding.of(bytes(self._came), self._sample_rate)
        if self._padding is not None:
            self._data += self._padding.take(self._came, rest=rest)
        else:
            self._data += self._came
            self._came.clear()
        if self.problem:
            self._data.clear()
        whole = len(self._data) - len(self._data) % 4
        samples: Pcm = np.frombuffer(bytes(self._data[:whole]), dtype="<i2").astype(np.int16)
        if not decided:
            self.channels = channels_of(samples) or self.channels or 1
            if is_noise(samples):
                self.problem = "bytes that are no audio"
                self._data.clear()
                return samples[:0]
        del self._data[:whole]
        if self.channels == 1:
            return samples
        return np.asarray(samples.reshape(-1, self.channels).mean(axis=1).round(), dtype=np.int16)
