"""What is said: a different short word every 300 ms, so that a missing or repeated stretch has a name and a length."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from greenroom.audio import AudioFrame, Pcm, Resampler, read_wav, write_wav
from greenroom.embedded.measure import audible_span
from greenroom.providers.registry import build
from greenroom.providers.tts import TTS
from greenroom.settings import ProviderSettings

__all__ = ["GRID", "LEAD", "SAMPLE_RATE", "Source", "Word", "speech"]

SAMPLE_RATE = 48_000
GRID = 0.3
"""From the beginning of one word to that of the next. Seconds."""
LEAD = 0.1
"""Silence before the first word. Seconds."""
SPEED = 1.2
"""Of the voice: most short words fit the grid then."""
LONGEST = 0.28
LEVEL = 4000.0
"""Root mean square of each word, int16: all are equally loud, so that a step in level can be seen between any two."""
FADE = 0.004
CANDIDATES = """
red blue green black white dog cat bird fish tree house book door moon sun star rain snow wind fire sea ship king queen
boat road bread milk tea cup plate knife fork hand foot head nose ear north south east west spring ball bell box coat
day night game gold hill horse lake leaf light map park rice
"""
"""No numbers: a transcriber writes two of them as one."""


@dataclass(frozen=True, slots=True)
class Word:
    """``start`` and ``end``: of its sound, in seconds of the source."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Source:
    """``pcm``: mono at ``SAMPLE_RATE``."""

    pcm: Pcm
    words: tuple[Word, ...]

    def at(self, sample_rate: int) -> Pcm:
        """The samples at another rate."""
        resampler = Resampler(SAMPLE_RATE, sample_rate)
        return np.concatenate([resampler.push(self.pcm), resampler.flush()])

    def write(self, folder: Path) -> None:
        """As ``source.wav`` and ``words.json``."""
        write_wav(folder / "source.wav", AudioFrame(self.pcm, SAMPLE_RATE))
        (folder / "words.json").write_text(json.dumps([asdict(word) for word in self.words]))

    @staticmethod
    def read(folder: Path) -> Source:
        """What ``write`` wrote: the voice says no word twice in the same way."""
        words = json.loads((folder / "words.json").read_text())
        return Source(read_wav(folder / "source.wav").pcm, tuple(Word(**word) for word in words))


async def speech(seconds: float) -> Source:
    """So many seconds of words from the ``piper`` voice, each trimmed to its sound and put on the grid."""
    voice = build("tts", ProviderSettings("piper", {"speed": SPEED, "variation": 0}))
    await asyncio.to_thread(voice.load)
    pcm = np.zeros(round(seconds * SAMPLE_RATE), dtype=np.int16)
    words: list[Word] = []
    for text in CANDIDATES.split():
        start = LEAD + len(words) * GRID
        if start + GRID > seconds:
            break
        sound = await _said(voice, text)
        if len(sound) > LONGEST * SAMPLE_RATE:
            continue
        first = round(start * SAMPLE_RATE)
        pcm[first : first + len(sound)] = sound
        words.append(Word(text, start, start + len(sound) / SAMPLE_RATE))
    else:
        raise ValueError(f"the voice has {len(words)} words for {seconds} seconds")
    return Source(pcm, tuple(words))


async def _said(voice: TTS, text: str) -> Pcm:
    """The word alone, at one loudness, its edges faded."""
    pieces = [piece.frame async for piece in voice.synthesize(_once(text))]
    resampler = Resampler(voice.sample_rate, SAMPLE_RATE)
    pcm = np.concatenate([*(resampler.push(frame.pcm) for frame in pieces), resampler.flush()])
    span = audible_span(pcm, sample_rate=SAMPLE_RATE)
    if span is None:
        raise ValueError(f"the voice does not say {text!r}")
    sound = pcm[span[0] : span[1]].astype(np.float64)
    sound *= LEVEL / np.sqrt(np.mean(sound**2))
    fade = round(FADE * SAMPLE_RATE)
    ramp = np.linspace(0.0, 1.0, fade)
    sound[:fade] *= ramp
    sound[-fade:] *= ramp[::-1]
    return AudioFrame(np.clip(sound, -32768, 32767).astype(np.int16), SAMPLE_RATE).pcm


async def _once(text: str) -> AsyncIterator[str]:
    yield text
