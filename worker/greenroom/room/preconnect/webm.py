"""WebM, as browsers record it: read flat. Pure.

Browsers write while they record, so that sizes are unknown and nothing points anywhere. Therefore no tree is kept:
an element with elements inside is entered by reading on, and any other is taken or skipped. After damage, reading goes
on at the next thing that looks like a cluster or a block of the track.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

from greenroom.room.preconnect.packets import OPUS_RATE, Demuxed, Packet, Track, Trim, opus_channels, opus_head

__all__ = ["WebmDemuxer"]


class _Element(IntEnum):
    SEGMENT = 0x18538067
    INFO = 0x1549A966
    TIMESTAMP_SCALE = 0x2AD7B1
    TRACKS = 0x1654AE6B
    TRACK_ENTRY = 0xAE
    TRACK_NUMBER = 0xD7
    TRACK_TYPE = 0x83
    CODEC = 0x86
    CODEC_PRIVATE = 0x63A2
    CODEC_DELAY = 0x56AA
    AUDIO = 0xE1
    CHANNELS = 0x9F
    CLUSTER = 0x1F43B675
    TIMESTAMP = 0xE7
    SIMPLE_BLOCK = 0xA3
    BLOCK_GROUP = 0xA0
    BLOCK = 0xA1
    DISCARD_PADDING = 0x75A2


ENTERED: Final = frozenset(
    {
        _Element.SEGMENT,
        _Element.INFO,
        _Element.TRACKS,
        _Element.TRACK_ENTRY,
        _Element.AUDIO,
        _Element.CLUSTER,
        _Element.BLOCK_GROUP,
    }
)
"""What these hold is read as if it stood beside them."""
TAKEN: Final = frozenset(_Element) - ENTERED
SKIPPED: Final = frozenset({0xEC, 0xBF, 0xA7, 0xAB, 0x9B, 0xFB, 0xA4, 0x5854, 0x75A1, 0x1C53BB6B, 0x1254C367})
"""What else may stand among the audio: Void, CRC-32, Position, PrevSize, BlockDuration, ReferenceBlock, CodecState,
SilentTracks, BlockAdditions, Cues, Tags. Any other is damage there, while before the audio anything may come."""
SOUND: Final = 2
LARGEST: Final = 64 * 1024
"""Bytes of an element that is taken; a packet of speech has some hundred."""
LARGEST_SKIPPED: Final = 1024 * 1024
LACED: Final = 0x06
_BEGINNING: Final = re.compile(rb"\x1f\x43\xb6\x75|\xa3")


class WebmDemuxer:
    """The first audio track of a WebM or Matroska stream."""

    container = "webm"

    def __init__(self) -> None:
        self.problem = ""
        self._data = bytearray()
        self._skipping = 0
        self._lost = False
        self._playing = False
        self._entry = _Entry()
        self._chosen: _Entry | None = None
        self._scale = 1_000_000
        self._cluster_time = 0

    def push(self, data: bytes) -> list[Demuxed]:
        self._data += data
        out: list[Demuxed] = []
        while not self.problem and self._step(out):
            pass
        return out

    def end(self) -> list[Demuxed]:
        return []

    def _step(self, out: list[Demuxed]) -> bool:
        """Take one element off the data; whether there may be another."""
        if self._skipping:
            gone = min(self._skipping, len(self._data))
            del self._data[:gone]
            self._skipping -= gone
            return not self._skipping
        if self._lost and not self._find_again():
            return False
        header = _header(self._data)
        if header is None:
            return False
        identity, size, start = header
        if identity in ENTERED:
            self._enter(identity)
            del self._data[:start]
        elif identity in TAKEN and size <= LARGEST:
            if len(self._data) < start + size:
                return False
            payload = bytes(self._data[start : start + size])
            del self._data[: start + size]
            self._take(identity, payload, out)
        elif size <= LARGEST_SKIPPED and (identity in SKIPPED or (identity and not self._playing)):
            del self._data[:start]
            self._skipping = size
        else:
            self._lost = True
            del self._data[:1]
        return True

    def _enter(self, identity: int) -> None:
        if identity in (_Element.TRACK_ENTRY, _Element.CLUSTER):
            if self._chosen is None and self._entry.kind == SOUND:
                self._chosen = self._entry
            self._entry = _Entry()
            self._playing = identity == _Element.CLUSTER

    def _take(self, identity: int, payload: bytes, out: list[Demuxed]) -> None:
        entry, number = self._entry, int.from_bytes(payload[-8:], "big")
        match identity:
            case _Element.TRACK_NUMBER:
                entry.number = number
            case _Element.TRACK_TYPE:
                entry.kind = number
            case _Element.CODEC:
                entry.codec = "".join(filter(str.isprintable, payload[:32].decode("ascii", "ignore")))
            case _Element.CODEC_PRIVATE:
                entry.private = payload
            case _Element.CODEC_DELAY:
                entry.delay = number
            case _Element.CHANNELS:
                entry.channels = number
            case _Element.TIMESTAMP_SCALE:
                self._scale = number or self._scale
            case _Element.TIMESTAMP:
                self._cluster_time = number
            case _Element.SIMPLE_BLOCK | _Element.BLOCK:
                self._block(payload, out)
            case _Element.DISCARD_PADDING if self._playing and payload:
                nanoseconds = int.from_bytes(payload[:8], "big", signed=True)
                out.append(Trim(max(0, nanoseconds) * OPUS_RATE // 1_000_000_000))

    def _block(self, payload: bytes, out: list[Demuxed]) -> None:
        number = _vint(payload, 0)
        if self._chosen is None or number is None or number[0] != self._chosen.number or len(payload) < number[1] + 4:
            return
        if not self._chosen.announced:
            self._chosen.announced = True
            track = self._chosen.track()
            if track is None:
                self.problem = f"{self._chosen.codec or 'no codec'} in WebM"
                return
            out.append(track)
        start = number[1]
        ticks = self._cluster_time + int.from_bytes(payload[start : start + 2], "big", signed=True)
        if not payload[start + 2] & LACED:  # no recorder puts several packets into one block
            out.append(Packet(payload[start + 3 :], ticks * self._scale / 1e9))

    def _find_again(self) -> bool:
        """Drop what cannot be the beginning of a cluster or a block."""
        at = 0
        while (found := _BEGINNING.search(self._data, at)) is not None:
            at = found.start()
            block = True if self._data[at] != _Element.SIMPLE_BLOCK else self._is_block(at)
            if block is not False:
                del self._data[:at]
                self._lost = block is None
                return not self._lost
            at += 1
        del self._data[: max(0, len(self._data) - 3)]
        return False

    def _is_block(self, at: int) -> bool | None:
        """Whether a block of the track stands there, and another element after it; ``None`` while that is not there."""
        number = self._chosen.number if self._chosen is not None else 0
        size = _vint(self._data, at + 1)
        if size is None:
            return None if len(self._data) < at + 10 else False
        if not 4 < size[0] <= LARGEST or not 0 < number < 127:
            return False
        start, after = size[1], size[1] + size[0]
        if len(self._data) < start + 4:
            return None
        if self._data[start] != 0x80 | number or self._data[start + 3] & 0x7E:
            return False
        if after >= len(self._data):
            return None
        return self._data[after] in (_Element.SIMPLE_BLOCK, _Element.BLOCK_GROUP, 0x1F)


class _Entry:
    """What is said of one track."""

    def __init__(self) -> None:
        self.number = 0
        self.kind = 0
        self.codec = ""
        self.private = b""
        self.delay = 0
        self.channels = 1
        self.announced = False

    def track(self) -> Track | None:
        """``None`` for what there is no decoder for."""
        channels = opus_channels(self.private) if self.private else min(self.channels, 2)
        if self.codec != "A_OPUS" or not channels:
            return None
        skip = round(self.delay * OPUS_RATE / 1e9) if self.delay else int.from_bytes(self.private[10:12], "little")
        return Track("opus", OPUS_RATE, channels, opus_head(channels), skip=min(skip, OPUS_RATE))


def _vint(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """A number of variable length, and where it ends; ``None`` where there is none, or not yet all of it."""
    if at >= len(data) or data[at] == 0:
        return None
    length = 9 - data[at].bit_length()
    if at + length > len(data):
        return None
    return int.from_bytes(data[at : at + length], "big") - (1 << 7 * length), at + length


def _header(data: bytearray) -> tuple[int, int, int] | None:
    """An element's identity, its size and where it begins; ``None`` while bytes are missing.

    What can be none has the identity 0. An unknown size is the largest that can be written: 2**56 - 1 or less.
    """
    if not data:
        return None
    length = 9 - data[0].bit_length()
    if length > 4:
        return 0, 0, 1
    if len(data) <= length:
        return None
    size = _vint(data, length)
    if size is None:
        return (0, 0, 1) if data[length] == 0 else None
    return int.from_bytes(data[:length], "big"), size[0], size[1]
