"""What a text to speech provider has to keep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest

from greenroom.audio import Pcm, rms
from greenroom.errors import ProviderError
from greenroom.providers import TTS
from greenroom.testing.contract.loop import Leftovers, longest_block

__all__ = ["TTSContract"]


@pytest.mark.asyncio
class TTSContract:
    """Subclass it and give it the fixtures ``provider``, and ``failing`` where there is one that cannot work."""

    patience = 20.0
    promptness = 0.25
    sentence = "This is a sentence with a few words."
    text = "Hello there. This is the second sentence of three! Is it not? "
    labelled = True
    """Whether the provider says which words begin with a piece of audio."""

    @pytest.fixture
    def provider(self) -> TTS:
        raise NotImplementedError("the subclass says what is tested")

    @pytest.fixture
    def failing(self) -> TTS | None:
        return None

    async def test_it_says_what_it_makes_before_it_is_loaded(self, provider: TTS) -> None:
        assert 8000 <= provider.sample_rate <= 48000

    async def test_load_is_idempotent(self, provider: TTS) -> None:
        await asyncio.to_thread(provider.load)
        await asyncio.to_thread(provider.load)

    async def test_audio(self, provider: TTS) -> None:
        async with asyncio.timeout(self.patience), aclosing(provider.synthesize(given(self.sentence))) as pieces:
            made = [piece async for piece in pieces]
        for piece in made:
            assert piece.frame.sample_rate == provider.sample_rate
            assert piece.frame.pcm.dtype == np.int16
            assert piece.frame.pcm.ndim == 1
        sound = np.concatenate([piece.frame.pcm for piece in made])
        assert 0.3 < len(sound) / provider.sample_rate < 15
        assert rms(sound) > 50

    async def test_more_words_take_longer(self, provider: TTS) -> None:
        assert len(await self.spoken(provider, self.text)) > len(await self.spoken(provider, "Hello."))

    async def test_labels_join_to_the_text(self, provider: TTS) -> None:
        if not self.labelled:
            pytest.skip("this provider does not say which words begin when")
        for text in (self.text, "  Hello. 👋", "One\n\ntwo.\n", "...", "No end", "你好。再见！"):
            async with asyncio.timeout(self.patience), aclosing(provider.synthesize(given(text, step=3))) as pieces:
                labels = [piece.text async for piece in pieces]
            assert "".join(labels) == text

    async def test_nothing_to_say(self, provider: TTS) -> None:
        for text in ("", " ", "\n", "...", "?!"):
            assert len(await self.spoken(provider, text)) == 0

    async def test_no_text_at_all(self, provider: TTS) -> None:
        async def nothing() -> AsyncIterator[str]:
            if self.patience < 0:
                yield ""

        async with asyncio.timeout(self.patience), aclosing(provider.synthesize(nothing())) as pieces:
            assert sum([len(piece.frame.pcm) async for piece in pieces]) == 0

    async def test_audio_begins_before_the_text_ends(self, provider: TTS) -> None:
        heard = asyncio.Event()

        async def held_back() -> AsyncIterator[str]:
            yield f"{self.sentence} And"
            await heard.wait()
            yield " then the rest."

        samples = 0
        async with asyncio.timeout(self.patience), aclosing(provider.synthesize(held_back())) as pieces:
            async for piece in pieces:
                samples += len(piece.frame.pcm)
                if samples:
                    heard.set()
        assert heard.is_set()

    async def test_aclose_stops_at_once(self, provider: TTS) -> None:
        await asyncio.to_thread(provider.load)
        left, read = Leftovers(), []

        async def endless() -> AsyncIterator[str]:
            while True:
                read.append(self.sentence)
                yield f"{self.sentence} "

        pieces = provider.synthesize(endless())
        async with asyncio.timeout(self.patience):
            await anext(pieces)
        async with asyncio.timeout(self.promptness):
            await pieces.aclose()
        taken = len(read)
        assert not await left.gone(within=self.promptness)
        assert len(read) == taken

    async def test_a_cancelled_reader_leaves_nothing(self, provider: TTS) -> None:
        await asyncio.to_thread(provider.load)
        for moment in (0.0, 0.02, 0.1):
            left = Leftovers()
            speaking = asyncio.create_task(self.spoken(provider, f"{self.text} " * 5))
            await asyncio.sleep(moment)
            speaking.cancel()
            async with asyncio.timeout(self.promptness):
                await asyncio.gather(speaking, return_exceptions=True)
            assert speaking.cancelled()
            assert not await left.gone(within=self.promptness)

    async def test_it_speaks_after_being_stopped(self, provider: TTS) -> None:
        await asyncio.to_thread(provider.load)
        speaking = asyncio.create_task(self.spoken(provider, f"{self.text} " * 5))
        await asyncio.sleep(0.05)
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
        assert len(await self.spoken(provider, self.sentence)) > 0

    async def test_two_streams_at_once(self, provider: TTS) -> None:
        one, other = await asyncio.gather(self.spoken(provider, self.text), self.spoken(provider, self.sentence))
        assert len(one) > 0
        assert len(other) > 0

    async def test_a_very_long_text_without_an_end(self, provider: TTS) -> None:
        async with asyncio.timeout(self.patience):
            pieces = provider.synthesize(given("word after word " * 300))
            async with aclosing(pieces):
                samples = 0
                while samples == 0:
                    samples += len((await anext(pieces)).frame.pcm)

    async def test_the_loop_stays_free(self, provider: TTS) -> None:
        await asyncio.to_thread(provider.load)
        assert await longest_block(lambda: self.spoken(provider, self.text), limit=0.05) <= 0.05

    async def test_a_failure_is_a_provider_error(self, failing: TTS | None) -> None:
        if failing is None:
            pytest.skip("no failing provider was given")
        with pytest.raises(ProviderError) as caught:
            await self.spoken(failing, self.sentence)
        assert caught.value.provider

    async def spoken(self, provider: TTS, text: str) -> Pcm:
        async with asyncio.timeout(self.patience), aclosing(provider.synthesize(given(text))) as pieces:
            parts = [piece.frame.pcm async for piece in pieces]
        return np.concatenate([np.zeros(0, dtype=np.int16), *parts])


async def given(text: str, *, step: int = 8) -> AsyncIterator[str]:
    """The text in small pieces, as a model streams it."""
    for start in range(0, len(text), step):
        yield text[start : start + step]
        await asyncio.sleep(0)
