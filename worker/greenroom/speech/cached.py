"""A voice that makes no sentence twice.

A model that speaks sentence by sentence is asked for those that are not there. A voice that is streamed to makes a
speech in one go, and no part of it stands for itself: of its speeches those are looked up, and kept, whose text is
there to its end when they begin, as that of ``say()`` is. No speech waits for that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from hashlib import sha256
from pathlib import Path
from typing import Any

from greenroom.audio import silence
from greenroom.providers.sentences import SentenceSplitter, sentences, speakable
from greenroom.providers.tts import SENTENCE_BEGUN, TTS, SentenceTTS, SynthesizedAudio
from greenroom.redaction import is_secret
from greenroom.settings import ProviderSettings
from greenroom.speech.cache import SpeechCache
from greenroom.speech.renditions import Rendition

__all__ = ["CachedTTS", "voice_identity"]

PASSES = 8
"""Turns of the loop in which a text that is there is read, whatever tasks it goes through: no time."""
LONGEST = 2000
"""Characters of a text beyond which it is not looked up as a whole: nobody says that twice."""


def voice_identity(settings: ProviderSettings, *, version: str = "", variant: str = "") -> str:
    """What a voice's sound depends on, beside the text: plugin and its ``version``, and all options but secrets.

    A file that an option names counts with its size and time. ``variant``: the voice's own.
    """
    options = _sounding(settings.options)
    told = {"plugin": settings.plugin, "version": version, "variant": variant, "options": options}
    return sha256(json.dumps(told, sort_keys=True, default=repr).encode()).hexdigest()


def _sounding(options: Any) -> Any:
    if isinstance(options, dict):
        return {str(key): _sounding(value) for key, value in options.items() if not is_secret(str(key))}
    if isinstance(options, list | tuple):
        return [_sounding(value) for value in options]
    if isinstance(options, str) and "/" in options:
        try:
            status = Path(options).expanduser().stat()
        except (OSError, ValueError, RuntimeError):
            return options
        return [options, status.st_size, status.st_mtime_ns]
    return options


class CachedTTS(TTS):
    """Another voice, with a memory. ``identity``: what distinguishes its sound from that of any other."""

    def __init__(self, tts: TTS, cache: SpeechCache, *, identity: str) -> None:
        self.sample_rate = tts.sample_rate
        self._tts = tts
        self._cache = cache
        self._identity = identity
        self._expected: set[str] = set()

    @property
    def label(self) -> str:
        return self._tts.label

    def load(self) -> None:
        self._tts.load()

    async def warm_up(self) -> None:
        await self._tts.warm_up()

    async def aclose(self) -> None:
        await self._tts.aclose()

    def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        return self._synthesize(text, disk=self._cache.everything)

    def expect(self, texts: Iterable[str]) -> None:
        """These are likely to be said: they are looked up on disk too, where another process may have put them."""
        self._expected |= {key for text in texts for key in self._keys(text)}

    def recall(self, text: str) -> bool:
        """Have a text in memory that was rendered before, by any process. Returns whether all of it is. Blocks."""
        found = [self._usable(self._cache.load(key)) for key in self._keys(text)]
        return None not in found

    async def render(self, text: str) -> None:
        """Have a text in memory and on disk. Raises ``ProviderError``."""
        async with aclosing(self._synthesize(_once(text), disk=True)) as pieces:
            async for _ in pieces:
                pass

    def _synthesize(self, text: AsyncIterable[str], *, disk: bool) -> AsyncGenerator[SynthesizedAudio, None]:
        if isinstance(self._tts, SentenceTTS):
            return self._by_sentence(self._tts, text, disk=disk)
        return self._as_a_whole(text, disk=disk)

    async def _by_sentence(
        self, tts: SentenceTTS, text: AsyncIterable[str], *, disk: bool
    ) -> AsyncGenerator[SynthesizedAudio, None]:
        label = ""
        pieces = sentences(text, first_clause=tts.first_clause, language=tts.language)
        async with aclosing(pieces):
            async for piece in pieces:
                label += piece
                if not speakable(piece):
                    continue
                _tell_begun()
                async with aclosing(self._sentence(tts, piece.strip(), disk=disk)) as audio:
                    async for made in audio:
                        yield SynthesizedAudio(made.frame, label, aligned=bool(label), cached=made.cached)
                        label = ""
        if label:
            yield SynthesizedAudio(silence(0, self.sample_rate), label)

    async def _sentence(self, tts: SentenceTTS, sentence: str, *, disk: bool) -> AsyncGenerator[SynthesizedAudio, None]:
        key = self._key(sentence)
        if (found := await self._find(key, disk=disk)) is not None:
            for piece in found.pieces():
                yield piece
            return
        made: list[SynthesizedAudio] = []
        async with aclosing(tts.speak(sentence)) as audio:
            async for frame in audio:
                made.append(SynthesizedAudio(frame))
                yield made[-1]
        await self._keep(key, made, disk=disk)

    async def _as_a_whole(self, text: AsyncIterable[str], *, disk: bool) -> AsyncGenerator[SynthesizedAudio, None]:
        async with aclosing(_Given(text)) as given:
            whole = await given.whole()
            key = self._key(whole) if whole is not None else ""
            if key and (found := await self._find(key, disk=disk)) is not None:
                _tell_begun()
                for piece in found.pieces():
                    yield piece
                return
            made: list[SynthesizedAudio] = []
            async with aclosing(self._tts.synthesize(given)) as audio:
                async for piece in audio:
                    if key:
                        made.append(piece)
                    yield piece
            if key:
                await self._keep(key, made, disk=disk)

    async def _find(self, key: str, *, disk: bool) -> Rendition | None:
        return self._usable(await self._cache.find(key, disk=disk or key in self._expected))

    def _keys(self, text: str) -> list[str]:
        """Of all that is looked up when this text is spoken by itself."""
        if not isinstance(self._tts, SentenceTTS):
            return [self._key(text)]
        splitter = SentenceSplitter(first_clause=self._tts.first_clause, language=self._tts.language)
        pieces = (*splitter.push(text), *splitter.flush())
        return [self._key(piece.strip()) for piece in pieces if speakable(piece)]

    def _key(self, text: str) -> str:
        return sha256(f"{self._identity}\0{text}".encode()).hexdigest()

    def _usable(self, rendition: Rendition | None) -> Rendition | None:
        return rendition if rendition is not None and rendition.sample_rate == self.sample_rate else None

    async def _keep(self, key: str, made: list[SynthesizedAudio], *, disk: bool) -> None:
        if (rendition := Rendition.of(made)) is not None:
            await self._cache.keep(key, rendition, disk=disk)


def _tell_begun() -> None:
    if (told := SENTENCE_BEGUN.get(None)) is not None:
        told()


async def _once(text: str) -> AsyncGenerator[str, None]:
    yield text


class _Given:
    """A stream of text, of which may be asked whether all of it is there already. Read on, it is what it was."""

    def __init__(self, text: AsyncIterable[str]) -> None:
        self._text = aiter(text)
        self._parts: list[str] = []
        self._next: asyncio.Task[str | None] | None = None
        self._over = False

    async def whole(self) -> str | None:
        """The text, if nothing has to be waited for; else ``None``. What it has to read for that is kept."""
        length = 0
        while not self._over:
            if length > LONGEST:
                return None
            self._next = asyncio.ensure_future(self._read())
            for _ in range(PASSES):
                await asyncio.sleep(0)
                if self._next.done():
                    break
            else:
                return None
            part = self._next.result()
            length += len(part or "")
            self._take(part)
        return "".join(self._parts)

    async def __aiter__(self) -> AsyncIterator[str]:
        while self._parts or not self._over:
            if self._parts:
                yield self._parts.pop(0)
                continue
            self._take(await (self._next or self._read()))

    async def aclose(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        close = getattr(self._text, "aclose", None)
        if close is not None:
            await close()

    async def _read(self) -> str | None:
        return await anext(self._text, None)

    def _take(self, part: str | None) -> None:
        self._next = None
        if part is None:
            self._over = True
        else:
            self._parts.append(part)
