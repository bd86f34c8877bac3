"""Small requests that show whether a model answers: cheap, with nothing of the caller's in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np

from greenroom.audio import AudioFrame, Pcm
from greenroom.dialog.history import ChatContext
from greenroom.errors import ProviderError
from greenroom.providers.llm import LLM, TextDelta, ToolCall
from greenroom.providers.provider import Provider
from greenroom.providers.realtime import RealtimeModel, RealtimeRequest
from greenroom.providers.stt import STT
from greenroom.providers.tts import TTS
from greenroom.providers.turn import Heard, TurnDetector
from greenroom.providers.vad import VAD

__all__ = ["try_llm", "try_provider", "try_realtime", "try_stt", "try_tts", "try_turn", "try_vad"]

QUESTION = "Answer with one word: are you there?"
WORDS = "Hello."
FRAME = 0.02
HEARD = 0.6
"""Seconds of sound that a transcriber is given."""


async def try_provider(provider: Provider) -> float:
    """Make a small request of the provider's kind; the seconds until its first output. Raises ``ProviderError``."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    match provider:
        case LLM():
            await try_llm(provider)
        case TTS():
            await try_tts(provider)
        case STT():
            await try_stt(provider)
        case TurnDetector():
            await try_turn(provider)
        case RealtimeModel():
            await try_realtime(provider)
        case VAD():
            await try_vad(provider)
        case _:
            raise TypeError(f"{type(provider).__name__} is no provider")
    return loop.time() - began


async def try_llm(llm: LLM) -> None:
    """Until its first word."""
    context = ChatContext()
    context.add_message(role="user", content=QUESTION)
    async with aclosing(llm.chat(context)) as chunks:
        async for chunk in chunks:
            if isinstance(chunk, ToolCall) or (isinstance(chunk, TextDelta) and chunk.text):
                return
    raise ProviderError("an answer with nothing in it", provider=llm.label, retryable=True)


async def try_tts(tts: TTS) -> None:
    """Until its first sound."""

    async def words() -> AsyncIterator[str]:
        yield WORDS

    async with aclosing(tts.synthesize(words())) as pieces:
        async for piece in pieces:
            if np.any(piece.frame.pcm):
                return
    raise ProviderError("a speech without a sound", provider=tts.label, retryable=True)


async def try_stt(stt: STT) -> None:
    """Until it says what it heard in a bit of noise: nothing."""
    stream = stt.stream()
    try:
        at = asyncio.get_running_loop().time() - HEARD
        pcm, step = _noise(HEARD, stt.sample_rate), round(FRAME * stt.sample_rate)
        for start in range(0, len(pcm), step):
            stream.push(AudioFrame(pcm[start : start + step], stt.sample_rate, at + start / stt.sample_rate))
            if start == 0:
                stream.start_of_speech("trial", at=at)
        stream.end_of_speech("trial")
        async for heard in stream:
            if heard.final:
                return
    finally:
        await stream.aclose()
    raise ProviderError("the stream ended", provider=stt.label, retryable=True)


async def try_turn(detector: TurnDetector) -> None:
    context = ChatContext()
    context.add_message(role="user", content=QUESTION)
    audio = AudioFrame(_noise(1.0, detector.sample_rate), detector.sample_rate)
    await detector.probability(Heard(context, QUESTION, audio if detector.modality == "audio" else None))


async def try_realtime(model: RealtimeModel) -> None:
    """Until the first word or sound of a response."""
    session = model.session(detect_speech=False)
    try:
        request = RealtimeRequest("trial", instructions=QUESTION)
        async with aclosing(session.respond(request)) as chunks:
            async for _ in chunks:
                return
    finally:
        await session.aclose()
    raise ProviderError("a response with nothing in it", provider=model.label, retryable=True)


async def try_vad(vad: VAD) -> None:
    vad.stream().probability(np.zeros(vad.window, dtype=np.int16))


def _noise(seconds: float, sample_rate: int) -> Pcm:
    """Quiet, always the same. Models pass over mere zeros without a look, which would say nothing of their speed."""
    return np.random.default_rng(7).normal(0, 60, round(seconds * sample_rate)).astype(np.int16)
