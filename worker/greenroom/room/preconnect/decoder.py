"""A recording, as its bytes arrive: what it is, and the mono audio in it.

The bytes decide, not what is said of them: a container is known by its first bytes, and only where there is none, and
the mime type names none, are they taken for samples. Whatever the bytes are, nothing is raised: ``problem`` says why no
more comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from greenroom.audio import Pcm, Resampler
from greenroom.room.preconnect.attributes import Claim
from greenroom.room.preconnect.codec import PacketDecoder
from greenroom.room.preconnect.mp4 import Mp4Demuxer
from greenroom.room.preconnect.ogg import OggDemuxer
from greenroom.room.preconnect.packets import Demuxed, Demuxer, Packet, Track, Trim, opus_samples
from greenroom.room.preconnect.pcm import PcmReader, RiffHeader
from greenroom.room.preconnect.webm import WebmDemuxer

__all__ = ["Decoder"]

MAGIC: Final = 12
"""Bytes that tell what it is."""
LONGEST_HEADER: Final = 4096
"""Bytes of a wav file before its audio."""
HOLE: Final = 0.15
"""A packet that comes so much later than the samples before it shows that some are missing: silence takes their place,
and times stay true. Clocks of recorders are off by less. Seconds."""
LONGEST_HOLE: Final = 10.0
"""A longer one is no hole: the times are wrong. Seconds."""
AAC_FRAME: Final = 1024
"""Samples of a packet of AAC."""
NOTHING: Final[Pcm] = np.zeros(0, dtype=np.int16)


class Decoder:
    """Give it the bytes, and it gives mono audio at ``sample_rate``, at most ``max_seconds`` of it.

    For one thread at a time. It takes some milliseconds for a second of audio.
    """

    def __init__(self, claim: Claim, *, sample_rate: int, max_seconds: float) -> None:
        self.sample_rate = sample_rate
        self.format = ""
        """What it turned out to be, such as "webm/opus"."""
        self.problem = ""
        self.full = False
        """There is more than ``max_seconds``: the rest is not wanted."""
        self.lost = 0.0
        """Seconds of it that were missing or could not be decoded; silence took their place."""
        self.reached = 0.0
        """How far into the recording the bytes so far reach, in seconds: that had been captured when they came."""
        self._claim = claim
        self._head = b""
        self._source: _Container | _Samples | None = None
        self._left = round(max_seconds * sample_rate)

    def push(self, data: bytes) -> list[Pcm]:
        """The audio that these bytes complete."""
        if self.problem or self.full:
            return []
        if self._source is None:
            self._head += data
            if len(self._head) < MAGIC:
                return []
            data = self._recognise()
        return self._give(self._source.push(data)) if self._source is not None else []

    def end(self) -> list[Pcm]:
        """What was held back; no bytes come any more."""
        early: list[Pcm] = []
        if self._source is None and not self.problem:
            data = self._recognise() if self._head else b""
            if self._source is None:
                if not self.problem:
                    self.problem = "it ends before it begins"
                return []
            early = self._give(self._source.push(data))
        return early + self._give(self._source.end()) if self._source is not None else early

    def _recognise(self) -> bytes:
        """Choose what reads it; returns the bytes that it is to read."""
        head, claim = self._head, self._claim
        if head.startswith(b"\x1a\x45\xdf\xa3"):
            self._source = _Container(WebmDemuxer(), self.sample_rate)
        elif head.startswith(b"OggS"):
            self._source = _Container(OggDemuxer(), self.sample_rate)
        elif head[4:8] in (b"ftyp", b"styp", b"moov", b"moof"):
            self._source = _Container(Mp4Demuxer(), self.sample_rate)
        elif head.startswith(b"RIFF") and head[8:12] == b"WAVE":
            header = RiffHeader(head)
            if header.claim is not None:
                head = head[header.size :]
                self._source = _Samples(header.claim, self.sample_rate)
            elif header.problem or len(head) > LONGEST_HEADER:
                self.problem = header.problem or "a wav file without audio"
        elif not claim.raw:
            self.problem = "it is not what its mime type says"
        elif not claim.sample_rate:
            self.problem = "samples without a usable sample rate"
        else:
            self._source = _Samples(claim, self.sample_rate)
        self._head = b"" if self._source is not None or self.problem else head
        return head

    def _give(self, pieces: Iterable[Pcm]) -> list[Pcm]:
        given: list[Pcm] = []
        for piece in pieces:
            if len(piece):
                given.append(piece[: self._left])
                self._left -= len(given[-1])
            if not self._left:
                self.full = True
                break
        if self._source is not None:
            self.format, self.lost, self.reached = self._source.format, self._source.lost, self._source.reached
            self.problem = self.problem or self._source.problem
        return given


class _Samples:
    """Raw samples."""

    def __init__(self, claim: Claim, sample_rate: int) -> None:
        self.format = f"pcm/{claim.sample_rate}"
        self.lost = 0.0
        self.reached = 0.0
        self._sample_rate = claim.sample_rate
        self._reader = PcmReader(sample_rate=claim.sample_rate, channels=claim.channels)
        self._resampler = Resampler(claim.sample_rate, sample_rate)

    @property
    def problem(self) -> str:
        return self._reader.problem

    def push(self, data: bytes) -> Iterator[Pcm]:
        yield self._read(self._reader.push(data))

    def end(self) -> Iterator[Pcm]:
        yield self._read(self._reader.end())
        yield self._resampler.flush()

    def _read(self, samples: Pcm) -> Pcm:
        self.reached += len(samples) / self._sample_rate
        return self._resampler.push(samples)


class _Container:
    """Packets in a container. The last one's samples are held back, since some of them may not be meant to be heard."""

    def __init__(self, demuxer: Demuxer, sample_rate: int) -> None:
        self.format = demuxer.container
        self.problem = ""
        self.lost = 0.0
        self._demuxer = demuxer
        self._target = sample_rate
        self._track: Track | None = None
        self._decoder: PacketDecoder | None = None
        self._resampler: Resampler | None = None
        self._held: Pcm = NOTHING
        self._skip = 0
        self._left: int | None = None
        self.reached = 0.0
        self._first: float | None = None

    def push(self, data: bytes) -> Iterator[Pcm]:
        return self._take(self._demuxer.push(data))

    def end(self) -> Iterator[Pcm]:
        yield from self._take(self._demuxer.end())
        yield self._let_go(NOTHING)
        if self._resampler is not None:
            yield self._resampler.flush()

    def _take(self, parts: list[Demuxed]) -> Iterator[Pcm]:
        for part in parts:
            match part:
                case Track():
                    self._begin(part)
                case Trim(samples):
                    self._held = self._held[: max(0, len(self._held) - samples)]
                case Packet():
                    yield from self._play(part)
        self.problem = self._demuxer.problem

    def _begin(self, track: Track) -> None:
        self._track = track
        self.format = f"{self._demuxer.container}/{track.codec}"
        self._decoder = PacketDecoder(track)
        self._skip, self._left = track.skip, track.length

    def _play(self, packet: Packet) -> Iterator[Pcm]:
        if self._decoder is None or self._track is None:
            return
        samples = self._decoder.decode(packet.data)
        if samples is None:
            samples = np.zeros(self._duration(packet.data), dtype=np.int16)
            self.lost += len(samples) / self._decoder.sample_rate
        missing = self._missing(packet)
        self.lost += missing
        self.reached += missing + len(samples) / self._decoder.sample_rate
        if missing:
            yield self._let_go(np.zeros(round(missing * self._decoder.sample_rate), dtype=np.int16))
        yield self._let_go(samples)

    def _duration(self, data: bytes) -> int:
        """Samples in a packet that cannot be decoded."""
        return opus_samples(data) if self._track is not None and self._track.codec == "opus" else AAC_FRAME

    def _missing(self, packet: Packet) -> float:
        """Seconds that are missing before a packet."""
        if packet.at is None:
            return 0.0
        if self._first is None:
            self._first = packet.at
        missing = packet.at - self._first - self.reached
        if missing > LONGEST_HOLE or missing < -LONGEST_HOLE:
            self._first = packet.at - self.reached
        return missing if HOLE < missing <= LONGEST_HOLE else 0.0

    def _let_go(self, samples: Pcm) -> Pcm:
        """Hold these back and give those before, less what is not meant to be heard, at the rate that is wanted."""
        given, self._held = self._held, samples
        if self._skip:
            skipped = min(self._skip, len(given))
            given, self._skip = given[skipped:], self._skip - skipped
        if self._left is not None:
            given = given[: self._left]
            self._left -= len(given)
        if not len(given) or self._decoder is None:
            return NOTHING
        if self._resampler is None:
            self._resampler = Resampler(self._decoder.sample_rate, self._target)
        return self._resampler.push(given)
