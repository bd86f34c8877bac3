"""Wyoming's two kinds for the contract suite. The protocol knows no keys and no statuses."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from greenroom.providers import STT, TTS
from greenroom.testing.contract import Speech
from tests.plugins.tones import spell
from tests.plugins.wyoming.server import WyomingServer
from tests.providers.contract.case import Case, Fault, VendorServer

__all__ = ["PLAYED", "hears", "question", "speaks", "wyoming_cases"]

PLAYED: tuple[Fault, ...] = ("500", "stall", "cut", "silence", "malformed")
NOBODY = "tcp://127.0.0.1:9"


def hears(url: str, **options: Any) -> STT:
    from greenroom_plugins.wyoming import WyomingSTTOptions
    from greenroom_plugins.wyoming.stt import WyomingSTT

    return WyomingSTT(WyomingSTTOptions(uri=url, **{"patience": 1.0, **options}))


def speaks(url: str, **options: Any) -> TTS:
    from greenroom_plugins.wyoming import WyomingTTSOptions
    from greenroom_plugins.wyoming.tts import WyomingTTS

    return WyomingTTS(WyomingTTSOptions(uri=url, **{"patience": 1.0, **options}))


def question() -> Speech:
    words = "hello there what time is it"
    return Speech(spell(words, 16000)[0], words)


def serve() -> AbstractAsyncContextManager[VendorServer]:
    return WyomingServer().started()


def wyoming_cases() -> list[Case]:
    played = frozenset(PLAYED)
    return [
        Case("wyoming", "stt", hears, serve, played, failing=lambda _: hears(NOBODY), speech=question),
        Case("wyoming", "tts", speaks, serve, played, failing=lambda _: speaks(NOBODY)),
    ]
