"""MP4 with AAC or Opus, whole or in fragments (ISO/IEC 14496-12). Pure.

Recorders that write while they record send fragments, each with a table of the packets that follow it. A whole file
has one table, which may come last: then its audio is there only at its end.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from greenroom.room.preconnect.packets import OPUS_RATE, Demuxed, Packet, Track, opus_head

__all__ = ["Mp4Demuxer"]

LARGEST_TABLE: Final = 1024 * 1024
LARGEST_PACKET: Final = 64 * 1024
MOST_PACKETS: Final = 100_000
"""In one table: more than half an hour."""
RATES: Final = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)


@dataclass(frozen=True, slots=True)
class _Sample:
    offset: int
    size: int
    at: float


@dataclass(slots=True)
class _Sound:
    """The audio track: what all of its packets have in common."""

    track: Track
    identity: int
    timescale: int
    duration: int = 0
    size: int = 0
    next_at: int = 0
    samples: list[_Sample] = field(default_factory=list)


class Mp4Demuxer:
    """The first audio track of an MP4 file."""

    container = "mp4"

    def __init__(self) -> None:
        self.problem = ""
        self._data = bytearray()
        self._box = 0
        """Where the next box at the top begins."""
        self._sound: _Sound | None = None
        self._waiting: deque[_Sample] = deque()

    def push(self, data: bytes) -> list[Demuxed]:
        self._data += data
        out: list[Demuxed] = []
        while not self.problem and self._step(out):
            pass
        if not self.problem:
            self._collect(out)
        return out

    def end(self) -> list[Demuxed]:
        if not self.problem and self._sound is None:
            self.problem = "an MP4 file without its table"
        return []

    def _step(self, out: list[Demuxed]) -> bool:
        """Read one box at the top; whether there may be another."""
        header = _box_header(self._data, self._box)
        if header is None:
            return False
        kind, start, size = header
        if size < start - self._box:
            self.problem = "an MP4 box that is smaller than its header"
            return False
        if kind in (b"moov", b"moof"):
            if size > LARGEST_TABLE:
                self.problem = "an MP4 table that is too large"
                return False
            if len(self._data) < self._box + size:
                return False
            table = bytes(self._data[start : self._box + size])
            try:
                self._read(kind, table, out)
            except (struct.error, IndexError):
                self.problem = f"an MP4 table that is broken ({kind.decode()})"
                return False
        self._box += size
        return True

    def _read(self, kind: bytes, table: bytes, out: list[Demuxed]) -> None:
        if kind == b"moov" and self._sound is None:
            self._sound = _read_movie(table)
            if self._sound is None:
                self.problem = "an MP4 file without AAC or Opus"
                return
            out.append(self._sound.track)
            self._waiting.extend(self._sound.samples)
            self._sound.samples = []
        elif kind == b"moof" and self._sound is not None:
            self._waiting.extend(_Fragment(self._sound, begins=self._box).read(table))
        if len(self._waiting) > MOST_PACKETS:
            self.problem = "an MP4 table with too many packets"

    def _collect(self, out: list[Demuxed]) -> None:
        """The packets that are there now."""
        while self._waiting:
            sample = self._waiting[0]
            if len(self._data) < sample.offset + sample.size:
                return
            self._waiting.popleft()
            data = bytes(self._data[sample.offset : sample.offset + sample.size])
            if data:
                out.append(Packet(data, sample.at))


def _box_header(data: bytes | bytearray, at: int) -> tuple[bytes, int, int] | None:
    """A box's kind, where what it holds begins, and its size with its header."""
    if len(data) < at + 8:
        return None
    size, kind = struct.unpack_from(">I4s", data, at)
    if size == 1:
        if len(data) < at + 16:
            return None
        return kind, at + 16, struct.unpack_from(">Q", data, at + 8)[0]
    return kind, at + 8, size or 1 << 62  # 0: as long as the file


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes inside of one: kind and what it holds."""
    at = 0
    while (header := _box_header(data, at)) is not None:
        kind, start, size = header
        if size < start - at:
            return
        yield kind, data[start : at + size]
        at += size


def _find(data: bytes, *path: bytes) -> bytes | None:
    """The first box at a path."""
    for kind in path:
        found = next((inside for name, inside in _boxes(data) if name == kind), None)
        if found is None:
            return None
        data = found
    return data


def _read_movie(moov: bytes) -> _Sound | None:
    """The first audio track that can be decoded, with its table of packets, which is empty where fragments follow."""
    movie_header = _find(moov, b"mvhd") or b""
    movie_scale = struct.unpack_from(">I", movie_header, 20 if movie_header[:1] == b"\1" else 12)[0]
    for kind, trak in _boxes(moov):
        handler = _find(trak, b"mdia", b"hdlr") or b""
        if kind != b"trak" or handler[8:12] != b"soun":
            continue
        sound = _read_track(trak, movie_scale)
        if sound is None:
            continue
        for name, trex in _boxes(_find(moov, b"mvex") or b""):
            if name == b"trex" and struct.unpack_from(">I", trex, 4)[0] == sound.identity:
                sound.duration, sound.size = struct.unpack_from(">II", trex, 12)
        return sound
    return None


def _read_track(trak: bytes, movie_scale: int) -> _Sound | None:
    track_header = _find(trak, b"tkhd") or b""
    identity = struct.unpack_from(">I", track_header, 20 if track_header[0] == 1 else 12)[0]
    media_header = _find(trak, b"mdia", b"mdhd") or b""
    timescale = struct.unpack_from(">I", media_header, 20 if media_header[0] == 1 else 12)[0]
    table = _find(trak, b"mdia", b"minf", b"stbl") or b""
    described = _read_description(_find(table, b"stsd") or b"")
    if described is None or not timescale:
        return None
    codec, rate, channels, config, skip = described
    length: int | None = None
    edit = _read_edit(_find(trak, b"edts", b"elst") or b"")
    if edit is not None:
        duration, media_time = edit
        skip = round(media_time * rate / timescale)
        length = round(duration * rate / movie_scale) if duration and movie_scale else None
    track = Track(codec, rate, channels, config, skip=min(skip, rate), length=length)
    sound = _Sound(track, identity, timescale)
    sound.samples = _read_table(table, timescale)
    return sound


def _read_edit(elst: bytes) -> tuple[int, int] | None:
    """The length that is heard, in the movie's ticks, and where it begins, in the track's: the first that has any."""
    if not elst:
        return None
    entry = struct.Struct(">Qq4x" if elst[0] == 1 else ">Ii4x")
    for index in range(min(struct.unpack_from(">I", elst, 4)[0], 8)):
        duration, media_time = entry.unpack_from(elst, 8 + index * entry.size)
        if media_time >= 0:
            return duration, media_time
    return None


def _read_description(stsd: bytes) -> tuple[Literal["aac", "opus"], int, int, bytes, int] | None:
    """Codec, rate, channels, the decoder's configuration, and what it skips; ``None`` for another codec."""
    for kind, entry in _boxes(stsd[8:]):
        if kind == b"mp4a" and (at := entry.find(b"esds")) >= 0:
            config = _read_esds(entry[at + 8 :])
            described = _read_aac(config)
            if described is not None:
                return "aac", *described, config, 0
        if kind == b"Opus" and (at := entry.find(b"dOps")) >= 0 and len(entry) >= at + 15:
            channels, skip, family = entry[at + 5], struct.unpack_from(">H", entry, at + 6)[0], entry[at + 14]
            if channels in (1, 2) and family == 0:
                return "opus", OPUS_RATE, channels, opus_head(channels), skip
    return None


def _read_esds(descriptors: bytes) -> bytes:
    """The decoder's own configuration: descriptor 5, inside 4, inside 3."""
    at = 0
    while at < len(descriptors):
        tag, at, size = descriptors[at], at + 1, 0
        for _ in range(4):
            byte, at = descriptors[at], at + 1
            size = size << 7 | byte & 0x7F
            if not byte & 0x80:
                break
        if tag == 5:
            return descriptors[at : at + min(size, 64)]
        at += {3: 3, 4: 13}.get(tag, size)
    return b""


def _read_aac(config: bytes) -> tuple[int, int] | None:
    """Rate and channels of an ``AudioSpecificConfig``; ``None`` for what is not AAC-LC or its kin, mono or stereo."""
    if len(config) < 2:
        return None
    bits = int.from_bytes(config[:8].ljust(8, b"\0"), "big")
    kind, index = bits >> 59, bits >> 55 & 15
    rate, rest = (bits >> 31 & 0xFFFFFF, bits >> 27) if index == 15 else (RATES[index] if index < 13 else 0, bits >> 51)
    channels = rest & 15
    if kind not in (1, 2, 5, 29) or not 7_350 <= rate <= 96_000 or channels not in (1, 2):
        return None
    return rate, channels


def _read_table(stbl: bytes, timescale: int) -> list[_Sample]:
    """Where each packet is: chunks of packets, each chunk with its place, each packet with its size and duration."""
    sizes = _read_sizes(_find(stbl, b"stsz") or b"")
    offsets = _read_offsets(_find(stbl, b"stco"), _find(stbl, b"co64"))
    runs = _read_entries(_find(stbl, b"stsc") or b"", ">III")
    durations = _read_entries(_find(stbl, b"stts") or b"", ">II")
    times = (duration for count, duration in durations for _ in range(min(count, MOST_PACKETS)))
    samples: list[_Sample] = []
    ticks = 0
    for chunk, offset in enumerate(offsets, start=1):
        held = next((count for first, count, _ in reversed(runs) if first <= chunk), 0)
        for _ in range(held):
            if len(samples) >= len(sizes):
                return samples
            size = sizes[len(samples)]
            samples.append(_Sample(offset, size, ticks / timescale))
            offset += size
            ticks += next(times, 0)
    return samples


def _read_entries(box: bytes, form: str) -> list[tuple[int, ...]]:
    if len(box) < 8:
        return []
    entry = struct.Struct(form)
    count = min(struct.unpack_from(">I", box, 4)[0], MOST_PACKETS, (len(box) - 8) // entry.size)
    return [entry.unpack_from(box, 8 + index * entry.size) for index in range(count)]


def _read_sizes(stsz: bytes) -> list[int]:
    if len(stsz) < 12:
        return []
    same, count = struct.unpack_from(">II", stsz, 4)
    count = min(count, MOST_PACKETS)
    sizes = [same] * count if same else [size for (size,) in _read_entries(stsz[4:], ">I")]
    return [min(size, LARGEST_PACKET) for size in sizes]


def _read_offsets(stco: bytes | None, co64: bytes | None) -> list[int]:
    entries = _read_entries(stco, ">I") if stco is not None else _read_entries(co64 or b"", ">Q")
    return [offset for (offset,) in entries]


class _Fragment:
    """The packets that one fragment announces. ``begins``: where in the file it does."""

    def __init__(self, sound: _Sound, *, begins: int) -> None:
        self.samples: list[_Sample] = []
        self._sound = sound
        self._begins = begins
        self._base = begins
        self._offset = begins
        self._duration = sound.duration
        self._size = sound.size

    def read(self, moof: bytes) -> list[_Sample]:
        for kind, traf in _boxes(moof):
            header = _find(traf, b"tfhd") or b""
            if kind == b"traf" and struct.unpack_from(">I", header, 4)[0] == self._sound.identity:
                self._read_header(header)
                decode_time = _find(traf, b"tfdt")
                if decode_time is not None:
                    form = ">Q" if decode_time[0] == 1 else ">I"
                    self._sound.next_at = struct.unpack_from(form, decode_time, 4)[0]
                for name, trun in _boxes(traf):
                    if name == b"trun":
                        self._read_run(trun)
        return self.samples

    def _read_header(self, tfhd: bytes) -> None:
        """Where offsets count from, and the duration and size of packets that name none."""
        flags, fields = int.from_bytes(tfhd[1:4], "big"), _Fields(tfhd, 8)
        self._base = fields.take(">Q", flags & 0x01, self._begins)
        fields.take(">I", flags & 0x02, 0)
        self._duration = fields.take(">I", flags & 0x08, self._sound.duration)
        self._size = fields.take(">I", flags & 0x10, self._sound.size)
        self._offset = self._base

    def _read_run(self, trun: bytes) -> None:
        flags, fields = int.from_bytes(trun[1:4], "big"), _Fields(trun, 8)
        count = struct.unpack_from(">I", trun, 4)[0]
        if flags & 0x001:
            self._offset = self._base + fields.take(">i", 1, 0)
        fields.take(">I", flags & 0x004, 0)
        for _ in range(count):
            if len(self.samples) >= MOST_PACKETS:
                return
            duration = fields.take(">I", flags & 0x100, self._duration)
            size = min(fields.take(">I", flags & 0x200, self._size), LARGEST_PACKET)
            fields.take(">I", flags & 0x400, 0)
            fields.take(">I", flags & 0x800, 0)
            self.samples.append(_Sample(max(0, self._offset), size, self._sound.next_at / self._sound.timescale))
            self._offset += size
            self._sound.next_at += duration


class _Fields:
    """Numbers one after the other, of which any may be left out."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def take(self, form: str, there: int, default: int) -> int:
        if not there:
            return default
        value: int = struct.unpack_from(form, self._data, self._at)[0]
        self._at += struct.calcsize(form)
        return value
