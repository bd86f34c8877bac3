"""The plugin's kinds, for the contract suite and the table of faults."""

from __future__ import annotations

from typing import Any

from greenroom.providers import Provider
from tests.plugins.openai.server import OpenAIServer
from tests.providers.contract.case import FAULTS, SECRET, Case

__all__ = ["NOWHERE", "openai_cases"]

NOWHERE = "http://127.0.0.1:9/v1"
"""Nobody listens there."""


def openai_cases() -> tuple[Case, ...]:
    faults = frozenset(FAULTS)
    return (
        Case("openai", "llm", _llm, serve=OpenAIServer, faults=faults, failing=lambda _: _llm(NOWHERE)),
        Case("openai", "stt", _stt, serve=OpenAIServer, faults=faults, failing=lambda _: _stt(NOWHERE)),
        Case("openai, streamed", "stt", _live, serve=OpenAIServer, faults=faults, failing=lambda _: _live(NOWHERE)),
        Case("openai", "tts", _tts, serve=OpenAIServer, faults=faults, failing=lambda _: _tts(NOWHERE)),
    )


def _common(url: str) -> dict[str, Any]:
    return {"base_url": url, "api_key": SECRET, "patience": 2.0}


def _llm(url: str) -> Provider:
    from greenroom_plugins.openai.llm import OpenAILLM
    from greenroom_plugins.openai.options import LLMOptions

    return OpenAILLM(LLMOptions(**_common(url)))


def _stt(url: str) -> Provider:
    from greenroom_plugins.openai.options import STTOptions
    from greenroom_plugins.openai.stt import OpenAISTT

    return OpenAISTT(STTOptions(**_common(url)))


def _live(url: str) -> Provider:
    from greenroom_plugins.openai.options import STTOptions
    from greenroom_plugins.openai.stt import OpenAISTT

    return OpenAISTT(STTOptions(**_common(url), stream=True))


def _tts(url: str) -> Provider:
    from greenroom_plugins.openai.options import TTSOptions
    from greenroom_plugins.openai.tts import OpenAITTS

    return OpenAITTS(TTSOptions(**_common(url)))
