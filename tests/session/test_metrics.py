"""What things took: every number of a conversation whose times are known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

import pytest

from greenroom import Agent, ChatContext, Message
from greenroom.dialog.dialog import DialogRules
from greenroom.providers import LLMChunk, ToolChoice, ToolSchema, Usage
from greenroom.session.metrics import LLMMetrics, STTMetrics, TTSMetrics, TurnMetrics
from greenroom.session.session import SessionOptions
from greenroom.testing.providers import Answer, Heard, ScriptedLLM, ScriptedTTS
from greenroom.testing.virtual_time import virtual_time

from .stage import Scene, scene

M = TypeVar("M")
WINDOW = 0.032
"""Voice activity is known to a window."""


def measured(s: Scene, kind: type[M]) -> list[M]:
    return [
        event.metrics for _, name, event in s.events if name == "metrics_collected" and isinstance(event.metrics, kind)
    ]


class Slow(Agent):
    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: Message) -> None:
        await asyncio.sleep(0.15)


TEXT = "It is noon."
ANSWER = Answer(TEXT, first_token=0.2, gap=0.05)


@virtual_time
async def test_a_turn_and_its_answer() -> None:
    tts = ScriptedTTS(first_audio=0.07)
    async with scene(agent=Slow(), heard=[Heard("what time is it", delay=0.1)], answers=[ANSWER], tts=tts) as s:
        s.user.silence(1.0)
        s.user.speak(1.0)
        await s.until(8.0)
        (turn,) = measured(s, TurnMetrics)
        stopped = 2.0  # the last voiced sample, as voice activity has it
        assert turn.turn == "turn_1"
        assert turn.end_of_turn_delay == pytest.approx(0.5, abs=1e-6)
        assert turn.transcription_delay == pytest.approx(0.25 + 0.1, abs=WINDOW)
        assert turn.hook == pytest.approx(0.15)
        assert turn.llm_ttft == pytest.approx(0.2)
        assert turn.tts_ttfb == pytest.approx(2 * 0.05 + 0.07), "the voice waits for the whole sentence"
        assert turn.llm_ttft is not None
        assert turn.tts_ttfb is not None
        parts = turn.end_of_turn_delay + turn.hook + turn.llm_ttft + turn.tts_ttfb
        assert turn.response == pytest.approx(parts, abs=1e-6)
        assert turn.response == pytest.approx(s.out.heard[0].at - stopped, abs=WINDOW)

        (model,) = measured(s, LLMMetrics)
        assert (model.speech_id, model.step, model.label) == (turn.speech_id, 1, "ScriptedLLM")
        assert (model.pieces, model.prompt_tokens, model.cancelled) == (3, None, False)
        assert model.ttft == pytest.approx(0.2)
        assert model.duration == pytest.approx(0.3)
        (voice,) = measured(s, TTSMetrics)
        assert voice.speech_id == turn.speech_id
        assert voice.label == "ScriptedTTS"
        assert voice.ttfb == pytest.approx(2 * 0.05 + 0.07)
        assert voice.audio_seconds == pytest.approx(0.06 * len(TEXT))
        assert voice.characters == len(TEXT)
        assert not voice.cancelled
        (ear,) = measured(s, STTMetrics)
        assert ear.delay == pytest.approx(turn.transcription_delay)
        assert ear.audio_seconds == pytest.approx(1.0, abs=WINDOW)


@virtual_time
async def test_an_answer_that_was_begun_early() -> None:
    options = SessionOptions(rules=DialogRules(preemptive=True))
    async with scene(heard=["what time is it"], answers=[ANSWER], options=options) as s:
        s.user.speak(1.0)
        await s.until(8.0)
        (turn,) = measured(s, TurnMetrics)
        assert turn.llm_ttft == pytest.approx(0.2)
        assert turn.llm_ttft is not None
        assert turn.tts_ttfb is not None
        assert turn.response == pytest.approx(s.out.heard[0].at - 1.0, abs=WINDOW)
        assert turn.response < turn.end_of_turn_delay + turn.llm_ttft + turn.tts_ttfb - 0.1, "they ran side by side"


@virtual_time
async def test_a_typed_turn_waits_for_nothing_but_the_answer() -> None:
    async with scene(answers=[ANSWER]) as s:
        await s.until(1.0)
        s.session.receive_text("what time is it")
        await s.until(8.0)
        (turn,) = measured(s, TurnMetrics)
        assert (turn.end_of_turn_delay, turn.transcription_delay, turn.hook) == (0.0, 0.0, 0.0)
        assert turn.response == pytest.approx(0.2 + 2 * 0.05 + 0.05)
        assert turn.response == pytest.approx(s.out.heard[0].at - 1.0)


@virtual_time
async def test_speeches_that_answer_no_turn() -> None:
    async with scene(answers=["A reply."]) as s:
        await s.session.say("Hello.")
        await s.session.generate_reply()
        assert measured(s, TurnMetrics) == []
        assert [(m.speech_id, m.characters) for m in measured(s, TTSMetrics)] == [("speech_1", 6), ("speech_2", 8)]
        assert [m.speech_id for m in measured(s, LLMMetrics)] == ["speech_2"]


@virtual_time
async def test_what_nobody_wanted_any_more_is_cancelled() -> None:
    answer = Answer("One two three four five six.", first_token=0.1, gap=0.5)
    async with scene(answers=[answer]) as s:
        handle = s.session.generate_reply()
        await s.until(1.2)
        s.session.interrupt()
        await handle
        await s.until(1.3)
        (model,) = measured(s, LLMMetrics)
        assert (model.speech_id, model.pieces, model.cancelled) == (handle.id, 3, True)
        assert model.ttft == pytest.approx(0.1)
        assert model.duration == pytest.approx(1.2)
        (voice,) = measured(s, TTSMetrics)
        assert (voice.cancelled, voice.ttfb, voice.audio_seconds) == (True, None, 0.0)


@virtual_time
async def test_tokens_that_a_provider_counts() -> None:
    class Counting(ScriptedLLM):
        async def chat(
            self, context: ChatContext, *, tools: Sequence[ToolSchema] = (), tool_choice: ToolChoice = "auto"
        ) -> AsyncGenerator[LLMChunk, None]:
            async for chunk in super().chat(context, tools=tools, tool_choice=tool_choice):
                yield chunk
            yield Usage(prompt_tokens=20, completion_tokens=5)

    async with scene(agent=Agent(llm=Counting(["Counted."]))) as s:
        await s.session.generate_reply()
        (model,) = measured(s, LLMMetrics)
        assert (model.label, model.prompt_tokens, model.completion_tokens) == ("Counting", 20, 5)


@virtual_time
async def test_a_failure_is_no_measurement_of_the_model() -> None:
    async with scene(answers=[Answer("never", failure="raise")]) as s:
        await s.session.generate_reply()
        assert measured(s, LLMMetrics) == []
        assert s.times("error", source="llm")
