"""What a session is given to hear with and to speak through.

``room`` implements these for LiveKit, ``testing`` in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from greenroom.audio import AudioFrame, Pcm

__all__ = ["AudioInput", "AudioOutput"]


class AudioInput(Protocol):
    """The audio of the participant that the session listens to."""

    def frames(self, sample_rate: int) -> AsyncIterator[AudioFrame]:
        """Mono frames at ``sample_rate`` Hz with their capture times, for as long as the session lives.

        It goes on over mutes, re-published tracks and a participant who leaves and returns; it ends when the room does.
        """
        ...


class AudioOutput(Protocol):
    """Where the agent's voice goes: one track, paced by the far end of a short queue."""

    sample_rate: int
    """Hz, of the samples that ``push`` takes."""

    async def push(self, pcm: Pcm) -> None:
        """Queue mono samples; waits while the queue is full. Short pieces (10 to 100 ms) keep interruption quick.

        One at a time. A push that waits when ``clear`` is called drops what it still holds and returns.
        """
        ...

    def clear(self) -> float:
        """Drop what is queued and has not left; returns how many seconds these were, to the sample. At once."""
        ...

    @property
    def queued(self) -> float:
        """Seconds that were handed to ``push`` and have not left, those of a push that waits included."""
        ...

    @property
    def ready(self) -> bool:
        """Whether somebody can hear now: ``wait_ready`` would return at once."""
        ...

    async def wait_ready(self) -> None:
        """Returns when somebody can hear: speech made before waits, so that its beginning is not lost."""
        ...
