"""A text as it was spoken once: its audio, and where its words are in it. In memory, and as the bytes of a file.

A file is ``MAGIC``, the CRC-32 of all that follows, the length of the head (both big-endian, 4 bytes), the head
(msgpack: sample rate and parts) and the samples (16 bits, little-endian).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from greenroom.audio import AudioFrame, Pcm
from greenroom.providers.tts import SynthesizedAudio

__all__ = ["BrokenRendition", "Rendition"]

MAGIC = b"GRspeak1"


class BrokenRendition(ValueError):
    """The bytes are no rendition, or no longer."""


class _Part(msgspec.Struct, frozen=True, array_like=True):
    """So many samples, and the words that begin with them."""

    samples: int
    text: str
    aligned: bool


class _Head(msgspec.Struct, frozen=True, array_like=True):
    sample_rate: int
    parts: tuple[_Part, ...]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Rendition:
    """``pcm``: mono int16, all of it. ``head``: how it came."""

    head: _Head
    pcm: Pcm

    @staticmethod
    def of(pieces: Sequence[SynthesizedAudio]) -> Rendition | None:
        """``None`` where there is no sound, or not all at one rate."""
        rates = {piece.frame.sample_rate for piece in pieces}
        pcm = np.concatenate([piece.frame.pcm for piece in pieces]) if pieces else np.zeros(0, dtype=np.int16)
        if len(rates) != 1 or not len(pcm):
            return None
        parts = tuple(_Part(len(piece.frame.pcm), piece.text, piece.aligned) for piece in pieces)
        return Rendition(_Head(rates.pop(), parts), pcm)

    @property
    def sample_rate(self) -> int:
        return self.head.sample_rate

    @property
    def size(self) -> int:
        """Bytes, of the audio."""
        return self.pcm.nbytes

    def pieces(self) -> Iterator[SynthesizedAudio]:
        """What the voice made, piece by piece."""
        start = 0
        for part in self.head.parts:
            frame = AudioFrame(self.pcm[start : start + part.samples], self.sample_rate)
            start += part.samples
            yield SynthesizedAudio(frame, part.text, part.aligned, cached=True)

    def encode(self) -> bytes:
        head = _ENCODER.encode(self.head)
        rest = b"".join((len(head).to_bytes(4), head, self.pcm.astype("<i2").tobytes()))
        return b"".join((MAGIC, zlib.crc32(rest).to_bytes(4), rest))

    @staticmethod
    def decode(data: bytes) -> Rendition:
        """Raises ``BrokenRendition``."""
        begin = len(MAGIC) + 8
        if not data.startswith(MAGIC) or len(data) < begin:
            raise BrokenRendition("it does not begin as one")
        if zlib.crc32(data[begin - 4 :]).to_bytes(4) != data[begin - 8 : begin - 4]:
            raise BrokenRendition("its checksum is another")
        end = begin + int.from_bytes(data[begin - 4 : begin])
        try:
            head = _DECODER.decode(data[begin:end])
            pcm = np.frombuffer(data[end:], dtype="<i2").astype(np.int16, copy=False)
        except (msgspec.DecodeError, ValueError) as error:
            raise BrokenRendition(str(error)) from error
        if sum(part.samples for part in head.parts) != len(pcm):
            raise BrokenRendition("its audio has another length")
        return Rendition(head, pcm)
