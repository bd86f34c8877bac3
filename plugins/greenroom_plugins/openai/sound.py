"""Speech as it travels: a wav file to the endpoint, PCM or a wav file from it."""

from __future__ import annotations

import struct

import numpy as np

from greenroom.audio import AudioFrame, Pcm, Resampler
from greenroom_plugins.openai.errors import MalformedAnswer

__all__ = ["Onset", "SoundReader", "wav"]

_AUDIBLE = 100  # int16: 50 dB below full scale
_FORMATS = {b"ID3": "mp3", b"OggS": "Opus", b"fLaC": "FLAC", b"\xff\xfb": "mp3", b"\xff\xf3": "mp3", b"\xff\xf1": "AAC"}
_PCM, _EXTENSIBLE = 1, 0xFFFE


def wav(audio: AudioFrame) -> bytes:
    """The frame as a 16-bit mono wav file."""
    data = audio.pcm.tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH",
        b"RIFF",
        36 + len(data),
        b"WAVE",
        b"fmt ",
        16,
        _PCM,
        1,
        audio.sample_rate,
        2 * audio.sample_rate,
        2,
        16,
    )
    return head + struct.pack("<4sI", b"data", len(data)) + data


class SoundReader:
    """Bytes in pieces of any length, to samples at ``sample_rate``.

    Without a header they are taken for 16-bit little-endian mono PCM at that rate; a wav file says what it holds. What
    is neither is a ``MalformedAnswer``, as far as that can be seen.
    """

    def __init__(self, sample_rate: int, *, labelled: bool = False) -> None:
        """``labelled``: what comes is said to be another format, so that its first bytes may be those of one."""
        self._rate = sample_rate
        self._labelled = labelled
        self._held = b""
        self._channels = 0  # known once the beginning is
        self._resampler = Resampler(sample_rate, sample_rate)

    def push(self, data: bytes) -> Pcm:
        """The samples that are complete."""
        self._held += data
        if not self._channels and not self._begin():
            return np.zeros(0, dtype=np.int16)
        whole = len(self._held) - len(self._held) % (2 * self._channels)
        pcm: Pcm = np.frombuffer(self._held[:whole], dtype="<i2").astype(np.int16, copy=False)
        self._held = self._held[whole:]
        if self._channels > 1:
            pcm = np.asarray(pcm.reshape(-1, self._channels).mean(axis=1).round(), dtype=np.int16)
        return self._resampler.push(pcm)

    def flush(self) -> Pcm:
        """The rest, once all has come; half a sample is not one."""
        if not self._channels and len(self._held) >= 2 and not self._held.startswith(b"RIFF"):
            self._channels = 1
            return self.push(b"")
        return self._resampler.flush()

    def _begin(self) -> bool:
        """Whether it is known what comes."""
        if len(self._held) < 12:
            return False
        if self._held[:4] == b"RIFF" and self._held[8:12] == b"WAVE":
            return self._header()
        for mark, name in _FORMATS.items():
            if self._held.startswith(mark) and (len(mark) > 2 or self._labelled):
                raise MalformedAnswer(f"sound in {name}; expected pcm or wav")
        self._channels = 1
        return True

    def _header(self) -> bool:
        at, layout = 12, None
        while len(self._held) >= at + 8:
            kind, size = struct.unpack_from("<4sI", self._held, at)
            if kind == b"data":
                if layout is None:
                    raise MalformedAnswer("a wav file without a format")
                self._settle(*layout)
                self._held = self._held[at + 8 :]
                return True
            if kind == b"fmt " and len(self._held) >= at + 24:
                code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", self._held, at + 8)
                layout = code, channels, rate, bits
            at += 8 + size + size % 2
        return False

    def _settle(self, code: int, channels: int, rate: int, bits: int) -> None:
        if code not in (_PCM, _EXTENSIBLE) or bits != 16 or not 1 <= channels <= 8 or not 8000 <= rate <= 192_000:
            raise MalformedAnswer(f"a wav file of {bits} bits, {channels} channels, {rate} Hz; expected 16-bit PCM")
        self._channels = channels
        self._resampler = Resampler(rate, self._rate)


class Onset:
    """Keeps back the silence before a sentence, all but ``lead`` seconds: speech begins sooner.

    ``heard``: there was something in it.
    """

    def __init__(self, sample_rate: int, *, lead: float) -> None:
        self.heard = False
        self._lead = round(lead * sample_rate)
        self._quiet: Pcm = np.zeros(0, dtype=np.int16)

    def push(self, pcm: Pcm) -> Pcm:
        if self.heard:
            return pcm
        audible = np.flatnonzero(np.abs(pcm.astype(np.int32)) > _AUDIBLE)
        self.heard = len(audible) > 0
        whole = np.concatenate([self._quiet, pcm])
        kept = whole[max(0, len(self._quiet) + int(audible[0]) - self._lead) :] if self.heard else whole[:0]
        self._quiet = whole[:0] if self.heard else whole[max(0, len(whole) - self._lead) :]
        return kept
