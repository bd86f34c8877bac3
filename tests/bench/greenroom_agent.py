"""The agent of ``worker.yaml``: models of known delays, and the rules that the call's metadata asks for."""

from __future__ import annotations

from dataclasses import replace

from greenroom import Agent, get_job_context
from greenroom.session.session import SessionOptions
from greenroom.testing.fakes import FakeLLM, FakeSTT, FakeTTS
from tests.bench.contract import LLM_FIRST, STT_DELAY, TTS_FIRST, Knobs

__all__ = ["BenchAgent"]


class BenchAgent(Agent):
    def __init__(self) -> None:
        self.knobs = Knobs.of(get_job_context().job.metadata)
        super().__init__(
            instructions="bench",
            stt=FakeSTT(delay=STT_DELAY),
            llm=FakeLLM(first_token=LLM_FIRST),
            tts=FakeTTS(seconds=self.knobs.reply_s, first_audio=TTS_FIRST),
        )

    def session_options(self, options: SessionOptions) -> SessionOptions:
        knobs, rules = self.knobs, options.rules
        endpoint = replace(rules.turns.endpoint, min_delay=knobs.endpointing)
        return replace(
            options,
            rules=replace(
                rules,
                turns=replace(rules.turns, endpoint=endpoint),
                interruption=replace(rules.interruption, stop_after=knobs.interrupt_min),
                preemptive=knobs.preemptive,
            ),
            voice=replace(options.voice, min_silence=knobs.vad_silence),
        )

    async def on_enter(self) -> None:
        if self.knobs.greet:
            self.session.say("hello there")
