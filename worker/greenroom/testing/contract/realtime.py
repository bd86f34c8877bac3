"""What a realtime model has to keep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from greenroom.audio import AudioFrame, silence
from greenroom.dialog.history import ChatContext, FunctionCall, FunctionCallOutput, Message
from greenroom.errors import ProviderError
from greenroom.providers import (
    RealtimeModel,
    RealtimeRequest,
    RealtimeSession,
    TextDelta,
    ToolCall,
    ToolSchema,
    Transcript,
    Usage,
)
from greenroom.providers.realtime import RealtimeChunk, RealtimeHeard, SpeechStarted, SpeechStopped
from greenroom.testing.contract.loop import Leftovers, longest_block
from greenroom.testing.contract.speech import Speech, at_rate, buzz, frames

__all__ = ["RealtimeContract"]


@pytest.mark.asyncio
class RealtimeContract:
    """Subclass it and give it the fixture ``provider``, which answers whatever it is asked with a sentence or more, and
    ``failing``, which cannot work, where there is such. ``speech``: what is to be understood, where there are words."""

    patience = 20.0
    promptness = 0.5

    @pytest.fixture
    def provider(self) -> RealtimeModel:
        raise NotImplementedError("the subclass says what is tested")

    @pytest.fixture
    def failing(self) -> RealtimeModel | None:
        return None

    @pytest.fixture
    def speech(self) -> Speech:
        return Speech(buzz(1.5, 24000))

    # --- what it says -------------------------------------------------------------------------------------------------

    async def test_load_is_idempotent(self, provider: RealtimeModel) -> None:
        await asyncio.to_thread(provider.load)
        await asyncio.to_thread(provider.load)

    async def test_a_response_is_words_and_their_sound(self, provider: RealtimeModel) -> None:
        async with opened(provider) as session:
            chunks = await self.said(session, "r1")
        assert all(isinstance(chunk, TextDelta | AudioFrame | ToolCall | Usage) for chunk in chunks)
        kinds = [type(chunk) for chunk in chunks]
        assert text(chunks).strip()
        assert (AudioFrame in kinds) is provider.speaks
        if provider.speaks:
            assert kinds.index(TextDelta) <= kinds.index(AudioFrame), "words come no later than their sound"
            assert sum(chunk.duration for chunk in chunks if isinstance(chunk, AudioFrame)) > 0.1

    async def test_responses_follow_each_other(self, provider: RealtimeModel) -> None:
        async with opened(provider) as session:
            for number in range(3):
                assert text(await self.said(session, f"r{number}")).strip()

    async def test_a_response_with_its_own_context(self, provider: RealtimeModel) -> None:
        context = ChatContext([Message("m1", "system", "Be kind. 你好"), Message("m2", "user", "Naïve café? 🙂")])
        tool = ToolSchema("look_up", "Look something up.", {"type": "object", "properties": {}})
        asked = RealtimeRequest("r1", instructions="Say hello.", tools=(tool,), tool_choice="none", chat_ctx=context)
        async with opened(provider) as session:
            before = context.copy()
            assert text(await self.said(session, asked)).strip()
            assert context == before

    async def test_closing_a_response_stops_it_at_once(self, provider: RealtimeModel) -> None:
        async with opened(provider) as session:
            await self.said(session, "r1")
            left, chunks = Leftovers(), session.respond(RealtimeRequest("r2"))
            async with asyncio.timeout(self.patience):
                await anext(chunks)
            async with asyncio.timeout(self.promptness):
                await chunks.aclose()
            session.truncate("r2", seconds=0.0, text="")
            assert not await left.gone(within=self.promptness)
            assert text(await self.said(session, "r3")).strip()

    async def test_a_cancelled_reader_leaves_nothing(self, provider: RealtimeModel) -> None:
        async with opened(provider) as session:
            await self.said(session, "r1")
            left = Leftovers()
            asking = asyncio.create_task(self.said(session, "r2"))
            await asyncio.sleep(0)
            asking.cancel()
            async with asyncio.timeout(self.promptness):
                await asyncio.gather(asking, return_exceptions=True)
            assert not await left.gone(within=self.promptness)
            assert text(await self.said(session, "r3")).strip()

    # --- what it is told ----------------------------------------------------------------------------------------------

    async def test_whatever_is_told_is_taken(self, provider: RealtimeModel) -> None:
        async with opened(provider) as session:
            session.update(instructions="Be brief. 你好", tools=[])
            session.truncate("never", seconds=1.0, text="nothing")
            session.add(Message("m1", "user", "Naïve café? 🙂"))
            session.add(Message("m2", "assistant", "Oui."))
            session.add(Message("m3", "system", ""))
            chunks = await self.said(session, "r1")
            session.truncate("r1", seconds=0.05, text=text(chunks)[:3])
            session.truncate("r1", seconds=0.0, text="")
            call = FunctionCall("c1", "call_1", "look_up", "{}")
            told = ChatContext([call, FunctionCallOutput("o1", "call_1", "look_up", "42")])
            session.update(chat_ctx=told)
            assert text(await self.said(session, "r2")).strip()

    # --- what it hears ------------------------------------------------------------------------------------------------

    async def test_utterances_that_it_is_shown(self, provider: RealtimeModel, speech: Speech) -> None:
        async with opened(provider) as session:
            for utterance, at in (("u1", 1.0), ("u2", 10.0)):
                self.tell(provider, session, speech, at=at)
                session.start_of_speech(utterance, at=at)
                session.end_of_speech(utterance)
            if not provider.transcribes:
                return
            finals = [heard async for heard in self.hearing(session, finals=2) if isinstance(heard, Transcript)]
        assert [final.utterance for final in finals if final.final] == ["u1", "u2"]
        assert all(final.text == final.text.strip() for final in finals)
        if speech.words:
            assert {plain(final.text) for final in finals if final.final} == {speech.words}

    async def test_utterances_that_it_finds(self, provider: RealtimeModel, speech: Speech) -> None:
        async with opened(provider, detect_speech=True) as session:
            length = self.tell(provider, session, speech, at=5.0)
            heard = [heard async for heard in self.hearing(session, finals=1 if provider.transcribes else 0)]
        started, stopped = heard[0], next(one for one in heard if isinstance(one, SpeechStopped))
        assert isinstance(started, SpeechStarted)
        assert started.utterance == stopped.utterance
        assert 5.0 + 0.9 <= started.at <= 5.0 + 1.3, "the voice begins after a second"
        assert 5.0 + length - 0.4 <= stopped.at <= 5.0 + length + 0.4
        words = [one for one in heard if isinstance(one, Transcript) and one.final]
        assert [final.utterance for final in words] == [started.utterance] * len(words)

    # --- its ends -----------------------------------------------------------------------------------------------------

    async def test_aclose_leaves_nothing(self, provider: RealtimeModel, speech: Speech) -> None:
        left, session = Leftovers(), provider.session(detect_speech=False)
        reading = asyncio.create_task(collect(session))
        chunks = session.respond(RealtimeRequest("r1"))
        async with asyncio.timeout(self.patience):
            await anext(chunks)
        self.tell(provider, session, speech, at=0.0)
        session.start_of_speech("u1", at=0.0)
        await chunks.aclose()
        async with asyncio.timeout(self.promptness):
            await session.aclose()
            await reading
        assert not await left.gone(within=self.promptness)

    async def test_aclose_may_come_first_and_twice(self, provider: RealtimeModel) -> None:
        session = provider.session(detect_speech=False)
        async with asyncio.timeout(self.promptness):
            await session.aclose()
            await session.aclose()

    async def test_two_conversations_at_once(self, provider: RealtimeModel) -> None:
        async with opened(provider) as one, opened(provider) as other:
            said = await asyncio.gather(self.said(one, "r1"), self.said(other, "r1"))
        assert all(text(chunks).strip() for chunks in said)

    async def test_the_loop_stays_free(self, provider: RealtimeModel) -> None:
        await asyncio.to_thread(provider.load)

        async def whole() -> None:
            async with opened(provider) as session:
                await self.said(session, "r1")

        assert await longest_block(whole, limit=0.05) <= 0.05

    async def test_a_failure_is_a_provider_error(self, failing: RealtimeModel | None) -> None:
        if failing is None:
            pytest.skip("no failing provider was given")
        async with opened(failing) as session:
            with pytest.raises(ProviderError) as caught:
                await self.said(session, "r1")
        assert caught.value.provider

    # --- pieces -------------------------------------------------------------------------------------------------------

    async def said(self, session: RealtimeSession, asked: str | RealtimeRequest) -> list[RealtimeChunk]:
        request = RealtimeRequest(asked) if isinstance(asked, str) else asked
        async with asyncio.timeout(self.patience), aclosing(session.respond(request)) as chunks:
            return [chunk async for chunk in chunks]

    def tell(self, provider: RealtimeModel, session: RealtimeSession, speech: Speech, *, at: float) -> float:
        """A second of silence, the speech, two of silence; where the speech ends, in seconds."""
        rate = provider.sample_rate
        audio, quiet = at_rate(speech.audio, rate), silence(1.0, rate)
        when = at
        for part in (quiet, audio, quiet, quiet):
            for frame in frames(part.pcm, rate, at=when):
                session.push(frame)
            when += part.duration
        return 1.0 + audio.duration

    async def hearing(self, session: RealtimeSession, *, finals: int) -> AsyncIterator[RealtimeHeard]:
        """What it hears up to so many final transcripts, or to the end of the first utterance."""
        seen = 0
        async with asyncio.timeout(self.patience):
            async for heard in session:
                yield heard
                seen += isinstance(heard, Transcript) and heard.final
                if (finals and seen >= finals) or (not finals and isinstance(heard, SpeechStopped)):
                    return


@asynccontextmanager
async def opened(provider: RealtimeModel, *, detect_speech: bool = False) -> AsyncIterator[RealtimeSession]:
    session = provider.session(detect_speech=detect_speech)
    try:
        yield session
    finally:
        await session.aclose()


def text(chunks: list[RealtimeChunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))


def plain(words: str) -> str:
    return " ".join("".join(letter for letter in words.lower() if letter.isalnum() or letter == " ").split())


async def collect(session: RealtimeSession) -> None:
    async for _ in session:
        pass
