"""A language model that asks others when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from greenroom.errors import ProviderError
from greenroom.providers import LLM, ChatContext, LLMChunk, TextDelta, ToolChoice, ToolSchema, Usage
from greenroom.providers.resilience.llm import ResilientLLM
from greenroom.providers.resilience.rules import GaveUp, Rules
from greenroom.testing.providers import Answer, ScriptedLLM
from greenroom.testing.virtual_time import virtual_time
from tests.providers.resilience.models import QUICK, Told, answer, candidates, question


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual_time
async def test_a_failure_costs_a_pause() -> None:
    llm = ResilientLLM(candidates(ScriptedLLM([Answer(failure="raise"), "Here I am."])))
    told = Told(llm.chain)
    assert await answer(llm) == "Here I am."
    assert told.actions() == [("a", "error", "retried", "a")]


@virtual_time
async def test_a_stall_is_left_for_another_one() -> None:
    first, second = ScriptedLLM([Answer(failure="stall")]), ScriptedLLM(["I can."])
    llm = ResilientLLM(candidates(first, second))
    told = Told(llm.chain)
    assert await answer(llm) == "I can."
    assert told.actions() == [("a", "timeout", "fell_back", "b")]
    assert now() == pytest.approx(2.0 + 0.1 + 0.02, abs=0.01)
    assert first.closed_early == 1
    await llm.aclose()


@virtual_time
async def test_words_are_not_said_twice() -> None:
    for failure, fault in (("raise", "cut"), ("stall", "stall")):
        first = ScriptedLLM([Answer("one two three", failure=failure, failure_at=2)])  # type: ignore[arg-type]
        llm = ResilientLLM(candidates(first, ScriptedLLM(["another"])))
        told, said = Told(llm.chain), list[LLMChunk]()
        with pytest.raises(GaveUp) as caught:
            await collect(llm.chat(question()), said)
        assert said == [TextDelta("one"), TextDelta(" two")]
        assert told.actions() == [("a", fault, "gave_up", "")]
        assert caught.value.incident is told.incidents[0]
        assert await answer(llm) == "another"  # the next request knows better
        await llm.aclose()


@virtual_time
async def test_what_is_left_in_the_end_is_the_last_failure() -> None:
    llm = ResilientLLM(candidates(ScriptedLLM([]), ScriptedLLM([])))
    told = Told(llm.chain)
    with pytest.raises(ProviderError, match=r"^scripted llm: asked for step 1 of a script of 0$") as caught:
        await answer(llm)
    assert not caught.value.retryable
    assert told.actions() == [("a", "refused", "fell_back", "b"), ("b", "refused", "gave_up", "")]
    await llm.aclose()


@virtual_time
async def test_the_first_is_asked_again_once_it_is_well() -> None:
    first = ScriptedLLM([Answer(failure="raise"), Answer(failure="raise"), Answer(failure="raise"), "yes", "me again"])
    second = ScriptedLLM(["two", "two still", "two yet"])
    llm = ResilientLLM(candidates(first, second))
    assert llm.label == "a"
    assert await answer(llm) == "two"
    assert llm.chain.order() == (1, 0)
    assert llm.label == "b"
    assert await answer(llm) == "two still"
    began = now()
    await asyncio.sleep(6.0)  # the first trial fails
    assert llm.chain.order() == (1, 0)
    assert await answer(llm) == "two yet"
    await asyncio.sleep(10.0)  # the second does not
    assert now() - began < 17
    assert llm.chain.order() == (0, 1)
    assert await answer(llm) == "me again"
    await llm.aclose()


@virtual_time
async def test_closing_ends_the_trials() -> None:
    first = ScriptedLLM([Answer(failure="raise")] * 2)
    llm = ResilientLLM(candidates(first, ScriptedLLM(["two", "again"])))
    await answer(llm)
    await llm.aclose()
    await asyncio.sleep(100)
    assert len(first.contexts) == 2
    assert await answer(llm) == "again"
    await llm.aclose()


@virtual_time
async def test_a_hedge_answers_when_the_first_is_slow() -> None:
    slow = ScriptedLLM([Answer("slow", first_token=1.5)])
    llm = ResilientLLM(candidates(slow, Counted("quick", tokens=70)), hedge_after=0.5)
    told = Told(llm.chain)
    assert await answer(llm) == "quick"
    assert slow.closed_early == 1
    assert told.incidents == []
    assert [(one.provider, one.to, one.won, one.tokens) for one in told.hedges] == [("a", "b", True, 70)]


@virtual_time
async def test_a_hedge_that_was_not_needed_is_cancelled() -> None:
    second = ScriptedLLM([Answer("second", first_token=1.0)])
    llm = ResilientLLM(candidates(ScriptedLLM([Answer("first", first_token=0.6)]), second), hedge_after=0.5)
    told = Told(llm.chain)
    assert await answer(llm) == "first"
    assert second.closed_early == 1
    assert [one.won for one in told.hedges] == [False]


@virtual_time
async def test_an_empty_answer_is_asked_for_again_and_then_stands() -> None:
    llm = ResilientLLM(candidates(ScriptedLLM([Answer(failure="empty"), "words"])))
    assert await answer(llm) == "words"
    silent = ResilientLLM(candidates(ScriptedLLM([Answer(failure="empty")] * 2)))
    told = Told(silent.chain)
    assert await answer(silent) == ""
    assert told.actions() == [("a", "silence", "retried", "a")]


@virtual_time
async def test_whoever_stops_reading_stops_the_model() -> None:
    first = ScriptedLLM([Answer("one two three four")])
    llm = ResilientLLM(candidates(first))
    async with aclosing(llm.chat(question())) as chunks:
        await anext(chunks)
    assert first.closed_early == 1
    asking = asyncio.create_task(answer(ResilientLLM(candidates(stalling := ScriptedLLM([Answer(failure="stall")])))))
    await asyncio.sleep(0.5)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert stalling.closed_early == 1


@virtual_time
async def test_nothing_is_made_for_a_reader_who_has_stopped() -> None:
    made = Counted("a b c d e f")
    llm = ResilientLLM(candidates(made, rules=Rules(stall=1.0)))
    async with aclosing(llm.chat(question())) as chunks:
        await anext(chunks)
        await asyncio.sleep(60)  # who does not read is not waited for
        assert made.sent <= 2
        await anext(chunks)


@virtual_time
async def test_a_mistake_in_a_models_code_is_no_failure_of_a_vendor() -> None:
    llm = ResilientLLM(candidates(Mistaken(), ScriptedLLM(["no"])))
    told = Told(llm.chain)
    with pytest.raises(ZeroDivisionError):
        await answer(llm)
    assert told.actions() == []


@virtual_time
async def test_who_cannot_be_reached_is_not_asked_first() -> None:
    llm = ResilientLLM(candidates(Unreachable(), ScriptedLLM(["yes"]), rules=QUICK))
    told = Told(llm.chain)
    await llm.warm_up()
    assert told.actions() == [("a", "error", "fell_back", "b")]
    assert await answer(llm) == "yes"
    await llm.aclose()
    alone = ResilientLLM(candidates(Unreachable()))
    with pytest.raises(ProviderError, match="nobody there"):
        await alone.warm_up()


def test_the_same_plugin_twice_has_two_names() -> None:
    one, other = candidates(ScriptedLLM(), ScriptedLLM())
    chain = ResilientLLM([one, other, one]).chain
    assert chain.names == ("a", "b", "a#2")


class Counted(LLM):
    """Answers in words, at once, and counts the tokens."""

    def __init__(self, text: str, *, tokens: int = 0) -> None:
        self._text = text
        self._tokens = tokens
        self.sent = 0

    async def chat(
        self, context: ChatContext, *, tools: Sequence[ToolSchema] = (), tool_choice: ToolChoice = "auto"
    ) -> AsyncGenerator[LLMChunk, None]:
        for word in self._text.split():
            self.sent += 1
            yield TextDelta(word)
        yield Usage(self._tokens, 3)


class Mistaken(LLM):
    async def chat(
        self, context: ChatContext, *, tools: Sequence[ToolSchema] = (), tool_choice: ToolChoice = "auto"
    ) -> AsyncGenerator[LLMChunk, None]:
        yield TextDelta(str(1 / len(tools)))


class Unreachable(Mistaken):
    async def warm_up(self) -> None:
        raise ProviderError("nobody there", provider="a", retryable=True)


async def collect(chunks: AsyncGenerator[LLMChunk, None], into: list[LLMChunk]) -> None:
    async for chunk in chunks:
        into.append(chunk)  # noqa: PERF401  # what came before a failure counts too
