"""Speech to text.

Streaming providers implement ``STT`` and ``STTStream``; a model that transcribes whole utterances implements
``BatchSTT`` and gets the stream for free.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.providers.provider import Provider

__all__ = ["STT", "BatchSTT", "STTStream", "Transcript"]


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard in one utterance.

    ``text`` of an interim result: the utterance's words so far that no final result has covered; of a final one: words
    that will not change; empty when there were none. ``utterance``: the id given to ``start_of_speech``; empty when
    the provider segments by itself and cannot say. ``language``: BCP 47, or empty. ``confidence``: 0..1, or ``None``
    when the provider has none. ``ended``: the provider judges that the speaker has finished, and not merely paused.
    """

    text: str
    final: bool = True
    utterance: str = ""
    language: str = ""
    confidence: float | None = None
    ended: bool = False


class STTStream(ABC):
    """One participant's audio on its way to text. Iterate it for transcripts; it ends after ``aclose``.

    The session pushes every frame as it comes, and marks where its voice activity found an utterance. A provider that
    hears utterances by itself may ignore the marks. A failure is raised from the iterator as ``ProviderError``; the
    session then iterates again, on the same stream, which goes on as well as it can (reconnects, tries once more).
    """

    @abstractmethod
    def push(self, frame: AudioFrame) -> None:
        """Take a frame at ``STT.sample_rate``. Never blocks."""

    @abstractmethod
    def start_of_speech(self, utterance: str, *, at: float) -> None:
        """An utterance has begun. ``at``: the capture time of its first sample, padding included; in the past."""

    @abstractmethod
    def end_of_speech(self, utterance: str) -> None:
        """The utterance is over: a final transcript is due, with empty text if there are no (more) words in it."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Transcript]: ...

    @abstractmethod
    async def aclose(self) -> None:
        """Stop at once; nothing that is pending is delivered."""


class STT(Provider):
    """A speech to text model or vendor."""

    sample_rate: int = 16000
    """Hz, of the frames that ``push`` takes."""
    needs_marks: bool = False
    """It cannot find utterances by itself: it hears nothing where nobody marks them."""

    @abstractmethod
    def stream(self) -> STTStream:
        """A fresh stream for one participant."""


class BatchSTT(STT):
    """For models that take a whole utterance and return its text."""

    needs_marks = True
    attempts: int = 2
    """How often one utterance is tried when ``recognize`` fails with a retryable error."""

    @abstractmethod
    async def recognize(self, audio: AudioFrame) -> Transcript:
        """Transcribe one utterance: mono int16 at ``sample_rate``, a second or a minute of it.

        Must not block the loop. Raises ``ProviderError``. ``Transcript.utterance`` may be left empty.
        """

    def stream(self) -> STTStream:
        return _BatchStream(self)


@dataclass(slots=True)
class _Utterance:
    id: str
    audio: AudioFrame
    attempts: int = 0


class _BatchStream(STTStream):
    """Gathers each utterance and has it recognised, one after another, so that transcripts keep their order."""

    _LOOKBACK = 3.0  # seconds of audio kept for the beginning of an utterance that is noticed late

    def __init__(self, stt: BatchSTT) -> None:
        self._stt = stt
        self._frames: deque[AudioFrame] = deque()
        self._held = 0.0
        self._open = ""
        self._due: deque[_Utterance] = deque()
        self._wake = asyncio.Event()
        self._recognition: asyncio.Task[Transcript] | None = None
        self._closed = False

    def push(self, frame: AudioFrame) -> None:
        self._frames.append(frame)
        self._held += frame.duration
        while not self._open and self._held - self._frames[0].duration > self._LOOKBACK:
            self._held -= self._frames.popleft().duration

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        self._open = utterance
        while self._frames and self._frames[0].at + self._frames[0].duration <= at:
            self._held -= self._frames.popleft().duration

    def end_of_speech(self, utterance: str) -> None:
        if self._open != utterance:
            return
        self._open = ""
        frames = list(self._frames)
        pcm = np.concatenate([frame.pcm for frame in frames]) if frames else np.zeros(0, dtype=np.int16)
        self._due.append(_Utterance(utterance, AudioFrame(pcm, self._stt.sample_rate, frames[0].at if frames else 0.0)))
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        while True:
            while not self._due and not self._closed:
                self._wake.clear()
                await self._wake.wait()
            if self._closed:
                return
            utterance = self._due[0]
            heard = await self._recognize(utterance)
            if heard is None:
                return
            self._due.popleft()
            yield Transcript(
                heard.text,
                final=True,
                utterance=utterance.id,
                language=heard.language,
                confidence=heard.confidence,
            )

    async def _recognize(self, utterance: _Utterance) -> Transcript | None:
        """The transcript, or ``None`` once closed; after a failure the utterance stays due, until its attempts are
        spent."""
        if len(utterance.audio.pcm) == 0 or utterance.attempts >= self._stt.attempts:
            return Transcript("")
        utterance.attempts += 1
        # A task of its own, so that aclose can stop it without touching the task that iterates.
        self._recognition = asyncio.create_task(self._stt.recognize(utterance.audio))
        try:
            heard = await self._recognition
        except asyncio.CancelledError:
            iterating = asyncio.current_task()
            if not self._closed or (iterating is not None and iterating.cancelling()):
                raise
            return None
        except ProviderError as error:
            if not error.retryable:
                utterance.attempts = self._stt.attempts
            raise
        return None if self._closed else heard

    async def aclose(self) -> None:
        self._closed = True
        self._wake.set()
        if self._recognition is not None:
            self._recognition.cancel()
