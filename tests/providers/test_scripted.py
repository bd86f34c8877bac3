"""The scripted providers that are shipped for tests of sessions: they keep the contracts, and they keep time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial

import numpy as np
import pytest

from greenroom.errors import ProviderError
from greenroom.providers import LLM, STT, TTS, VAD, ChatContext, LLMChunk, TextDelta, ToolCall, ToolSchema
from greenroom.testing.contract import LLMContract, Speech, STTContract, TTSContract, VADContract
from greenroom.testing.contract.speech import buzz
from greenroom.testing.providers import (
    Answer,
    Failure,
    Heard,
    ScriptedLLM,
    ScriptedSTT,
    ScriptedTTS,
    ScriptedVAD,
    ScriptEnded,
)
from greenroom.testing.virtual_time import virtual_time


def now() -> float:
    return round(asyncio.get_running_loop().time(), 6)


class TestScriptedVAD(VADContract):
    @pytest.fixture
    def provider(self) -> VAD:
        return ScriptedVAD()

    @pytest.fixture
    def speech(self) -> Speech:
        return Speech(buzz(1.5, 16000), "a buzz will do")

    async def test_speech_is_what_is_loud(self) -> None:
        stream = ScriptedVAD(level=300, high=0.9, low=0.1).stream()
        assert stream.probability(np.full(512, 299, dtype=np.int16)) == 0.1
        assert stream.probability(np.full(512, 300, dtype=np.int16)) == 0.9


class TestScriptedSTT(STTContract):
    @pytest.fixture
    def provider(self, request: pytest.FixtureRequest) -> STT:
        silent = "silence" in request.node.name or "without_audio" in request.node.name
        texts = ["hello there", ""] if "two_streams" in request.node.name else ["" if silent else "hello there"] * 20
        return ScriptedSTT([Heard(text) for text in texts])

    @pytest.fixture
    def failing(self) -> STT | None:
        return ScriptedSTT([Heard("", failure="raise")])


class TestScriptedLLM(LLMContract):
    @pytest.fixture
    def provider(self, request: pytest.FixtureRequest) -> LLM:
        if "forbidden" in request.node.name:
            return ScriptedLLM(["No tools."])
        calls = (ToolCall("1", "get_weather", "{}"),) if "called" in request.node.name else ()
        return ScriptedLLM([Answer("It is three.", calls=calls)] * 10)

    @pytest.fixture
    def failing(self) -> LLM | None:
        return ScriptedLLM([Answer("It is three.", failure="raise")])

    @pytest.fixture
    def calling(self, context: ChatContext) -> ChatContext | None:
        return context


class TestScriptedTTS(TTSContract):
    @pytest.fixture
    def provider(self) -> TTS:
        return ScriptedTTS()

    @pytest.fixture
    def failing(self) -> TTS | None:
        return ScriptedTTS(failures={0: "raise"})


# --- speech to text ---------------------------------------------------------------------------------------------------


async def timed(
    stt: ScriptedSTT, utterances: Sequence[tuple[float, float]], *, until: float
) -> list[tuple[float, str]]:
    """What comes, and when, while utterances begin and end at those times."""
    stream = stt.stream()
    loop = asyncio.get_running_loop()
    came: list[tuple[float, str]] = []
    for number, (start, end) in enumerate(utterances):
        loop.call_at(start, partial(stream.start_of_speech, f"u{number}", at=0.0))
        loop.call_at(end, stream.end_of_speech, f"u{number}")

    async def read() -> None:
        while True:
            try:
                async for heard in stream:
                    came.append(  # noqa: PERF401  # what came before a failure counts
                        (now(), heard.text if heard.final else f"~{heard.text}")
                    )
                return
            except ProviderError as error:
                came.append((now(), type(error).__name__))

    reading = asyncio.create_task(read())
    await asyncio.sleep(until)
    await stream.aclose()
    await reading
    return came


@virtual_time
async def test_transcripts_come_when_the_script_says() -> None:
    stt = ScriptedSTT(
        [Heard("what time is it", delay=0.3, interim={0.2: "what", 0.5: "what time", 2.0: "late"}), "yes"]
    )
    assert await timed(stt, [(1.0, 2.0), (2.1, 2.6)], until=5) == [
        (1.2, "~what"),
        (1.5, "~what time"),
        (2.3, "what time is it"),
        (2.7, "yes"),
    ]
    assert not stt.left


@virtual_time
async def test_utterances_fail_as_the_script_says() -> None:
    failures: list[Failure] = ["raise", "stall", "empty"]
    stt = ScriptedSTT([Heard("words", failure=failure) for failure in failures])
    came = await timed(stt, [(1, 2), (3, 4), (5, 6), (7, 8)], until=20)
    assert came == [(2.1, "ProviderError"), (6.1, ""), (8.0, "ScriptEnded")]


# --- language model ---------------------------------------------------------------------------------------------------


async def answered(llm: ScriptedLLM, context: ChatContext | None = None) -> list[tuple[float, LLMChunk]]:
    async with aclosing(llm.chat(context or ChatContext())) as chunks:
        return [(now(), chunk) async for chunk in chunks]


@virtual_time
async def test_words_come_one_by_one_and_calls_after_them() -> None:
    call = ToolCall("1", "look", "{}")
    llm = ScriptedLLM([Answer("It is  three.", calls=(call,), first_token=0.5, gap=0.25)])
    assert await answered(llm) == [
        (0.5, TextDelta("It")),
        (0.75, TextDelta(" is")),
        (1.0, TextDelta(" ")),
        (1.25, TextDelta(" three.")),
        (1.5, call),
    ]


@virtual_time
async def test_requests_are_kept_as_they_were() -> None:
    llm = ScriptedLLM([lambda context: f"{len(context)} so far", "again"])
    context = ChatContext()
    context.add_message(role="user", content="Hello")
    tool = ToolSchema("look", "", {"type": "object"})
    async with aclosing(llm.chat(context, tools=[tool], tool_choice="required")) as chunks:
        assert "".join([chunk.text async for chunk in chunks if isinstance(chunk, TextDelta)]) == "1 so far"
    context.add_message(role="assistant", content="More")
    assert [len(kept) for kept in llm.contexts] == [1]
    assert (llm.tools, llm.choices) == ([(tool,)], ["required"])
    assert (len(llm.left), llm.closed_early) == (1, 0)


@virtual_time
async def test_an_answer_that_is_not_read_to_its_end_is_counted() -> None:
    llm = ScriptedLLM(["one two three", "four five six"])
    chunks = llm.chat(ChatContext())
    await anext(chunks)
    await chunks.aclose()
    reading = asyncio.create_task(answered(llm))
    await asyncio.sleep(0.11)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert llm.closed_early == 2


@virtual_time
@pytest.mark.parametrize(("failure", "words"), [("raise", 2), ("stall", 2), ("empty", 2), ("raise", 9)])
async def test_answers_fail_as_the_script_says(failure: Failure, words: int) -> None:
    llm = ScriptedLLM([Answer("one two three", failure=failure, failure_at=words)])
    texts: list[str] = []
    outcome = "ended"
    try:
        async with asyncio.timeout(60), aclosing(llm.chat(ChatContext())) as chunks:
            async for chunk in chunks:
                texts.append(chunk.text if isinstance(chunk, TextDelta) else "")  # noqa: PERF401
    except (ProviderError, TimeoutError) as error:
        outcome = type(error).__name__
    assert "".join(texts) == ("one two" if words == 2 else "one two three")
    assert outcome == {"raise": "ProviderError", "stall": "TimeoutError", "empty": "ended"}[failure]


@virtual_time
async def test_a_script_that_has_ended_says_so() -> None:
    with pytest.raises(ScriptEnded, match="asked for step 1 of a script of 0"):
        await answered(ScriptedLLM())


# --- text to speech ---------------------------------------------------------------------------------------------------


async def text(*pieces: str) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


@virtual_time
async def test_a_tone_of_the_length_that_the_script_says() -> None:
    tts = ScriptedTTS(sample_rate=16000, durations=[0.1], seconds_per_character=0.05, first_audio=0.2)
    seconds, times = 0.0, []
    async with aclosing(tts.synthesize(text("This is the first one. This is it."))) as audio:
        async for piece in audio:
            seconds += piece.frame.duration
            times.append(now())
    assert seconds == pytest.approx(0.1 + 0.05 * len("This is it."))
    assert times[:3] == [0.2, 0.205, 0.205 + 0.2]
    assert tts.sentences == tts.finished == ["This is the first one.", "This is it."]


@virtual_time
@pytest.mark.parametrize("failure", ["raise", "stall", "empty"])
async def test_sentences_fail_as_the_script_says(failure: Failure) -> None:
    tts = ScriptedTTS(failures={1: failure}, failure_at=0.1, seconds_per_character=0.1)
    labels: list[str] = []
    outcome = "ended"
    try:
        async with asyncio.timeout(60), aclosing(tts.synthesize(text("Number one is this. Number two."))) as audio:
            labels.extend([piece.text async for piece in audio if piece.text])
    except (ProviderError, TimeoutError) as error:
        outcome = type(error).__name__
    assert outcome == {"raise": "ProviderError", "stall": "TimeoutError", "empty": "ended"}[failure]
    assert tts.sentences == ["Number one is this.", "Number two."]
    assert tts.finished == tts.sentences[: 2 if failure == "empty" else 1]
