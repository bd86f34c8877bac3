"""Models that need no model: they hear and speak the language of chords, and answer by rule, at once.

The worker finds them as it finds any plugin, by an entry point: ``install`` writes the distribution that has it.
What the language model is told, it writes down for whoever asks afterwards what an agent knew.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from greenroom.audio import AudioFrame, Pcm, rms
from greenroom.job.context import get_job_context
from greenroom.providers import (
    LLM,
    STT,
    TTS,
    VAD,
    BatchSTT,
    ChatContext,
    FunctionCall,
    FunctionCallOutput,
    LLMChunk,
    Message,
    Plugin,
    SynthesizedAudio,
    TextDelta,
    ToolCall,
    ToolChoice,
    ToolSchema,
    Transcript,
    VADStream,
)
from tests.faults.chords import STORY, Listener, sound, split

__all__ = ["DRAWL", "FOLDER", "NOVEL", "TALE", "Asked", "asked", "install", "note", "plugin"]

FOLDER = "GREENROOM_FAULTS_FOLDER"
"""The environment variable that says where agents leave their notes."""
TALE = STORY[:16]
NOVEL = STORY * 8
DRAWL = 0.2
"""Seconds between the words of a model that is slower than the voice: what it will say is not known when it is cut."""
VOICED = 300.0
TOOLS = frozenset({"book", "block", "leak", "leave"})


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """There are none."""


class ChordVAD(VAD):
    """Speech is what is loud."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def stream(self) -> VADStream:
        return _Loudness()


class _Loudness(VADStream):
    def probability(self, window: Pcm) -> float:
        return 0.95 if rms(window) >= VOICED else 0.02

    def reset(self) -> None:
        pass


class ChordSTT(BatchSTT):
    """Writes the words down."""

    def __init__(self, options: Options) -> None:
        self.options = options

    async def recognize(self, audio: AudioFrame) -> Transcript:
        padded = np.concatenate((audio.pcm, np.zeros(self.sample_rate // 10, dtype=np.int16)))
        return Transcript(" ".join(word.text for word in Listener(self.sample_rate).hear(padded)))


class ChordTTS(TTS):
    """Speaks the words, each as soon as it comes."""

    def __init__(self, options: Options) -> None:
        self.options = options

    async def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        async for word in _words(text):
            pcm = sound(word, sample_rate=self.sample_rate) if split(word) else np.zeros(0, dtype=np.int16)
            yield SynthesizedAudio(AudioFrame(pcm, self.sample_rate), word, aligned=True)


async def _words(text: AsyncIterable[str]) -> AsyncIterator[str]:
    """One by one, each with the space after it."""
    rest = ""
    async for piece in text:
        *whole, rest = (rest + piece).split(" ")
        for word in whole:
            yield f"{word} "
    if rest:
        yield rest


class RuleLLM(LLM):
    """Does what the user said last: tells a story, goes on with one that broke off, calls the tool of that name.

    It is as forgetful as a model is: it calls a tool again when its context does not show that it has.
    """

    def __init__(self, options: Options) -> None:
        self.options = options

    async def chat(
        self, context: ChatContext, *, tools: Sequence[ToolSchema] = (), tool_choice: ToolChoice = "auto"
    ) -> AsyncGenerator[LLMChunk, None]:
        note("contexts", msgspec.json.encode(_noted(context)).decode())
        wish, since = _wish(context)
        if wish in TOOLS:
            outputs = [item for item in since if isinstance(item, FunctionCallOutput)]
            if not outputs:
                yield ToolCall(uuid.uuid4().hex, wish, "{}")
                return
            yield TextDelta("booked" if outputs[-1].output == "booked" else "unknown")
            return
        told = sum(len(split(item.text)) for item in since if isinstance(item, Message) and item.role == "assistant")
        answer = {"story": TALE, "novel": NOVEL, "drawl": TALE, "recall": ("fine",)}.get(wish, ("what",))
        for word in answer[told:] or ("fine",):
            if wish == "drawl":
                await asyncio.sleep(DRAWL)
            yield TextDelta(f"{word} ")


def _wish(context: ChatContext) -> tuple[str, list[Message | FunctionCall | FunctionCallOutput]]:
    """What the user said last, and what has come of it so far."""
    items = list(context)
    place = max((at for at, item in enumerate(items) if isinstance(item, Message) and item.role == "user"), default=-1)
    last = items[place] if place >= 0 else None
    words = split(last.text) if isinstance(last, Message) else []
    return words[0] if words else "", items[place + 1 :]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a language model was told. ``items``: role (or ``call``, ``output``) and text of each; ``pid``: by whom."""

    at: float
    pid: int
    items: tuple[tuple[str, str], ...]

    @property
    def words(self) -> list[str]:
        """All that was said by either side, in order."""
        return [word for role, text in self.items if role in ("user", "assistant") for word in split(text)]


def _noted(context: ChatContext) -> Asked:
    items: list[tuple[str, str]] = []
    for item in context:
        match item:
            case Message():
                items.append((item.role, item.text))
            case FunctionCall():
                items.append(("call", item.name))
            case FunctionCallOutput():
                items.append(("output", item.output))
    return Asked(time.monotonic(), os.getpid(), tuple(items))


def note(kind: str, line: str) -> None:
    """Append to the notes of this job's room: one write, so that a process that is killed leaves whole lines."""
    path = Path(os.environ[FOLDER]) / f"{get_job_context().job.room.name}.{kind}"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def asked(folder: Path, room: str) -> list[Asked]:
    """What the models of a room's agents were told, in order."""
    path = folder / f"{room}.contexts"
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Asked) for line in lines]


def install(folder: Path) -> None:
    """Make ``folder`` hold a distribution whose plugin ``chords`` is found by whoever has it on its path."""
    place = folder / "greenroom_faults-1.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: greenroom-faults\nVersion: 1\n")
    (place / "entry_points.txt").write_text("[greenroom.plugins]\nchords = tests.faults.voice:plugin\n")


_KINDS: dict[str, type[VAD | STT | LLM | TTS]] = {"vad": ChordVAD, "stt": ChordSTT, "llm": RuleLLM, "tts": ChordTTS}
plugin = Plugin(
    kinds={kind: f"{cls.__module__}:{cls.__qualname__}" for kind, cls in _KINDS.items()},
    options=dict.fromkeys(_KINDS, Options),
)
