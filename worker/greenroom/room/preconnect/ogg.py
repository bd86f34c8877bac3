"""Ogg with Opus inside (RFC 3533, RFC 7845). Pure.

Each page carries a checksum, so that what is damaged is known to be: such a page is left out, and the packets behind it
say by their page's position how much is missing.
"""

from __future__ import annotations

import struct
import zlib

from greenroom.room.preconnect.packets import (
    OPUS_RATE,
    Demuxed,
    Packet,
    Track,
    Trim,
    opus_channels,
    opus_head,
    opus_samples,
)

__all__ = ["OggDemuxer"]

MAGIC = b"OggS"
HEADER = struct.Struct("<4sBBqIIIB")
CONTINUED, LAST = 0x01, 0x04
LARGEST = 64 * 1024
"""Bytes of a packet that goes on over several pages."""
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


class OggDemuxer:
    """The first Opus stream of a physical stream."""

    container = "ogg"

    def __init__(self) -> None:
        self.problem = ""
        self._data = bytearray()
        self._serial: int | None = None
        self._begun = b""
        self._headers = 0
        self._skip = 0
        self._samples = 0
        """Of all packets so far, by the pages' positions where these say that some are missing."""

    def push(self, data: bytes) -> list[Demuxed]:
        self._data += data
        out: list[Demuxed] = []
        while (page := self._page()) is not None and not self.problem:
            self._read(page, out)
        return out

    def end(self) -> list[Demuxed]:
        """The whole packets of a page that is not whole: a page may hold a second."""
        out: list[Demuxed] = []
        start, data = self._data.find(MAGIC), bytes(self._data)
        if not self.problem and start >= 0 and len(data) > start + HEADER.size:
            data = data[start:]
            table = data[HEADER.size : HEADER.size + data[HEADER.size - 1]]
            there, whole, size = len(data) - HEADER.size - data[HEADER.size - 1], 0, 0
            for number, length in enumerate(table, start=1):
                size += length
                whole = number if size <= there and length < 255 else whole
            if whole:
                audio = data[HEADER.size + data[HEADER.size - 1] :]
                head = data[:5] + bytes((data[5] & ~LAST,)) + bytes(8) + data[14 : HEADER.size - 1] + bytes((whole,))
                self._read(head + table[:whole] + audio, out)
        return out

    def _page(self) -> bytes | None:
        """The next whole page."""
        while True:
            start = self._data.find(MAGIC)
            if start < 0:
                del self._data[: max(0, len(self._data) - len(MAGIC) + 1)]
                return None
            del self._data[:start]
            if len(self._data) < HEADER.size:
                return None
            segments = self._data[HEADER.size - 1]
            if len(self._data) < HEADER.size + segments:
                return None
            size = HEADER.size + segments + sum(self._data[HEADER.size : HEADER.size + segments])
            if len(self._data) < size:
                if self._data.find(MAGIC, 1) < 0:
                    return None
                # A page begins before this one's end: one of the two is none. A whole one goes first.
                if not self._another_whole():
                    return None
                del self._data[: len(MAGIC)]
                continue
            page = bytes(self._data[:size])
            if _checksum(page) == int.from_bytes(page[22:26], "little"):
                del self._data[:size]
                return page
            del self._data[: len(MAGIC)]

    def _another_whole(self) -> bool:
        start = self._data.find(MAGIC, 1)
        while start >= 0:
            rest = self._data[start : start + HEADER.size + 255 * 256]
            if len(rest) > HEADER.size:
                segments = rest[HEADER.size - 1]
                size = HEADER.size + segments + sum(rest[HEADER.size : HEADER.size + segments])
                page = bytes(rest[:size])
                if len(page) == size and _checksum(page) == int.from_bytes(page[22:26], "little"):
                    return True
            start = self._data.find(MAGIC, start + 1)
        return False

    def _read(self, page: bytes, out: list[Demuxed]) -> None:
        _, _, flags, position, serial, _, _, segments = HEADER.unpack_from(page)
        if self._serial is None:
            if not page.startswith(b"OpusHead", HEADER.size + segments):
                return
            self._serial = serial
        if serial != self._serial:
            return
        packets = self._packets(page, segments, continued=bool(flags & CONTINUED))
        audio = []
        for packet in packets:
            if self._headers < 2:
                self._header(packet, out)
            elif opus_samples(packet):
                audio.append(packet)
        held = sum(map(opus_samples, audio))
        first = self._samples
        if position > 0 and not flags & LAST:
            first = max(first, position - held)
        for packet in audio:
            out.append(Packet(packet, first / OPUS_RATE))
            first += opus_samples(packet)
        self._samples = first
        if flags & LAST and audio and 0 < position < first:
            out.append(Trim(min(first - position, held)))

    def _packets(self, page: bytes, segments: int, *, continued: bool) -> list[bytes]:
        """The packets that end on this page."""
        begun, self._begun = (self._begun if continued else b""), b""
        lost = continued and not begun
        packets, at = [], HEADER.size + segments
        for length in page[HEADER.size : HEADER.size + segments]:
            begun += page[at : at + length]
            at += length
            if length < 255:
                if not lost:
                    packets.append(begun)
                begun, lost = b"", False
        if segments and page[HEADER.size + segments - 1] == 255 and not lost and len(begun) <= LARGEST:
            self._begun = begun
        return packets

    def _header(self, packet: bytes, out: list[Demuxed]) -> None:
        self._headers += 1
        if self._headers > 1:
            return  # the tags
        channels = opus_channels(packet)
        if not channels:
            self.problem = "an Opus header that is none"
            return
        skip = int.from_bytes(packet[10:12], "little")
        out.append(Track("opus", OPUS_RATE, channels, opus_head(channels), skip=skip))


def _checksum(page: bytes) -> int:
    """Ogg's CRC is zlib's with the bits the other way round and other constants; computed over a zeroed field."""
    zeroed = page[:22] + b"\0\0\0\0" + page[26:]
    reflected = zlib.crc32(zeroed.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)
