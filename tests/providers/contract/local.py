"""The providers that need no server: the local models, the rules, and what is put around them when they may fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from greenroom.audio import AudioFrame
from greenroom.providers import LLM, STT, TTS, Provider, TurnDetector
from greenroom.providers.registry import build
from greenroom.providers.resilience.chain import Candidate
from greenroom.providers.resilience.llm import ResilientLLM
from greenroom.providers.resilience.realtime import ResilientRealtime
from greenroom.providers.resilience.stt import ResilientSTT
from greenroom.providers.resilience.tts import ResilientTTS
from greenroom.providers.resilience.turn import ResilientTurnDetector
from greenroom.settings import ProviderSettings
from greenroom.testing.contract import Speech
from greenroom.testing.providers import ScriptedVAD
from tests.providers.contract.case import Case

__all__ = ["AROUND", "local_cases", "resilient", "spoken_question"]

QUESTION = "Hello there, what time is it?"


def local_cases() -> tuple[Case, ...]:
    whisper: dict[str, Any] = {"speech": spoken_question, "models": True}
    return (
        Case("scripted", "vad", lambda _: ScriptedVAD()),
        Case("silero", "vad", lambda _: build("vad", _named("silero")), models=True),
        Case("whisper", "stt", lambda _: _whisper(), **whisper),
        Case("whisper, resilient", "stt", lambda _: ResilientSTT([_one("whisper", _whisper())]), **whisper),
        Case("script", "llm", lambda _: _script()),
        Case("script, resilient", "llm", lambda _: ResilientLLM([_one("script", _script())] * 2, hedge_after=1.0)),
        Case("piper", "tts", lambda _: _piper(), models=True),
        Case("piper, resilient", "tts", lambda _: ResilientTTS([_one("piper", _piper())] * 2), models=True),
        Case("smart_turn", "turn", lambda _: build("turn", _named("smart_turn")), models=True),
        Case("phrase", "turn", lambda _: _phrase()),
        Case("phrase, resilient", "turn", lambda _: ResilientTurnDetector([_one("phrase", _phrase())] * 2)),
    )


AROUND: dict[str, Callable[[list[Candidate[Any]]], Provider]] = {
    "llm": ResilientLLM,
    "realtime": ResilientRealtime,
    "stt": ResilientSTT,
    "tts": ResilientTTS,
}


def resilient(case: Case) -> Case:
    """The same with what asks again and asks others around it."""
    around, failing = AROUND[case.kind], case.failing
    return replace(
        case,
        name=f"{case.name}, resilient",
        make=lambda url: around([_one(case.name, case.make(url))] * 2),
        failing=(lambda url: around([_one(case.name, failing(url))])) if failing is not None else None,
    )


@cache
def spoken_question() -> Speech:
    """A sentence with silence around it, as a session cuts it out."""
    spoken: list[AudioFrame] = []
    speaking = threading.Thread(target=lambda: spoken.append(asyncio.run(_spoken(QUESTION))))  # with a loop of its own
    speaking.start()
    speaking.join()
    (frame,) = spoken
    quiet = np.zeros(round(0.4 * frame.sample_rate), dtype=np.int16)
    return Speech(
        AudioFrame(np.concatenate([quiet, frame.pcm, quiet]), frame.sample_rate), "hello there what time is it"
    )


async def _spoken(text: str) -> AudioFrame:
    async def words() -> AsyncIterator[str]:
        yield text

    voice = _piper()
    async with aclosing(voice.synthesize(words())) as pieces:
        return AudioFrame(np.concatenate([piece.frame.pcm async for piece in pieces]), voice.sample_rate)


def _named(plugin: str, **options: Any) -> ProviderSettings:
    return ProviderSettings(plugin, options)


def _one(name: str, provider: Any) -> Candidate[Any]:
    return Candidate(name, provider)


@cache
def _whisper() -> STT:
    """One for all tests: loading it takes a second."""
    return build("stt", _named("whisper"))


@cache
def _piper() -> TTS:
    return build("tts", _named("piper", variation=0))


def _script() -> LLM:
    made: Provider = build("llm", _named("script", first_token=0.01, gap=0.001))
    assert isinstance(made, LLM)
    return made


def _phrase() -> TurnDetector:
    return build("turn", _named("phrase"))
