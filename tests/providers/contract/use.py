"""One whole request to a provider of any kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np

from greenroom.audio import AudioFrame
from greenroom.providers import (
    LLM,
    STT,
    TTS,
    ChatContext,
    Provider,
    RealtimeModel,
    RealtimeRequest,
    TextDelta,
)
from greenroom.testing.contract import Speech
from greenroom.testing.contract.stt import say

__all__ = ["TEXT", "used"]

TEXT = "Hello there. This is the second sentence of three! Is it not? "


async def used(provider: Provider, speech: Speech) -> str:
    """Ask it for something, and read all of it: its words, or for a sound ``"sound"``; empty where there was nothing.

    Raises what it raises.
    """
    match provider:
        case LLM():
            return await _asked(provider)
        case TTS():
            return await _spoken(provider)
        case STT():
            return await _heard(provider, speech)
        case RealtimeModel():
            return await _answered(provider)
    raise TypeError(f"{type(provider).__name__} has no server")


async def _asked(llm: LLM) -> str:
    context = ChatContext()
    context.add_message(role="user", content="Hello, what time is it? 🙂 Привет")
    async with aclosing(llm.chat(context)) as chunks:
        return "".join([chunk.text async for chunk in chunks if isinstance(chunk, TextDelta)])


async def _spoken(tts: TTS) -> str:
    async def words() -> AsyncIterator[str]:
        yield TEXT

    async with aclosing(tts.synthesize(words())) as pieces:
        heard = [bool(np.any(piece.frame.pcm)) async for piece in pieces]
    return "sound" if any(heard) else ""


async def _heard(stt: STT, speech: Speech) -> str:
    stream = stt.stream()
    try:
        say(stt, stream, "u1", speech.audio, at=asyncio.get_running_loop().time())
        async for heard in stream:
            if heard.final:
                return heard.text
        return ""
    finally:
        await stream.aclose()


async def _answered(model: RealtimeModel) -> str:
    session = model.session(detect_speech=False)
    try:
        said = ""
        async with aclosing(session.respond(RealtimeRequest("r1", instructions="Greet the user."))) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, TextDelta):
                    said += chunk.text
                elif isinstance(chunk, AudioFrame) and np.any(chunk.pcm):
                    said = said or "sound"
        return said
    finally:
        await session.aclose()
