"""A decoder in a thread of its own: the loop that carries audio neither decodes nor waits for what does.

A thread that is stuck in a decoder cannot be ended, but it can be forgotten: it is a daemon, and what it had made until
then has been handed over.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

from greenroom.audio import Pcm
from greenroom.room.preconnect.codec import load
from greenroom.room.preconnect.decoder import Decoder

__all__ = ["Decoding", "prepare"]

SLICE: Final = 4096
"""Bytes that are decoded in one go."""
BUDGET: Final = 5.0
"""Of the processor's time, for one recording. A minute takes a tenth of it. Seconds."""


def prepare() -> None:
    """Load what decodes, while nobody waits for it."""
    threading.Thread(target=load, name="load decoders", daemon=True).start()


class Decoding:
    """``made`` is called on the loop with audio, ``done`` once, with what went wrong; empty if that was the end."""

    def __init__(self, decoder: Decoder, *, made: Callable[[list[Pcm]], None], done: Callable[[str], None]) -> None:
        self._decoder = decoder
        self._made = made
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._bytes: SimpleQueue[bytes | None] = SimpleQueue()
        self._dropped = False
        threading.Thread(target=self._run, name="decode recording", daemon=True).start()

    @property
    def format(self) -> str:
        return self._decoder.format

    @property
    def lost(self) -> float:
        return self._decoder.lost

    @property
    def reached(self) -> float:
        """Seconds of the recording that had been captured by now, at least."""
        return self._decoder.reached

    def push(self, data: bytes) -> None:
        """Decode these bytes too."""
        self._bytes.put(data)

    def end(self) -> None:
        """There are no more."""
        self._bytes.put(None)

    def drop(self) -> None:
        """Call back no more, and come to an end."""
        self._dropped = True
        self._bytes.put(None)

    def _run(self) -> None:
        reason = self._decode()
        self._tell(lambda: self._done(reason))

    def _decode(self) -> str:
        decoder, began = self._decoder, time.thread_time()
        while (data := self._bytes.get()) is not None:
            for start in range(0, len(data), SLICE):
                if self._dropped:
                    return "dropped"
                self._hand_over(decoder.push(data[start : start + SLICE]))
                if decoder.full:
                    return "it is too long"
                if decoder.problem:
                    return decoder.problem
                if time.thread_time() - began > BUDGET:
                    return "decoding it takes too long"
        if not self._dropped:
            self._hand_over(decoder.end())
        return decoder.problem

    def _hand_over(self, pieces: list[Pcm]) -> None:
        if pieces:
            self._tell(lambda: self._made(pieces))

    def _tell(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know
            self._loop.call_soon_threadsafe(self._call, callback)

    def _call(self, callback: Callable[[], None]) -> None:
        if not self._dropped:
            callback()
