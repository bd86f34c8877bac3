"""Files as samples: whatever PyAV reads. Blocks: for threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from greenroom.audio import Pcm

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame

__all__ = ["Decoder", "decoded"]


class Decoder:
    """One file, from its beginning, as mono samples. Used by one thread at a time.

    Raises ``ValueError`` that names the file, for one that is not there or holds no sound that can be decoded.
    """

    def __init__(self, path: Path, *, sample_rate: int) -> None:
        self._path = path.absolute()  # so that no name is taken for an address
        self._sample_rate = sample_rate
        self._ready: list[Pcm] = []
        self._open()

    def read(self, samples: int) -> Pcm:
        """At least so many samples; fewer at the end, none after it."""
        count = sum(map(len, self._ready))
        while count < samples and (piece := next(self._frames, None)) is not None:
            self._ready.append(piece)
            count += len(piece)
        ready, self._ready = self._ready, []
        return np.concatenate([np.zeros(0, dtype=np.int16), *ready])

    def rewind(self) -> None:
        """Begin again."""
        self.close()
        self._open()

    def close(self) -> None:
        self._container.close()

    def _open(self) -> None:
        import av

        try:
            self._container = av.open(str(self._path), mode="r")
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ValueError(f"{self._path}: {reason}; expected an audio file") from None
        if not self._container.streams.audio:
            self._container.close()
            raise ValueError(f"{self._path}: no sound in it; expected an audio file")
        self._frames = self._decode()

    def _decode(self) -> Iterator[Pcm]:
        import av

        stream = self._container.streams.audio[0]
        resampler = av.AudioResampler(format="s16", layout="mono", rate=self._sample_rate)
        try:
            for frame in self._container.decode(stream):
                yield from map(_samples, resampler.resample(frame))
            yield from map(_samples, resampler.resample(None))
        except av.FFmpegError as error:
            raise ValueError(f"{self._path}: {error.strerror}; expected an audio file") from None


def decoded(path: Path, *, sample_rate: int, longest: float) -> Pcm | None:
    """A whole file; ``None`` when it lasts longer than ``longest`` seconds. Raises ``ValueError`` as ``Decoder``."""
    limit = round(longest * sample_rate)
    decoder = Decoder(path, sample_rate=sample_rate)
    try:
        pcm = decoder.read(limit + 1)
    finally:
        decoder.close()
    if not len(pcm):
        raise ValueError(f"{path}: no sound in it; expected an audio file")
    return pcm if len(pcm) <= limit else None


def _samples(frame: AudioFrame) -> Pcm:
    return np.asarray(frame.to_ndarray(), dtype=np.int16).reshape(-1)
