"""What passes between the intake, which receives recordings, and the track's audio, which they precede. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from greenroom.room.preconnect.splice import Recording, Spliced

__all__ = ["Lead", "Outcome", "PreconnectReport"]

Outcome: TypeAlias = Literal["used", "partial", "late", "missing", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreconnectReport:
    """What became of a recording. Times are seconds.

    ``used``: before the live audio; ``partial``: what of it had come; ``late``: the live audio had gone ahead;
    ``missing``: one was promised and did not come in time; ``refused``: for the ``reason`` given. ``waited``: how long
    the live audio was held back. ``overlap``: what both recording and live audio had, heard once. ``gap``: what neither
    had. ``first_word_loss``: all that is known to be missing between the beginning of capture and the live audio.
    """

    outcome: Outcome
    reason: str = ""
    participant: str = ""
    track: str = ""
    format: str = ""
    size: int = 0
    """Bytes."""
    seconds: float = 0.0
    waited: float = 0.0
    overlap: float = 0.0
    gap: float = 0.0
    gain: float = 1.0
    first_word_loss: float = 0.0


class Lead:
    """What was recorded of a track before anybody listened: expected, brought, or not there.

    ``voice_heard`` is called when live audio went ahead and a voice is in it, ``joined`` when a recording has found its
    place.
    """

    def __init__(self, *, voice_heard: Callable[[], None], joined: Callable[[Spliced], None]) -> None:
        self.voice_heard = voice_heard
        self.joined = joined
        self.settled = False
        """The live audio need not wait any more."""
        self.open = False
        """It went ahead, and a recording may still come."""
        self._recording: Recording | None = None
        self._tell: Callable[[], None] = lambda: None

    def notify(self, tell: Callable[[], None]) -> None:
        """Call this at each change."""
        self._tell = tell

    def bring(self, recording: Recording) -> None:
        """Here it is."""
        self.settled, self.open, self._recording = True, False, recording
        self._tell()

    def release(self) -> None:
        """Do not wait."""
        self.settled = self.open = True
        self._tell()

    def close(self) -> None:
        """Nothing will come any more."""
        self.settled, self.open = True, False
        self._tell()

    def take(self) -> Recording | None:
        """The recording, once."""
        recording, self._recording = self._recording, None
        return recording
