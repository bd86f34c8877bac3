"""Text to speech, sentence by sentence, heard while it is made."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.providers import SentenceTTS
from greenroom_plugins.openai.endpoint import Client
from greenroom_plugins.openai.errors import PROVIDER, MalformedAnswer
from greenroom_plugins.openai.options import TTSOptions
from greenroom_plugins.openai.sound import Onset, SoundReader

__all__ = ["OpenAITTS"]


class OpenAITTS(SentenceTTS):
    """One voice of one endpoint."""

    def __init__(self, options: TTSOptions) -> None:
        self._options = options
        self._client = Client(options)
        self.sample_rate = options.sample_rate
        self.first_clause = options.first_clause
        self.variant = self._client.endpoint.url

    def load(self) -> None:
        self._client.load()

    async def warm_up(self) -> None:
        await self._client.warm_up()

    async def aclose(self) -> None:
        await self._client.aclose()

    async def speak(self, sentence: str) -> AsyncGenerator[AudioFrame, None]:
        endpoint = self._client.endpoint
        onset = Onset(self.sample_rate, lead=self._options.lead)
        with endpoint.translated():
            client = await self._client.ready()
            request = client.audio.speech.with_streaming_response.create(**self._request(sentence))
            async with request as response:
                kind = response.headers.get("content-type", "").lower()
                if kind.startswith(("application/json", "text/")):
                    raise MalformedAnswer(f"{kind.partition(';')[0]} instead of sound")
                reader = SoundReader(self.sample_rate, labelled=kind.startswith(("audio/mpeg", "audio/aac")))
                async for data in response.iter_bytes():
                    if len(pcm := onset.push(reader.push(data))):
                        yield AudioFrame(pcm, self.sample_rate)
                if len(pcm := onset.push(reader.flush())):
                    yield AudioFrame(pcm, self.sample_rate)
        if not onset.heard:
            raise ProviderError(f"{endpoint.host} sent no sound", provider=PROVIDER, retryable=True)

    def _request(self, sentence: str) -> dict[str, Any]:
        options = self._options
        asked: dict[str, Any] = {
            "model": options.model,
            "voice": options.voice,
            "input": sentence,
            "response_format": options.response_format,
        }
        if options.instructions:
            asked["instructions"] = options.instructions
        if options.speed != 1.0:
            asked["speed"] = options.speed
        if options.extra:
            asked["extra_body"] = options.extra
        return asked
