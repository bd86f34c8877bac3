"""What a call's process counts and times, as the daemon is told it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from greenroom import Agent, ProviderError, RunContext, ToolError, function_tool
from greenroom.dialog.deadair import DeadAirRules
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import Event
from greenroom.job.measuring import CallMeasures
from greenroom.jobs.ipc import Measured, Resume
from greenroom.providers import ToolCall
from greenroom.room.room import PreconnectReport
from greenroom.session.session import AgentSession, SessionOptions
from greenroom.testing.providers import Answer, ScriptedTTS
from greenroom.testing.virtual_time import virtual_time
from tests.session.stage import scene


class Book:
    """All that was sent."""

    def __init__(self, *, resume: Resume | None = None) -> None:
        self.sent: list[tuple[float, Measured]] = []
        loop = asyncio.get_running_loop()
        self.measures = CallMeasures(lambda measured: self.sent.append((loop.time(), measured)), resume=resume)

    def follow(self, session: AgentSession) -> Callable[[Event, float], None]:
        self.measures.follow(session)
        return lambda event, now: self.measures.event(event)

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """By the values of the labels."""
        sums: dict[tuple[str, ...], float] = {}
        for _, measured in self.sent:
            for counted, labels, amount in measured.counted:
                if counted == f"greenroom_{name}_total":
                    key = tuple(value for _, value in labels)
                    sums[key] = sums.get(key, 0.0) + amount
        return sums

    def observed(self, name: str) -> dict[tuple[str, ...], list[float]]:
        values: dict[tuple[str, ...], list[float]] = {}
        for _, measured in self.sent:
            for observed, labels, value in measured.observed:
                if observed == f"greenroom_{name}_seconds":
                    values.setdefault(tuple(label for _, label in labels), []).append(value)
        return values


class Clerk(Agent):
    @function_tool
    async def book(self, context: RunContext) -> str:
        """Book."""
        return "booked"

    @function_tool
    async def fail(self, context: RunContext) -> str:
        """Fail."""
        raise ToolError("no")


@virtual_time
async def test_an_answered_turn() -> None:
    book = Book()
    async with scene(prepare=book.follow, heard=["what time is it"], answers=["It is noon. Yes."]) as s:
        s.user.silence(1.0)
        s.user.speak(1.0)
        await s.until(8.0)
    book.measures.close()
    assert book.counted("turns") == {(): 1}
    assert book.counted("speeches") == {("turn", "finished"): 1}
    seconds = {segment: values for (segment,), values in book.observed("turn").items()}
    assert set(seconds) == {"end_of_turn", "transcript", "hook", "model", "sentence", "voice", "response"}
    assert seconds["model"] == [pytest.approx(0.1)]
    assert seconds["sentence"] == [pytest.approx(0.06)], "three words, twenty milliseconds each, and what follows them"
    assert seconds["voice"] == [pytest.approx(0.05)]
    (whole,) = seconds.pop("response")
    assert whole == pytest.approx(sum(sum(values) for values in seconds.values()) - seconds["transcript"][0], abs=0.1)
    assert book.counted("provider_units")["tts", "ScriptedTTS", "characters"] == len("It is noon. Yes.")
    assert book.observed("provider")["llm", "ScriptedLLM", "first"] == [pytest.approx(0.1)]
    assert book.observed("provider")["stt", "ScriptedSTT", "first"] == [pytest.approx(0.35, abs=0.05)]
    assert book.observed("dispatch")["first_audio",] == [pytest.approx(s.out.heard[0].at, abs=0.06)]
    assert all(later - earlier > 0.99 for (earlier, _), (later, _) in zip(book.sent, book.sent[1:-1], strict=False))


@virtual_time
async def test_interruptions_by_the_user_and_by_the_program() -> None:
    book = Book()
    story = "This is a long story. It goes on and on for quite a while. Nobody hears the end of it."
    async with scene(prepare=book.follow, heard=["mm-hm", "", "stop please"], answers=["Yes?"]) as s:
        s.session.say(story)
        for _ in range(2):
            await asyncio.sleep(1.0)
            s.user.speak(0.3)
        await asyncio.sleep(3.0)
        s.user.speak(1.0)
        await asyncio.sleep(5.0)
        s.session.say(story)
        await asyncio.sleep(1.0)
        await s.session.interrupt()
    book.measures.close()
    assert book.counted("interruptions") == {("backchannel",): 1, ("false",): 2, ("real",): 1}
    assert book.counted("speeches")["say", "interrupted"] == 2


@virtual_time
async def test_tools() -> None:
    book = Book()
    calls = (ToolCall("a", "book", "{}"), ToolCall("b", "fail", "{}"))
    async with scene(agent=Clerk(), prepare=book.follow, answers=[Answer(calls=calls), "Done."]) as s:
        s.session.receive_text("book and fail")
        await s.until(5.0)
        book.measures.unknown_tools(2)
    book.measures.close()
    assert book.counted("tool_calls") == {("done",): 1, ("failed",): 1, ("unknown",): 2}


@virtual_time
async def test_models_that_fail_and_what_is_said_into_the_silence() -> None:
    book = Book()
    options = SessionOptions(rules=DialogRules(dead_air=DeadAirRules(enabled=True, fallback_phrase="Sorry?")))
    voice = ScriptedTTS()
    async with scene(prepare=book.follow, options=options, tts=voice, answers=[Answer("x", failure="raise")]) as s:
        s.session.receive_text("hello")
        await s.until(5.0)
        s.session._talk.report(ProviderError("gone", provider="acme"), "stt")
        s.session._talk.report(KeyError("x"), "tool")
    book.measures.close()
    assert book.counted("provider_errors") == {("llm", "scripted llm"): 1, ("stt", "acme"): 1}
    assert book.counted("dead_air") == {("fallback",): 1}


@virtual_time
async def test_answers_that_were_begun_early() -> None:
    book = Book()
    options = SessionOptions(rules=DialogRules(preemptive=True))
    answers = [Answer("Never heard.", first_token=0.01), "It is noon."]
    async with scene(prepare=book.follow, options=options, heard=["what time", "is it"], answers=answers) as s:
        s.user.silence(1.0)
        s.user.speak(1.0)
        s.user.silence(0.4)
        s.user.speak(1.0)
        await s.until(8.0)
    book.measures.close()
    assert book.counted("early_replies") == {("discarded",): 1, ("used",): 1}
    assert book.counted("early_reply_waste") == {("pieces",): s.session.wasted_tokens}
    assert s.session.wasted_tokens > 0


@virtual_time
async def test_a_recovery_is_timed_from_the_death() -> None:
    await asyncio.sleep(3.0)
    book = Book(resume=Resume(attempt=2, at=1.5))
    async with scene(prepare=book.follow) as s:
        s.session.say("Here I am.")
        await asyncio.sleep(2.0)
    book.measures.close()
    assert book.observed("recovery") == {("first_audio",): [pytest.approx(1.5 + 0.06, abs=0.05)]}
    assert book.observed("dispatch") == {}


@virtual_time
async def test_room_journal_and_recording() -> None:
    book = Book()
    told = book.measures
    told.room_changed("connected")
    told.room_changed("reconnecting")
    await asyncio.sleep(0.5)
    told.room_changed("connected")
    told.room_changed("reconnecting")
    told.room_changed("rejoining")
    await asyncio.sleep(2.0)
    told.room_changed("connected")
    told.room_changed("rejoining")
    await asyncio.sleep(1.0)
    told.room_ended()
    told.written(1200)
    told.written(1500)
    told.journal(1600, stopped=True)
    told.recording(PreconnectReport(outcome="used", seconds=2.0, first_word_loss=0.004))
    told.recording(PreconnectReport(outcome="missing"))
    told.close()
    told.close()
    away = {outcome: values for (outcome,), values in book.observed("room_away").items()}
    assert away == {"reconnected": [pytest.approx(0.5)], "rejoined": [pytest.approx(2.0)], "lost": [pytest.approx(1.0)]}
    assert book.counted("journal_bytes") == {(): 1600}
    assert book.counted("journals_stopped") == {(): 1}
    assert book.counted("recordings") == {("used",): 1, ("missing",): 1}
    assert book.observed("first_word_loss") == {(): [0.004]}
    silent = len(book.sent)
    await asyncio.sleep(5.0)
    assert len(book.sent) == silent, "nothing happened, nothing is sent"
