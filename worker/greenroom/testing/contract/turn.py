"""What an end-of-turn detector has to keep."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from greenroom.audio import AudioFrame, silence
from greenroom.dialog.history import ChatContext
from greenroom.errors import ProviderError
from greenroom.providers import Heard, TurnDetector
from greenroom.testing.contract.loop import Leftovers, longest_block
from greenroom.testing.contract.speech import at_rate, buzz, noise

__all__ = ["TurnDetectorContract", "heard"]


@pytest.mark.asyncio
class TurnDetectorContract:
    """Subclass it, give it the fixture ``provider``, a turn that is over (``whole``) and one that is not (``cut``)."""

    patience = 10.0
    """Seconds that an answer may take at most."""
    quickest = 0.5
    """Seconds that one answer may take when nothing else is asked: the user waits for it, and the session for 1 s."""
    promptness = 1.0
    """Seconds in which nothing is left of a question that was taken back."""

    @pytest.fixture
    def provider(self) -> TurnDetector:
        raise NotImplementedError("the subclass says what is tested")

    @pytest.fixture
    def whole(self) -> Heard:
        return heard("I would like to order a pizza.", buzz(1.5, 16000))

    @pytest.fixture
    def cut(self) -> Heard | None:
        return None

    @pytest.fixture
    def failing(self) -> TurnDetector | None:
        return None

    async def judged(self, provider: TurnDetector, turn: Heard) -> float:
        async with asyncio.timeout(self.patience):
            return await provider.probability(given(provider, turn))

    async def test_it_says_what_it_takes(self, provider: TurnDetector) -> None:
        assert provider.modality in ("text", "audio")
        assert 0.0 < provider.threshold < 1.0
        assert provider.sample_rate in (8000, 16000, 24000, 32000, 48000)
        assert 0.5 <= provider.seconds <= 60

    async def test_load_is_idempotent(self, provider: TurnDetector, whole: Heard) -> None:
        await asyncio.to_thread(provider.load)
        await asyncio.to_thread(provider.load)
        assert 0.0 <= await self.judged(provider, whole) <= 1.0

    async def test_a_turn_that_is_over_is_told_from_one_that_is_not(
        self, provider: TurnDetector, whole: Heard, cut: Heard | None
    ) -> None:
        if cut is None:
            pytest.skip("no turn that breaks off was given")
        assert await self.judged(provider, cut) < provider.threshold <= await self.judged(provider, whole)

    async def test_whatever_it_is_given_it_answers(self, provider: TurnDetector) -> None:
        sounds = (
            silence(0, 16000),
            AudioFrame(np.ones(1, dtype=np.int16), 16000),
            silence(2.0, 16000),
            noise(30.0, 16000, level=3000),
            AudioFrame(np.where(np.arange(8000) // 80 % 2, 32767, -32768).astype(np.int16), 16000),
        )
        texts = ("", " ", "?!", "a", "word " * 2000, "¿Qué? — 何時ですか", "\x00\n")
        for text in texts:
            for sound in sounds:
                assert 0.0 <= await self.judged(provider, heard(text, sound)) <= 1.0

    async def test_nothing_to_judge_by_is_no_reason_to_wait(self, provider: TurnDetector) -> None:
        assert await provider.probability(Heard(ChatContext())) == 1.0

    async def test_the_same_turn_is_judged_the_same(self, provider: TurnDetector, whole: Heard) -> None:
        first = await self.judged(provider, whole)
        await self.judged(provider, heard("something else and", noise(2.0, 16000, level=1000)))
        assert await self.judged(provider, whole) == pytest.approx(first, abs=1e-4)

    async def test_two_turns_at_once(self, provider: TurnDetector, whole: Heard) -> None:
        other = heard("something else and", noise(2.0, 16000, level=1000))
        alone = [await self.judged(provider, whole), await self.judged(provider, other)]
        together = await asyncio.gather(self.judged(provider, whole), self.judged(provider, other))
        assert together == pytest.approx(alone, abs=1e-4)

    async def test_what_it_is_given_stays_the_callers(self, provider: TurnDetector, whole: Heard) -> None:
        turn = given(provider, whole)
        context = turn.context.copy()
        pcm = turn.audio.pcm if turn.audio is not None else np.zeros(0, dtype=np.int16)
        kept = pcm.copy()
        pcm.flags.writeable = False
        await provider.probability(turn)
        assert turn.context == context
        assert np.array_equal(pcm, kept)

    async def test_a_question_taken_back_leaves_nothing(self, provider: TurnDetector, whole: Heard) -> None:
        await asyncio.to_thread(provider.load)
        for moment in (0.0, 0.005, 0.02):
            left = Leftovers()
            asking = asyncio.create_task(self.judged(provider, whole))
            await asyncio.sleep(moment)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert not await left.gone(within=self.promptness)
        assert 0.0 <= await self.judged(provider, whole) <= 1.0

    async def test_an_answer_comes_soon_and_the_loop_stays_free(self, provider: TurnDetector, whole: Heard) -> None:
        await asyncio.to_thread(provider.load)
        took: list[float] = []

        async def ask() -> None:
            loop = asyncio.get_running_loop()
            before = loop.time()
            await self.judged(provider, whole)
            took.append(loop.time() - before)

        assert await longest_block(ask, limit=0.05) <= 0.05
        while min(took) >= self.quickest and len(took) < 10:  # a machine may be busy with something else
            await ask()
        assert min(took) < self.quickest

    async def test_a_failure_is_a_provider_error(self, failing: TurnDetector | None, whole: Heard) -> None:
        if failing is None:
            pytest.skip("no failing provider was given")
        with pytest.raises(ProviderError) as caught:
            await self.judged(failing, whole)
        assert caught.value.provider


def heard(text: str, audio: AudioFrame | None = None, *, language: str = "en", before: str = "") -> Heard:
    """A turn with these words, answering what the agent said ``before``."""
    context = ChatContext()
    if before:
        context.add_message(role="assistant", content=before)
    if text:
        context.add_message(role="user", content=text)
    return Heard(context, text, audio, language)


def given(provider: TurnDetector, turn: Heard) -> Heard:
    """The turn as a session hands it to that detector."""
    if provider.modality == "text" or turn.audio is None:
        return replace(turn, audio=None)
    sound = at_rate(turn.audio, provider.sample_rate)
    return replace(turn, audio=replace(sound, pcm=sound.pcm[-round(provider.seconds * provider.sample_rate) :]))
