"""What the user says, and what is heard of the agent: 10 ms frames at 48 kHz."""

from __future__ import annotations

import functools
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["FRAME", "RATE", "Ear", "Edge", "tone", "utterance"]

RATE = 48_000
FRAME = RATE // 100
UTTERANCE = Path(__file__).with_name("utterance.wav")
"""``espeak-ng -s 190 "hello my lovely animal agent nearby here"``: a voice without a pause in it."""
PEAK = 16_000.0
VOICED = 600.0
"""RMS of the utterance's first and last frame, at least; int16 units."""
LONGEST_PAUSE = 0.12
"""A longer one the transcriber might take for an end. Seconds."""
LOUD = 800.0
"""RMS from which on the agent is heard; its tone has about 8500."""
QUIET_FRAMES = 10
"""So many quiet frames in a row end what was heard; it ended with the first of them."""
KEPT = 100
"""Loud frames that are kept of each reply, to hear its pitch."""

Samples = NDArray[np.float32]


@functools.cache
def utterance(path: Path = UTTERANCE) -> tuple[bytes, ...]:
    """The utterance from its first voiced frame to its last."""
    with wave.open(str(path)) as recording:
        rate, raw = recording.getframerate(), recording.readframes(recording.getnframes())
    pcm = np.frombuffer(raw, dtype=np.int16).astype(np.float64)
    count = int(len(pcm) * RATE / rate)
    pcm = np.interp(np.arange(count) * rate / RATE, np.arange(len(pcm)), pcm)
    frames = (pcm * PEAK / np.abs(pcm).max())[: count // FRAME * FRAME].reshape(-1, FRAME)
    voiced = np.flatnonzero(np.sqrt((frames**2).mean(axis=1)) > VOICED)
    pause = (int(np.diff(voiced).max()) - 1) * FRAME / RATE
    if pause >= LONGEST_PAUSE:
        raise ValueError(f"{path.name} has a pause of {pause:.2f} s; expected less than {LONGEST_PAUSE} s")
    return tuple(frame.astype(np.int16).tobytes() for frame in frames[voiced[0] : voiced[-1] + 1])


@dataclass(frozen=True, slots=True)
class Edge:
    """What is heard turned loud, or quiet, at this time."""

    at: float
    loud: bool


class Ear:
    """Frames and their times in, edges out. ``kept``: the first loud frames since it was last emptied."""

    def __init__(self) -> None:
        self.kept: list[Samples] = []
        self._loud = False
        self._quiet = 0
        self._quiet_since = 0.0

    def hear(self, frame: bytes | memoryview, at: float) -> Edge | None:
        pcm = np.frombuffer(frame, dtype=np.int16).astype(np.float32)
        if float(np.sqrt(np.mean(pcm * pcm))) > LOUD:
            self._quiet = 0
            if len(self.kept) < KEPT:
                self.kept.append(pcm)
            if not self._loud:
                self._loud = True
                return Edge(at, loud=True)
        elif self._loud:
            self._quiet_since = at if self._quiet == 0 else self._quiet_since
            self._quiet += 1
            if self._quiet >= QUIET_FRAMES:
                self._loud = False
                return Edge(self._quiet_since, loud=False)
        return None


def tone(frames: list[Samples]) -> float:
    """The strongest frequency of half a second from the tenth frame on, Hz, to 2 Hz; 0 where there is too little."""
    part = frames[10:60]
    if len(part) < 50:
        return 0.0
    return float(np.argmax(np.abs(np.fft.rfft(np.concatenate(part))))) * RATE / (len(part) * FRAME)
