"""Speech to text.

Streaming providers implement ``STT`` and ``STTStream``; a model that transcribes whole utterances implements
``BatchSTT`` and gets the stream for free.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError

__all__ = ["STT", "BatchSTT", "STTStream", "Transcript"]


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard in one utterance.

    ``text``: the whole utterance so far, not a delta; empty when there were no words. ``final``: it will not change.
    ``utterance``: the id given to ``start_of_speech``; empty when the provider segments by itself and cannot say.
    ``language``: BCP 47, or empty. ``confidence``: 0..1, or ``None`` when the provider has none.
    """

    text: str
    final: bool = True
    utterance: str = ""
    language: str = ""
    confidence: float | None = None


class STTStream(ABC):
    """One participant's audio on its way to text. Iterate it for transcripts; it ends after ``aclose``.

    The session pushes every frame, and marks where its voice activity found an utterance. Frames of an utterance
    follow its ``start_of_speech``, among them the padding before the first voiced sample. A provider that hears
    utterances by itself may ignore the marks. A failure is raised from the iterator as ``ProviderError``; the session
    opens a new stream.
    """

    @abstractmethod
    def push(self, frame: AudioFrame) -> None:
        """Take a frame at ``STT.sample_rate``. Never blocks."""

    @abstractmethod
    def start_of_speech(self, utterance: str) -> None:
        """The frames that follow belong to this utterance."""

    @abstractmethod
    def end_of_speech(self, utterance: str) -> None:
        """The utterance is over: a final transcript of it is due, with empty text if it held no words."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Transcript]: ...

    @abstractmethod
    async def aclose(self) -> None:
        """Stop at once; nothing that is pending is delivered."""


class STT(ABC):
    """A speech to text model or vendor."""

    sample_rate: int = 16000
    """Hz, of the frames that ``push`` takes."""

    @abstractmethod
    def stream(self) -> STTStream:
        """A fresh stream for one participant."""

    def load(self) -> None:  # noqa: B027  # loading early is optional
        """Load the model; called once in a warm process, before a job. Blocks. Idempotent."""


class BatchSTT(STT):
    """For models that take a whole utterance and return its text."""

    @abstractmethod
    async def recognize(self, audio: AudioFrame) -> Transcript:
        """Transcribe one utterance: mono int16 at ``sample_rate``, a second or a minute of it.

        Must not block the loop. Raises ``ProviderError``. ``Transcript.utterance`` may be left empty.
        """

    def stream(self) -> STTStream:
        return _BatchStream(self)


class _BatchStream(STTStream):
    """Gathers each utterance and has it recognised, one after another, so that transcripts keep their order."""

    def __init__(self, stt: BatchSTT) -> None:
        self._stt = stt
        self._frames: list[AudioFrame] = []
        self._open = ""
        self._utterances: asyncio.Queue[tuple[str, AudioFrame] | None] = asyncio.Queue()
        self._closed = False

    def push(self, frame: AudioFrame) -> None:
        if self._open:
            self._frames.append(frame)

    def start_of_speech(self, utterance: str) -> None:
        self._open = utterance
        self._frames = []

    def end_of_speech(self, utterance: str) -> None:
        if self._open != utterance:
            return
        frames, self._frames, self._open = self._frames, [], ""
        pcm = np.concatenate([frame.pcm for frame in frames]) if frames else np.zeros(0, dtype=np.int16)
        at = frames[0].at if frames else 0.0
        self._utterances.put_nowait((utterance, AudioFrame(pcm, self._stt.sample_rate, at)))

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        while not self._closed:
            entry = await self._utterances.get()
            if entry is None:
                return
            utterance, audio = entry
            if len(audio.pcm) == 0:
                yield Transcript("", utterance=utterance)
                continue
            try:
                heard = await self._stt.recognize(audio)
            except ProviderError:
                # The utterance is kept, so that the session's next stream can be given it again.
                self._utterances.put_nowait(entry)
                raise
            yield Transcript(
                heard.text,
                final=True,
                utterance=utterance,
                language=heard.language,
                confidence=heard.confidence,
            )

    async def aclose(self) -> None:
        self._closed = True
        self._utterances.put_nowait(None)
