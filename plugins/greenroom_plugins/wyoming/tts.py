"""Text to speech by a Wyoming server, a sentence at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import numpy as np

from greenroom.audio import AudioFrame, Pcm, Resampler
from greenroom.providers import SentenceTTS
from greenroom_plugins.remote.audible import Beginning
from greenroom_plugins.wyoming.link import Link, failed, known
from greenroom_plugins.wyoming.options import WyomingTTSOptions
from greenroom_plugins.wyoming.wire import Event

__all__ = ["WyomingTTS"]

_WIDTH = 2  # bytes a sample
SOUNDLESS = 3.0
"""Seconds of nothing at the beginning of a sentence that are taken for a fault."""


class WyomingTTS(SentenceTTS):
    """One voice of a server; a connection for each sentence."""

    def __init__(self, options: WyomingTTSOptions) -> None:
        self._options = options
        self.sample_rate = options.sample_rate
        self.first_clause = options.first_clause
        self.language = options.language

    async def warm_up(self) -> None:
        """See whether the server is there and has the voice."""
        options = self._options
        await known(options.uri, kind="tts", names="voices", wanted=options.voice, within=options.connect_timeout)

    async def speak(self, sentence: str) -> AsyncGenerator[AudioFrame, None]:
        options, beginning = self._options, Beginning(self.sample_rate)
        voice = {"name": options.voice, "language": options.language, "speaker": options.speaker}
        voice = {key: value for key, value in voice.items() if value}
        async with Link(options.uri, within=options.connect_timeout) as link:
            await link.send("synthesize", {"text": sentence, **({"voice": voice} if voice else {})})
            sound = _Sound(self.sample_rate)
            while (event := await self._next(link)).type != "audio-stop":
                if event.type not in ("audio-start", "audio-chunk"):
                    continue
                if len(pcm := beginning.push(sound.take(event))):
                    yield AudioFrame(pcm, self.sample_rate)
                elif not beginning.sounded and beginning.seconds >= SOUNDLESS:
                    raise failed(f"{beginning.seconds:.1f} s of silence came instead of a voice")
        if len(pcm := beginning.push(sound.end())):
            yield AudioFrame(pcm, self.sample_rate)
        if not beginning.sounded:
            raise failed("it made no sound of the text")

    async def _next(self, link: Link) -> Event:
        try:
            async with asyncio.timeout(self._options.patience):
                return await link.receive()
        except TimeoutError:
            raise failed(f"nothing came for {self._options.patience:g} s") from None


class _Sound:
    """The server's audio, in whatever form, on its way to mono at our rate."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._resampler = Resampler(sample_rate, sample_rate)
        self._channels = 1
        self._torn = b""

    def take(self, event: Event) -> Pcm:
        rate, channels = event.number("rate"), event.number("channels")
        if event.number("width") != _WIDTH or not 4000 <= rate <= 192000 or not 1 <= channels <= 8:
            form = ", ".join(f"{key} {event.data.get(key)!r}" for key in ("rate", "width", "channels"))
            raise failed(f"audio of a form that is not understood ({form[:80]})", retryable=False)
        ready: Pcm = np.zeros(0, dtype=np.int16)
        if (rate, channels) != (self._resampler.source_rate, self._channels):
            ready, self._torn = self._resampler.flush(), b""
            self._resampler, self._channels = Resampler(rate, self._rate), channels
        raw = self._torn + event.payload
        whole = len(raw) - len(raw) % (_WIDTH * channels)
        self._torn = raw[whole:]
        pcm: Pcm = np.frombuffer(raw[:whole], dtype="<i2").astype(np.int16, copy=False)
        if channels > 1:
            pcm = np.asarray(pcm.reshape(-1, channels).mean(axis=1).round(), dtype=np.int16)
        return np.concatenate([ready, self._resampler.push(pcm)])

    def end(self) -> Pcm:
        return self._resampler.flush()
