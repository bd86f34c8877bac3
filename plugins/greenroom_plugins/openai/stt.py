"""Speech to text: an utterance is sent as a whole once it is over, and its text comes as a whole or in pieces."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import structlog

from greenroom.audio import AudioFrame
from greenroom.providers import BatchSTT, STTStream, Transcript
from greenroom_plugins.openai.endpoint import Client, reading
from greenroom_plugins.openai.errors import PROVIDER, MalformedAnswer
from greenroom_plugins.openai.options import STTOptions
from greenroom_plugins.openai.sound import wav

__all__ = ["OpenAISTT"]

logger = structlog.get_logger(__name__)

_RATE = 16000
_SHORTEST = 0.1
"""Seconds below which endpoints refuse a recording."""
_EVENTS = "text/event-stream"


class OpenAISTT(BatchSTT):
    """One model of one endpoint. Recordings of perfect silence are not sent."""

    sample_rate = _RATE

    def __init__(self, options: STTOptions) -> None:
        self._options = options
        self._client = Client(options)

    def load(self) -> None:
        self._client.load()

    async def warm_up(self) -> None:
        await self._client.warm_up()

    async def aclose(self) -> None:
        await self._client.aclose()

    def stream(self) -> STTStream:
        return _Live(self) if self._options.stream else super().stream()

    async def recognize(self, audio: AudioFrame, *, tell: Callable[[str], None] | None = None) -> Transcript:
        """``tell`` is called with the words so far, where the endpoint sends them in pieces."""
        if audio.sample_rate != _RATE:
            raise ValueError(f"audio at {audio.sample_rate} Hz; expected {_RATE}")
        if audio.duration < _SHORTEST or not np.any(audio.pcm):
            return Transcript("", language=self._options.language)
        with self._client.endpoint.translated():
            client = await self._client.ready()
            asked = client.audio.transcriptions.with_streaming_response.create(**self._request(audio))
            async with asked as response:
                if not response.headers.get("content-type", "").lower().startswith(_EVENTS):
                    return self._transcript(await response.json())  # also where a stream was asked for: not all can
                async with reading(await response.parse()) as events:
                    return await self._read(events, tell)

    async def _read(self, events: Any, tell: Callable[[str], None] | None) -> Transcript:
        """The transcript at the end of a stream of its pieces."""
        text = ""
        async for event in events:
            kind = getattr(event, "type", "")
            if kind == "transcript.text.delta":
                text += event.delta
                if tell is not None and text.strip():
                    tell(text.strip())
            elif kind == "transcript.text.done":
                return self._transcript(event.to_dict())
        raise MalformedAnswer("the transcript broke off")

    def _transcript(self, answer: Any) -> Transcript:
        if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
            raise MalformedAnswer("no transcript in the answer")
        options, text = self._options, answer["text"].strip()
        segments = [one for one in answer.get("segments") or () if isinstance(one, dict) and "avg_logprob" in one]
        probability = _mean([one["avg_logprob"] for one in segments])
        if segments and probability is not None:
            silent = _mean([one.get("no_speech_prob", 0.0) for one in segments]) or 0.0
            unsure = probability < options.min_logprob
            if unsure or (silent > options.no_speech and probability < options.min_logprob / 4):
                logger.debug("not speech", provider=PROVIDER, logprob=probability, no_speech=silent)
                text = ""
        else:
            tokens = [one for one in answer.get("logprobs") or () if isinstance(one, dict)]
            probability = _mean([one["logprob"] for one in tokens if one.get("logprob") is not None])
        confidence = None if probability is None else min(1.0, math.exp(probability))
        return Transcript(text, language=_language(answer) or options.language, confidence=confidence)

    def _request(self, audio: AudioFrame) -> dict[str, Any]:
        options = self._options
        new, whisper = options.model.startswith("gpt-transcribe"), "whisper" in options.model.lower()
        asked: dict[str, Any] = {
            "model": options.model,
            "file": ("speech.wav", wav(audio), "audio/wav"),
            # Whisper makes words up where nobody spoke, and says how sure it was only when it tells all.
            "response_format": "verbose_json" if whisper and not options.stream else "json",
        }
        if options.language:
            asked |= {"languages": [options.language]} if new else {"language": options.language}
        if options.prompt:
            asked["prompt"] = options.prompt
        if options.keywords:
            asked["keywords"] = list(options.keywords)
        if options.stream:
            asked["stream"] = True
        if options.model.startswith("gpt-4o") and "diarize" not in options.model:
            asked["include"] = ["logprobs"]
        if options.extra:
            asked["extra_body"] = options.extra
        return asked


class _Telling(BatchSTT):
    """The same for one stream, which is told the words as they come."""

    sample_rate = _RATE

    def __init__(self, stt: OpenAISTT, tell: Callable[[str], None]) -> None:
        self._stt = stt
        self._tell = tell

    async def recognize(self, audio: AudioFrame) -> Transcript:
        return await self._stt.recognize(audio, tell=self._tell)


class _Live(STTStream):
    """Utterances one after another, each with the words that come before its final transcript."""

    def __init__(self, stt: OpenAISTT) -> None:
        self._whole = _Telling(stt, self._told).stream()
        self._open = ""
        self._due: deque[str] = deque()
        self._heard: asyncio.Queue[Transcript] = asyncio.Queue()

    def push(self, frame: AudioFrame) -> None:
        self._whole.push(frame)

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        self._open = utterance
        self._whole.start_of_speech(utterance, at=at)

    def end_of_speech(self, utterance: str) -> None:
        if utterance == self._open:
            self._due.append(utterance)
            self._open = ""
        self._whole.end_of_speech(utterance)

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        finals: Any = aiter(self._whole)
        async with aclosing(finals):
            final: asyncio.Task[Transcript | None] = asyncio.create_task(_next(finals))
            words = asyncio.create_task(self._heard.get())
            try:
                while True:
                    await asyncio.wait((final, words), return_when=asyncio.FIRST_COMPLETED)
                    if words.done() and not final.done():
                        yield words.result()
                        words = asyncio.create_task(self._heard.get())
                        continue
                    if (transcript := final.result()) is None:
                        return
                    self._settled(transcript.utterance)
                    if words.done():
                        words = asyncio.create_task(self._heard.get())
                    final = asyncio.create_task(_next(finals))
                    yield transcript
            finally:
                for task in (final, words):
                    task.cancel()
                await asyncio.gather(final, words, return_exceptions=True)

    async def aclose(self) -> None:
        await self._whole.aclose()

    def _told(self, text: str) -> None:
        if self._due:
            self._heard.put_nowait(Transcript(text, final=False, utterance=self._due[0]))

    def _settled(self, utterance: str) -> None:
        """The utterance has its final transcript: what was heard of it before is no news any more."""
        while self._due and self._due.popleft() != utterance:
            pass
        while not self._heard.empty():
            self._heard.get_nowait()


async def _next(finals: AsyncIterator[Transcript]) -> Transcript | None:
    return await anext(finals, None)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _language(answer: dict[str, Any]) -> str:
    """A code of two or three letters; some endpoints give a language's English name, which says nothing here."""
    known = [one.get("code") for one in answer.get("languages") or () if isinstance(one, dict)]
    language = next(filter(None, known), None) or answer.get("language") or ""
    return language if isinstance(language, str) and len(language) in (2, 3) else ""
