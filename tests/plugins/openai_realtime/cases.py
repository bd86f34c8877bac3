"""The plugin, for the contract suite and the table of faults."""

from __future__ import annotations

from typing import Any

from greenroom.audio import AudioFrame
from greenroom.testing.contract import Speech
from greenroom_plugins.openai_realtime.model import OpenAIRealtime
from greenroom_plugins.openai_realtime.options import OpenAIRealtimeOptions
from tests.plugins.tones import spell
from tests.providers.contract.case import FAULTS, SECRET, Case

from .server import RealtimeServer

__all__ = ["NOWHERE", "model", "realtime_cases", "speech"]

NOWHERE = "http://127.0.0.1:9/v1"
"""Nobody listens there."""


def model(url: str, **given: Any) -> OpenAIRealtime:
    """One that gives up soon."""
    options: dict[str, Any] = {"base_url": url, "api_key": SECRET, "connect_timeout": 0.5, "patience": 3.0} | given
    return OpenAIRealtime(OpenAIRealtimeOptions(**options))


def speech() -> Speech:
    """Words that the server understands."""
    frame, placed = spell("what time is it", 24_000)
    return Speech(AudioFrame(frame.pcm, 24_000), " ".join(word.word for word in placed))


def realtime_cases() -> tuple[Case, ...]:
    common: dict[str, Any] = {
        "serve": lambda: RealtimeServer().started(),
        "faults": frozenset(FAULTS),
        "failing": lambda _: model(NOWHERE),
        "speech": speech,
    }
    return (
        Case("openai_realtime", "realtime", model, **common),
        Case("openai_realtime, written", "realtime", lambda url: model(url, output="text"), **common),
    )
