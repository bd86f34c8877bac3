"""What a container is taken apart into. The readers of containers are pure: bytes in, these out.

They never raise, whatever the bytes are: what is broken is skipped, and reading goes on where it makes sense again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

__all__ = ["OPUS_RATE", "Demuxed", "Demuxer", "Packet", "Track", "Trim", "opus_channels", "opus_head", "opus_samples"]

OPUS_RATE = 48_000
"""Hz, in which Opus counts its samples, whatever was recorded."""
_FRAMES = (
    *(480, 960, 1920, 2880) * 3,  # silk
    *(480, 960) * 2,  # hybrid
    *(120, 240, 480, 960) * 4,  # celt
)
"""Samples of one frame, by the configuration in a packet's first byte (RFC 6716, 3.1)."""
_LONGEST = 5760
"""Samples in 120 ms, the most that a packet may hold."""


@dataclass(frozen=True, slots=True)
class Track:
    """The audio of a container.

    ``config``: what the codec needs to know. ``skip``: samples at the beginning that the encoder put there, and
    ``length``: how many follow that are meant to be heard, ``None`` for all; both at ``sample_rate``.
    """

    codec: Literal["opus", "aac"]
    sample_rate: int
    channels: int
    config: bytes
    skip: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Packet:
    """``at``: when its first sample sounds, in seconds of the container's own time; ``None`` where that is unknown."""

    data: bytes
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Trim:
    """So many samples at the end of the packet before are not meant to be heard."""

    samples: int


Demuxed: TypeAlias = Track | Packet | Trim


class Demuxer(Protocol):
    """One container, as it arrives. A ``Track`` comes once, before the first ``Packet``."""

    container: str
    """Its name, for people."""
    problem: str
    """Why there will be no more, empty while there may be."""

    def push(self, data: bytes) -> list[Demuxed]:
        """What the next bytes complete."""
        ...

    def end(self) -> list[Demuxed]:
        """What was held back; no bytes come any more."""
        ...


def opus_samples(packet: bytes) -> int:
    """How many samples of each channel a packet holds; 0 for what is no packet."""
    if not packet:
        return 0
    code = packet[0] & 3
    if code == 3 and len(packet) < 2:
        return 0
    frames = (1, 2, 2, packet[1] & 63 if code == 3 else 0)[code]
    samples = frames * _FRAMES[packet[0] >> 3]
    return samples if samples <= _LONGEST else 0


def opus_channels(head: bytes) -> int:
    """The channels that an ``OpusHead`` names; 0 for what is none, or has more than a microphone."""
    if len(head) < 19 or not head.startswith(b"OpusHead"):
        return 0
    channels = head[9]
    return channels if channels in (1, 2) and head[18] == 0 else 0


def opus_head(channels: int) -> bytes:
    """An ``OpusHead`` without anything to skip, so that what is skipped is decided in one place."""
    return b"OpusHead\x01" + bytes((channels,)) + b"\0\0" + OPUS_RATE.to_bytes(4, "little") + b"\0\0\0"
