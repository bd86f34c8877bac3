"""What a speech to text provider has to keep."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import numpy as np
import pytest

from greenroom.audio import AudioFrame, silence
from greenroom.errors import ProviderError
from greenroom.providers import STT, STTStream, Transcript
from greenroom.testing.contract.loop import Leftovers, longest_block
from greenroom.testing.contract.speech import Speech, at_rate, buzz, frames

__all__ = ["STTContract"]


@pytest.mark.asyncio
class STTContract:
    """Subclass it and give it the fixtures ``provider``, and ``speech`` and ``failing`` where there are such."""

    patience = 20.0
    promptness = 0.25

    @pytest.fixture
    def provider(self) -> STT:
        raise NotImplementedError("the subclass says what is tested")

    @pytest.fixture
    def speech(self) -> Speech:
        return Speech(buzz(1.5, 16000))

    @pytest.fixture
    def long_speech(self) -> Speech:
        """Longer than models take in one go."""
        return Speech(buzz(45.0, 16000))

    @pytest.fixture
    def failing(self) -> STT | None:
        return None

    async def test_it_says_what_it_takes(self, provider: STT) -> None:
        assert provider.sample_rate in (8000, 16000, 24000, 32000, 44100, 48000)

    async def test_load_is_idempotent(self, provider: STT) -> None:
        await asyncio.to_thread(provider.load)
        await asyncio.to_thread(provider.load)

    async def test_an_utterance_gets_one_final_transcript(self, provider: STT, speech: Speech) -> None:
        async with opened(provider) as stream:
            say(provider, stream, "u1", speech.audio)
            final = await self.final(stream)
        assert isinstance(final, Transcript)
        assert final.utterance in ("u1", "")
        assert final.text == final.text.strip()
        assert final.confidence is None or 0.0 <= final.confidence <= 1.0
        if speech.words:
            assert words(final.text) == words(speech.words)

    async def test_utterances_keep_their_order(self, provider: STT, speech: Speech) -> None:
        async with opened(provider) as stream:
            for utterance in ("u1", "u2", "u3"):
                say(provider, stream, utterance, speech.audio)
            named = [final.utterance for final in await self.finals(stream, 3)]
        assert named in (["u1", "u2", "u3"], ["", "", ""])

    async def test_an_utterance_without_audio(self, provider: STT) -> None:
        async with opened(provider) as stream:
            stream.start_of_speech("u1", at=0.0)
            stream.end_of_speech("u1")
            assert (await self.final(stream)).text == ""

    async def test_silence_has_no_words(self, provider: STT) -> None:
        async with opened(provider) as stream:
            say(provider, stream, "u1", silence(1.0, provider.sample_rate))
            assert (await self.final(stream)).text == ""

    async def test_audio_outside_utterances_is_taken(self, provider: STT, speech: Speech) -> None:
        async with opened(provider) as stream:
            for frame in frames(at_rate(buzz(4.0, 16000), provider.sample_rate).pcm, provider.sample_rate):
                stream.push(frame)
            say(provider, stream, "u1", speech.audio, at=4.0)
            assert (await self.final(stream)).utterance in ("u1", "")

    async def test_ends_that_never_began_are_ignored(self, provider: STT, speech: Speech) -> None:
        async with opened(provider) as stream:
            stream.end_of_speech("never")
            say(provider, stream, "u1", speech.audio)
            assert (await self.final(stream)).utterance in ("u1", "")

    async def test_a_very_long_utterance(self, provider: STT, long_speech: Speech) -> None:
        async with opened(provider) as stream:
            say(provider, stream, "u1", long_speech.audio)
            final = await self.final(stream)
        if long_speech.words:
            expected, heard = set(words(long_speech.words)), set(words(final.text))
            assert len(expected & heard) > 0.8 * len(expected)

    async def test_aclose_stops_at_once(self, provider: STT, speech: Speech) -> None:
        left, stream = Leftovers(), provider.stream()
        delivered: list[Transcript] = []
        reading = asyncio.create_task(collect(stream, delivered))
        for utterance in ("u1", "u2"):
            say(provider, stream, utterance, AudioFrame(np.tile(speech.audio.pcm, 5), speech.audio.sample_rate))
        await asyncio.sleep(0.02)  # the first is being worked on
        before = [final for final in delivered if final.final]
        async with asyncio.timeout(self.promptness):
            await stream.aclose()
        async with asyncio.timeout(self.promptness):
            await reading
        assert [final for final in delivered if final.final] == before
        assert not await left.gone(within=self.promptness)

    async def test_aclose_may_come_twice_and_first(self, provider: STT) -> None:
        stream = provider.stream()
        await stream.aclose()
        await stream.aclose()
        assert [transcript async for transcript in stream] == []

    async def test_a_cancelled_reader_leaves_nothing(self, provider: STT, speech: Speech) -> None:
        left, stream = Leftovers(), provider.stream()
        reading = asyncio.create_task(collect(stream, []))
        say(provider, stream, "u1", speech.audio)
        await asyncio.sleep(0.02)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(self.promptness):
                await reading
        await stream.aclose()
        assert not await left.gone(within=self.promptness)

    async def test_two_streams_at_once(self, provider: STT, speech: Speech) -> None:
        async with opened(provider) as one, opened(provider) as other:
            say(provider, one, "u1", speech.audio)
            say(provider, other, "u2", silence(1.0, provider.sample_rate))
            first, second = await asyncio.gather(self.final(one), self.final(other))
        assert (first.utterance, second.utterance) in (("u1", "u2"), ("", ""))
        assert second.text == ""
        if speech.words:
            assert words(first.text) == words(speech.words)

    async def test_the_loop_stays_free(self, provider: STT, speech: Speech) -> None:
        await asyncio.to_thread(provider.load)

        async def work() -> None:
            async with opened(provider) as stream:
                say(provider, stream, "u1", speech.audio)
                await self.final(stream)

        assert await longest_block(work, limit=0.05) <= 0.05

    async def test_a_failure_is_a_provider_error(self, failing: STT | None, speech: Speech) -> None:
        if failing is None:
            pytest.skip("no failing provider was given")
        async with opened(failing) as stream:
            say(failing, stream, "u1", speech.audio)
            with pytest.raises(ProviderError) as caught:
                await self.final(stream)
        assert caught.value.provider

    async def final(self, stream: STTStream) -> Transcript:
        return (await self.finals(stream, 1))[0]

    async def finals(self, stream: STTStream, number: int) -> list[Transcript]:
        found: list[Transcript] = []
        iterator: Any = aiter(stream)
        async with asyncio.timeout(self.patience), aclosing(iterator):
            async for transcript in iterator:
                found += [transcript] if transcript.final else []
                if len(found) == number:
                    return found
        raise AssertionError(f"the stream ended after {len(found)} of {number} final transcripts")


@asynccontextmanager
async def opened(provider: STT) -> AsyncIterator[STTStream]:
    stream = provider.stream()
    try:
        yield stream
    finally:
        await stream.aclose()


def say(provider: STT, stream: STTStream, utterance: str, sound: AudioFrame, *, at: float = 0.0) -> None:
    """Push a whole utterance as a session does: the mark comes when some of it has been pushed."""
    parts = list(frames(at_rate(sound, provider.sample_rate).pcm, provider.sample_rate, at=at))
    for frame in parts[:5]:
        stream.push(frame)
    stream.start_of_speech(utterance, at=at)
    for frame in parts[5:]:
        stream.push(frame)
    stream.end_of_speech(utterance)


async def collect(stream: STTStream, into: list[Transcript]) -> None:
    async for transcript in stream:
        into.append(transcript)  # noqa: PERF401  # what came before an end that is forced counts too


def words(text: str) -> list[str]:
    return re.sub(r"[^\w' ]", " ", text.lower()).split()
