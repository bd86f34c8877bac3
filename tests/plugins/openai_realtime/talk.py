"""A session of the plugin under test, with all that it has heard, and ways to speak to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

from greenroom.audio import AudioFrame, silence
from greenroom.errors import ProviderError
from greenroom.providers import RealtimeRequest, RealtimeSession, TextDelta, Transcript
from greenroom.providers.realtime import RealtimeChunk, RealtimeHeard
from greenroom.testing.contract.speech import frames
from tests.plugins.tones import spell

from .cases import model
from .conversation import RATE
from .server import RealtimeServer

__all__ = ["STORY", "Talk", "samples", "talking", "text", "words"]

STORY = "one two three four five six seven eight"


class Talk:
    """A session and all that it has heard; errors too."""

    def __init__(self, server: RealtimeServer, session: RealtimeSession) -> None:
        self.server = server
        self.session = session
        self.heard: list[RealtimeHeard | ProviderError] = []
        self._changed = asyncio.Event()
        self.listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            try:
                async for heard in self.session:
                    self.heard.append(heard)
                    self._changed.set()
                return
            except ProviderError as error:
                self.heard.append(error)
                self._changed.set()

    @property
    def finals(self) -> list[Transcript]:
        return [heard for heard in self.heard if isinstance(heard, Transcript) and heard.final]

    @property
    def errors(self) -> list[ProviderError]:
        return [heard for heard in self.heard if isinstance(heard, ProviderError)]

    async def until(self, happened: Callable[[], object]) -> None:
        async with asyncio.timeout(5.0):
            while not happened():
                self._changed.clear()
                await self._changed.wait()

    async def said(self, key: str, **asked: Any) -> list[RealtimeChunk]:
        async with asyncio.timeout(10.0), aclosing(self.session.respond(RealtimeRequest(key, **asked))) as chunks:
            return [chunk async for chunk in chunks]

    async def hear_words(self, key: str, count: int) -> list[RealtimeChunk]:
        """The first words of a response, with their sound; then it is closed."""
        got: list[RealtimeChunk] = []
        async with aclosing(self.session.respond(RealtimeRequest(key))) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, TextDelta) and len(words(got)) == count:
                    break
                got.append(chunk)
        return got

    def push(self, text: str, *, at: float) -> float:
        """Speak to it; when the words are over."""
        sound = spell(text, RATE)[0]
        for frame in frames(sound.pcm, RATE, at=at):
            self.session.push(frame)
        return at + sound.duration

    def quiet(self, seconds: float, *, at: float) -> float:
        for frame in frames(silence(seconds, RATE).pcm, RATE, at=at):
            self.session.push(frame)
        return at + seconds

    def utter(self, key: str, text: str, *, at: float) -> None:
        """A whole utterance that the session's voice activity has found."""
        self.push(text, at=at)
        self.session.start_of_speech(key, at=at)
        self.session.end_of_speech(key)


def words(chunks: list[RealtimeChunk]) -> list[str]:
    return [chunk.text for chunk in chunks if isinstance(chunk, TextDelta)]


def text(chunks: list[RealtimeChunk]) -> str:
    return "".join(words(chunks))


def samples(chunks: list[RealtimeChunk]) -> int:
    return sum(len(chunk.pcm) for chunk in chunks if isinstance(chunk, AudioFrame))


@asynccontextmanager
async def talking(server: RealtimeServer, *, detect_speech: bool = False, **options: Any) -> AsyncIterator[Talk]:
    session = model(server.url, **options).session(detect_speech=detect_speech)
    talk = Talk(server, session)
    try:
        yield talk
    finally:
        await session.aclose()
        await talk.listening
        await server.until(lambda: server.under_way == 0)
