"""What a session tells of providers that failed, and what a worker counts of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from greenroom.job.measuring import CallMeasures
from greenroom.jobs.ipc import Measured
from greenroom.providers.resilience.llm import ResilientLLM
from greenroom.providers.resilience.stt import ResilientSTT
from greenroom.providers.resilience.tts import ResilientTTS
from greenroom.session.agent import Agent
from greenroom.session.hooks import ErrorEvent, MetricsCollectedEvent
from greenroom.session.metrics import HedgeMetrics
from greenroom.session.session import AgentSession
from greenroom.testing.loopback import LoopbackInput, LoopbackOutput
from greenroom.testing.providers import Answer, Heard, ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from greenroom.testing.virtual_time import virtual_time
from tests.providers.resilience.models import candidates


class Call:
    """A session, its errors, and what was counted."""

    def __init__(self, **providers: Any) -> None:
        self.user, self.out = LoopbackInput(), LoopbackOutput()
        self.errors: list[ErrorEvent] = []
        self.hedges: list[HedgeMetrics] = []
        self.session = AgentSession(vad=ScriptedVAD(), **providers)
        self._sent: list[Measured] = []
        self._measures = CallMeasures(self._sent.append)
        self._measures.follow(self.session)
        self.session.on("error", self.errors.append)
        self.session.on("metrics_collected", self._collected)

    def _collected(self, event: MetricsCollectedEvent) -> None:
        if isinstance(event.metrics, HedgeMetrics):
            self.hedges.append(event.metrics)

    def told(self) -> list[tuple[str, str, str, str, str]]:
        return [
            (event.source, one.provider, one.fault, one.action, one.to)
            for event in self.errors
            if (one := event.incident) is not None
        ]

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        self._measures.close()
        return {
            tuple(value for _, value in labels): amount
            for measured in self._sent
            for counted, labels, amount in measured.counted
            if counted == f"greenroom_{name}_total"
        }

    def said(self) -> list[tuple[str, str]]:
        return [(message.role, message.text) for message in self.session.history.messages()]


@asynccontextmanager
async def call(**providers: Any) -> AsyncIterator[Call]:
    held = Call(**providers)
    await held.session.start(Agent(instructions="Be brief."), audio_in=held.user, audio_out=held.out)
    try:
        yield held
    finally:
        await held.session.aclose("test over")
        held.user.end()
        for provider in providers.values():
            await provider.aclose()


@virtual_time
async def test_every_model_fails_and_the_user_is_answered() -> None:
    providers = {
        "stt": ResilientSTT(candidates(ScriptedSTT([Heard("", failure="stall")]), ScriptedSTT(["what time is it"]))),
        "llm": ResilientLLM(candidates(ScriptedLLM([Answer(failure="raise"), "It is noon. Really."]))),
        "tts": ResilientTTS(candidates(ScriptedTTS(failures={1: "raise"}, failure_at=0.3), ScriptedTTS())),
    }
    async with call(**providers) as held:
        held.user.silence(1.0)
        held.user.speak(1.0)
        await asyncio.sleep(15)
        assert held.said() == [("user", "what time is it"), ("assistant", "It is noon. Really.")]
        assert held.told() == [
            ("stt", "a", "timeout", "fell_back", "b"),
            ("llm", "a", "error", "retried", "a"),
            ("tts", "a", "cut", "retried", "a"),
        ]
        assert held.counted("provider_faults") == {told[:4]: 1 for told in held.told()}
        assert held.counted("provider_errors") == {}


@virtual_time
async def test_what_failed_in_the_end_is_told_once() -> None:
    async with call(llm=ResilientLLM(candidates(ScriptedLLM([]))), tts=ScriptedTTS()) as held:
        held.session.receive_text("hello")
        await asyncio.sleep(3)
        assert held.told() == [("llm", "a", "refused", "gave_up", "")]
        assert len(held.errors) == 1
        assert held.counted("provider_faults") == {("llm", "a", "refused", "gave_up"): 1}
        assert held.counted("provider_errors") == {("llm", "scripted llm"): 1}


@virtual_time
async def test_hedges_are_counted() -> None:
    slow = ScriptedLLM([Answer("slow", first_token=5.0)])
    tts = ScriptedTTS()
    llm = ResilientLLM(candidates(slow, ScriptedLLM(["Quick."])), hedge_after=0.5)
    async with call(llm=llm, tts=tts) as held:
        held.session.receive_text("hello")
        await asyncio.sleep(3)
        assert held.hedges == [HedgeMetrics("llm", "a", "b", won=True, tokens=0)]
        assert held.counted("provider_hedges") == {("llm", "a", "won"): 1}
        assert held.said()[-1] == ("assistant", "Quick.")
        assert held.errors == []


@virtual_time
async def test_the_providers_of_an_agent_are_followed_too_and_no_longer_than_the_session() -> None:
    llm = ResilientLLM(candidates(ScriptedLLM([Answer(failure="raise"), "Yes."])))
    held = Call(tts=ScriptedTTS())
    agent = Agent(instructions="Be brief.", llm=llm)
    await held.session.start(agent, audio_in=held.user, audio_out=held.out)
    held.session.receive_text("hello")
    await asyncio.sleep(3)
    assert held.told() == [("llm", "a", "error", "retried", "a")]
    await held.session.aclose("test over")
    held.user.end()
    assert llm.chain._watchers == []
