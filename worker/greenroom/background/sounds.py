"""Where the samples of a sound come from: memory, a file that is decoded while it plays, or somebody's frames.

Only so much is decoded, or taken from an iterator, as is played soon: a file of an hour needs no more memory than one
of a minute.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from greenroom.audio import AudioFrameLike, Pcm, Resampler, to_mono
from greenroom.background.clips import BuiltinAudioClip
from greenroom.background.config import AudioSource
from greenroom.background.decoding import Decoder, decoded
from greenroom.background.mixer import Sound

__all__ = ["Clip", "Stream", "Told", "file_pieces", "frame_pieces", "open_sound", "prepare"]

AHEAD = 2.0
"""Seconds that are there before they are played: a file's thread is late at times, and a disk."""
PIECE = 0.5
"""Seconds of a file that are decoded at once."""
KEPT = 60.0
"""Files of up to so many seconds are kept in memory when they play by themselves: 3 MB at most for each."""
NOTHING: Pcm = np.zeros(0, dtype=np.int16)

log = structlog.get_logger(__name__)

_prepared: dict[tuple[Path, int], Pcm] = {}
"""Whole files that play by themselves; at a rate, in Hz."""


def prepare(source: AudioSource, *, sample_rate: int) -> None:
    """Make, or decode, what is short enough, so that it begins at once and costs nothing while it plays. Blocks.

    Raises ``ValueError`` for a file that is not there, or cannot be decoded.
    """
    if isinstance(source, BuiltinAudioClip):
        source.samples(sample_rate)
    elif isinstance(source, str | Path) and (Path(source), sample_rate) not in _prepared:
        pcm = decoded(_file(source), sample_rate=sample_rate, longest=KEPT)
        if pcm is not None:
            _prepared[Path(source), sample_rate] = pcm


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Whom a sound tells."""

    ready: Callable[[], None]
    """There are samples, or there will be none."""
    failed: Callable[[Exception], None]
    """It broke off; what it has can still be taken."""


def open_sound(source: AudioSource, *, sample_rate: int, loop: bool, told: Told) -> Sound:
    """A source's samples from its beginning.

    Raises ``ValueError`` for a file that is not there, and for frames that are to be looped.
    """
    if isinstance(source, BuiltinAudioClip):
        if source.made(sample_rate):
            return Clip(source.samples(sample_rate), loop=loop)
        return Stream(_made(source, sample_rate=sample_rate, loop=loop), sample_rate=sample_rate, told=told)
    if isinstance(source, str | Path):
        kept = _prepared.get((Path(source), sample_rate))
        if kept is not None:
            return Clip(kept, loop=loop)
        pieces = file_pieces(_file(source), sample_rate=sample_rate, loop=loop)
        return Stream(pieces, sample_rate=sample_rate, told=told)
    if loop:
        raise ValueError("frames can be played only once; expected loop=False, or an iterator that does not end")
    return Stream(frame_pieces(source, sample_rate=sample_rate), sample_rate=sample_rate, told=told)


def _file(source: str | Path) -> Path:
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected an audio file")
    return path


async def _made(clip: BuiltinAudioClip, *, sample_rate: int, loop: bool) -> AsyncIterator[Pcm]:
    pcm = await asyncio.to_thread(clip.samples, sample_rate)
    yield pcm
    while loop:
        yield pcm


class Clip:
    """Samples in memory, once or for ever. They are shared, never written to."""

    def __init__(self, pcm: Pcm, *, loop: bool = False) -> None:
        self._pcm = pcm
        self._loop = loop and len(pcm) > 0
        self._next = 0

    @property
    def ready(self) -> bool:
        return True

    @property
    def ended(self) -> bool:
        return not self._loop and self._next >= len(self._pcm)

    def take(self, samples: int) -> Pcm:
        piece = self._pcm[self._next : self._next + samples]
        self._next += len(piece)
        if self._loop:
            self._next %= len(self._pcm)
        return piece

    def close(self) -> None:
        self._next = len(self._pcm)
        self._loop = False

    async def wait_closed(self) -> None:
        """There is nothing to wait for."""


class Stream:
    """Samples that an iterator makes while they are played, ``AHEAD`` seconds before them.

    ``told``: what to call with the first of them, and at the end.
    """

    def __init__(self, pieces: AsyncIterator[Pcm], *, sample_rate: int, told: Told) -> None:
        self._pieces: deque[Pcm] = deque()
        self._waiting = 0
        self._limit = round(AHEAD * sample_rate)
        self._taken = asyncio.Event()
        self._begun = False
        self._told = told
        self._task = asyncio.get_running_loop().create_task(self._run(pieces), name="read a background sound")
        self._task.add_done_callback(lambda _: told.ready())

    @property
    def ready(self) -> bool:
        return bool(self._pieces) or self._task.done()

    @property
    def ended(self) -> bool:
        return self._task.done() and not self._pieces

    def take(self, samples: int) -> Pcm:
        if not self._pieces:
            return NOTHING
        piece = self._pieces.popleft()
        if len(piece) > samples:
            self._pieces.appendleft(piece[samples:])
            piece = piece[:samples]
        self._waiting -= len(piece)
        self._taken.set()
        return piece

    def close(self) -> None:
        self._task.cancel()
        self._pieces.clear()
        self._waiting = 0

    async def wait_closed(self) -> None:
        """Until nothing works for it any more."""
        with suppress(asyncio.CancelledError):
            await asyncio.wait({self._task})

    async def _run(self, pieces: AsyncIterator[Pcm]) -> None:
        try:
            async for pcm in pieces:
                if not len(pcm):
                    continue
                self._pieces.append(pcm)
                self._waiting += len(pcm)
                if not self._begun:
                    self._begun = True
                    self._told.ready()
                while self._waiting >= self._limit:
                    self._taken.clear()
                    await self._taken.wait()
        except Exception as error:  # the user's iterator, or a file that cannot be decoded
            log.exception("background sound failed")
            self._told.failed(error)
        finally:
            if (aclose := getattr(pieces, "aclose", None)) is not None:
                await aclose()


async def file_pieces(path: Path, *, sample_rate: int, loop: bool) -> AsyncIterator[Pcm]:
    """A file's samples, decoded in a thread. Raises ``ValueError`` for one that cannot be decoded, or is empty."""
    decoder = await asyncio.to_thread(Decoder, path, sample_rate=sample_rate)
    try:
        sounded = False
        while True:
            pcm = await _shielded(decoder, round(PIECE * sample_rate))
            sounded = sounded or len(pcm) > 0
            if len(pcm):
                yield pcm
            elif not loop:
                return
            elif not sounded:
                raise ValueError(f"{path}: no sound in it; expected an audio file")
            else:
                await asyncio.to_thread(decoder.rewind)
    finally:
        decoder.close()


async def _shielded(decoder: Decoder, samples: int) -> Pcm:
    """A thread cannot be cancelled, and must not decode on what is being closed: wait for it."""
    reading = asyncio.ensure_future(asyncio.to_thread(decoder.read, samples))
    try:
        return await asyncio.shield(reading)
    finally:
        if not reading.done():
            await asyncio.wait({reading})


async def frame_pieces(frames: AsyncIterable[AudioFrameLike], *, sample_rate: int) -> AsyncIterator[Pcm]:
    """The samples of somebody's frames, of any rate and number of channels."""
    resampler: Resampler | None = None
    async with aclosing(_iterated(frames)) as each:
        async for frame in each:
            if resampler is None or resampler.source_rate != frame.sample_rate:
                if resampler is not None:
                    yield resampler.flush()
                resampler = Resampler(frame.sample_rate, sample_rate)
            yield resampler.push(to_mono(frame))
    if resampler is not None:
        yield resampler.flush()


async def _iterated(frames: AsyncIterable[AudioFrameLike]) -> AsyncGenerator[AudioFrameLike, None]:
    try:
        async for frame in frames:
            yield frame
    finally:
        if (aclose := getattr(frames, "aclose", None)) is not None:
            await aclose()
