"""Whether the agent can be heard: measured on the audio that leaves, not on what components say of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from greenroom.audio import Pcm, rms
from greenroom.dialog.events import Aired, Event

__all__ = ["AUDIBLE", "LINGER", "Airing"]

AUDIBLE = 33.0
"""RMS of a piece (int16 units, -60 dBFS) from which on it can be heard: a whisper has ten times that, the dither and
the codec noise in a voice's pauses less than a third."""
LINGER = 0.5
"""Seconds without an audible piece after which the track is silent: longer than the pauses between words."""


class Airing:
    """Told each piece that is handed to the track, it feeds ``Aired`` when sound begins, and when it has been gone for
    ``LINGER`` seconds. A voice that is silent, starved, paused or over is all the same. Holds one timer at most.
    """

    def __init__(self, feed: Callable[[Event], None]) -> None:
        self._feed = feed
        self._audible = False
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def sent(self, pcm: Pcm, *, at: float, seconds: float) -> None:
        """A piece of ``seconds`` was handed on, and begins to leave at ``at``."""
        if rms(pcm) < AUDIBLE:
            return
        self._until = at + seconds
        if self._timer is None:
            self._watch()
        if not self._audible:
            self._audible = True
            self._feed(Aired(audible=True, at=at))

    def cut(self) -> None:
        """What was handed on and has not left yet never will."""
        now = asyncio.get_running_loop().time()
        if self._timer is not None and now < self._until:
            self._timer.cancel()
            self._until = now
            self._watch()

    def close(self) -> None:
        """Nothing more is told."""
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self) -> None:
        self._timer = asyncio.get_running_loop().call_at(self._until + LINGER, self._check)

    def _check(self) -> None:
        """More may have been sent since the timer was set; it is not set anew for each piece."""
        if asyncio.get_running_loop().time() < self._until + LINGER:
            self._watch()
            return
        self._timer, self._audible = None, False
        self._feed(Aired(audible=False, at=self._until))
