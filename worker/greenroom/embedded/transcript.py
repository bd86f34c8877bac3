"""What both sides said, folded from the room's text streams. Pure: times are handed in.

A segment is one stretch of speech. The agent's comes as one stream of deltas; the user's as a fresh stream of the
whole text at each update, with the same segment id, and so does a correction of the agent's. So within a stream text
is appended, and a new stream of a known segment replaces what was there. A stream says on closing whether its segment
is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["Segment", "Speaker", "Transcript"]

Speaker = Literal["user", "agent"]


@dataclass(slots=True)
class Segment:
    """``began``: when its first stream opened. ``open``: text is still coming. ``final``: it will not change."""

    speaker: Speaker
    began: float
    text: str = ""
    open: bool = True
    final: bool = False
    stream: str = ""


class Transcript:
    """The segments of a call, oldest first."""

    def __init__(self) -> None:
        self._segments: dict[tuple[Speaker, str], Segment] = {}

    def begin(self, stream: str, *, speaker: Speaker, segment: str, now: float) -> None:
        """A text stream opened."""
        known = self._segments.setdefault((speaker, segment), Segment(speaker, now))
        known.text, known.open, known.final, known.stream = "", True, False, stream

    def append(self, stream: str, text: str) -> None:
        """Text came; ignored when a newer stream has taken its segment over."""
        if segment := self._of(stream):
            segment.text += text

    def end(self, stream: str, *, final: bool) -> Segment | None:
        """A stream closed; returns its segment unless a newer stream has taken it over."""
        if segment := self._of(stream):
            segment.open, segment.final = False, final
            return segment
        return None

    def text(self, speaker: Speaker, *, since: float) -> str:
        """The words of one side in the segments that began at ``since`` or later."""
        words = (each.text.strip() for each in self._side(speaker) if each.began >= since)
        return " ".join(word for word in words if word)

    def open(self, speaker: Speaker) -> bool:
        """Whether text of this side is still coming."""
        return any(each.open for each in self._side(speaker))

    def _of(self, stream: str) -> Segment | None:
        return next((each for each in self._segments.values() if each.stream == stream), None)

    def _side(self, speaker: Speaker) -> Iterator[Segment]:
        return (each for each in self._segments.values() if each.speaker == speaker)
