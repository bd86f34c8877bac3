"""Small models that do as they are told, in this process or in a host's, and a plugin that offers them.

What an ear is told is in the sound: its first sample says what it does (``ECHO`` and the others). A voice is told by
the sentence. What happens inside is written to the file that the options name, a word a line.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec import Struct

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.providers import (
    STT,
    TTS,
    BatchSTT,
    Heard,
    Plugin,
    SentenceTTS,
    STTStream,
    SynthesizedAudio,
    Transcript,
    TurnDetector,
)

__all__ = [
    "DIE",
    "DIE_ONCE",
    "ECHO",
    "FAIL",
    "GATE",
    "HANG",
    "NAME",
    "RAISE",
    "RATE",
    "FakeOptions",
    "install",
    "sound",
]

NAME = "fake_models"
RATE = 16_000
ECHO, RAISE, FAIL, HANG, DIE, DIE_ONCE = range(6)
GATE: dict[str, asyncio.Event] = {}
"""In this process: what ``HANG`` waits for, by the notes' path, where somebody lets it go."""


class FakeOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    notes: str = ""
    broken: bool = False
    parallel: int = 1
    batch: int = 1


def sound(order: int, *, samples: int = 100) -> AudioFrame:
    """Audio that tells the ear what to do."""
    pcm = np.full(samples, 7, dtype=np.int16)
    pcm[0] = order
    return AudioFrame(pcm, RATE)


class _Model:
    def __init__(self, options: FakeOptions) -> None:
        self._options = options

    def share(self, requests: int) -> int:
        self._note(f"share {requests}")
        return min(requests, self._options.parallel)

    def load(self) -> None:
        if self._options.broken:
            raise ProviderError("no weights", provider=NAME)
        self._note(f"load {os.getpid()}")

    async def _obey(self, order: int) -> None:
        if order == RAISE:
            raise ZeroDivisionError("a bug")
        if order == FAIL:
            raise ProviderError("not now", provider=NAME, retryable=True)
        if order == DIE or (order == DIE_ONCE and "died" not in self._noted()):
            self._note("died")
            os._exit(3)
        if order == HANG:
            self._note("hang")
            try:
                await GATE.setdefault(self._options.notes, asyncio.Event()).wait()
            except asyncio.CancelledError:
                self._note("given up")
                raise

    def _note(self, word: str) -> None:
        if self._options.notes:
            with open(self._options.notes, "a", encoding="utf-8") as notes:
                notes.write(f"{word}\n")

    def _noted(self) -> str:
        return Path(self._options.notes).read_text()


class FakeEar(_Model, BatchSTT):
    sample_rate = RATE
    attempts = 1

    @property
    def batch(self) -> int:
        return self._options.batch

    async def recognize(self, audio: AudioFrame) -> Transcript:
        await self._obey(int(audio.pcm[0]))
        return Transcript(f"{len(audio.pcm)} samples", language="en", confidence=0.5)

    async def recognize_batch(self, audio: Sequence[AudioFrame]) -> Sequence[Transcript]:
        self._note(f"batch of {len(audio)}")
        return [await self.recognize(one) for one in audio]


class FakeVoice(_Model, SentenceTTS):
    sample_rate = RATE
    first_clause = 12
    language = "en"

    async def speak(self, sentence: str) -> AsyncGenerator[AudioFrame, None]:
        for word in sentence.split():
            match word:
                case "hang":
                    await self._obey(HANG)
                case "die":
                    await self._obey(DIE_ONCE)
                case "flood":
                    for _ in range(64):
                        yield AudioFrame(np.zeros(1_000_000, dtype=np.int16), RATE)
            yield AudioFrame(np.full(len(word), len(word), dtype=np.int16), RATE)


class FakeJudge(_Model, TurnDetector):
    modality: Literal["text", "audio"] = "text"
    threshold = 0.7

    async def probability(self, heard: Heard) -> float:
        said = [item for item in heard.context.messages() if item.role == "user"]
        return 1.0 if said and said[-1].text == heard.text else 0.0


class Streaming(STT):
    """One that cannot be shared."""

    def __init__(self, options: FakeOptions) -> None:
        pass

    def stream(self) -> STTStream:
        raise NotImplementedError


class Flowing(TTS):
    """Nor this."""

    def __init__(self, options: FakeOptions) -> None:
        pass

    async def synthesize(self, text: object) -> AsyncGenerator[SynthesizedAudio, None]:
        raise NotImplementedError
        yield


plugin = Plugin(
    kinds={
        "stt": "tests.models.fakes:FakeEar",
        "tts": "tests.models.fakes:FakeVoice",
        "turn": "tests.models.fakes:FakeJudge",
    },
    options={"stt": FakeOptions, "tts": FakeOptions, "turn": FakeOptions},
    shared=("stt", "tts", "turn"),
)
streaming = Plugin(
    kinds={"stt": "tests.models.fakes:Streaming", "tts": "tests.models.fakes:Flowing"},
    options={"stt": FakeOptions, "tts": FakeOptions},
)


def install(folder: Path) -> Path:
    """A folder that, where modules are looked for, offers the plugins ``fake_models`` and ``fake_streams``."""
    place = folder / "greenroom_fakes-1.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: greenroom-fakes\nVersion: 1\n")
    (place / "entry_points.txt").write_text(
        f"[greenroom.plugins]\n{NAME} = tests.models.fakes:plugin\nfake_streams = tests.models.fakes:streaming\n"
    )
    return folder
