"""What a client says of its recording: texts, each of which may be missing or wrong. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["CHANNELS", "RATES", "SAMPLE_RATE", "TRACK", "Claim"]

TRACK: Final = "trackId"
SAMPLE_RATE: Final = "sampleRate"
CHANNELS: Final = "channels"
RATES: Final = range(8_000, 192_001)
"""Hz, of samples without a container."""
LONGEST: Final = 128
"""Characters of an identity that are kept."""
RAW: Final = ("", "application/octet-stream", "pcm", "raw", "l16", "wav")
"""What the mime type of samples without a container is, or holds."""


@dataclass(frozen=True, slots=True)
class Claim:
    """``track``: empty where none is named. ``sample_rate`` and ``channels``: 0 where nothing usable is said.

    ``raw``: by the mime type, the bytes may be samples without a container.
    """

    track: str = ""
    sample_rate: int = 0
    channels: int = 0
    raw: bool = True

    @staticmethod
    def of(attributes: Mapping[str, str], mime_type: str) -> Claim:
        mime = mime_type.strip().lower()
        return Claim(
            track=attributes.get(TRACK, "").strip()[:LONGEST],
            sample_rate=_number(attributes.get(SAMPLE_RATE, ""), RATES),
            channels=_number(attributes.get(CHANNELS, ""), range(1, 3)),
            raw=mime in RAW[:2] or any(word in mime for word in RAW[2:]),
        )


def _number(text: str, allowed: range) -> int:
    """The whole number that a text is, in decimal digits; 0 for anything else."""
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):
        return 0
    value = int(text)
    return value if value in allowed else 0
