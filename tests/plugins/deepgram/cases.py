"""Deepgram for the contract suite."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from greenroom.providers import STT
from greenroom.testing.contract import Speech
from tests.plugins.deepgram.server import DeepgramServer
from tests.plugins.tones import spell
from tests.providers.contract.case import FAULTS, SECRET, Case, VendorServer

__all__ = ["deepgram_cases", "make", "question", "serve"]


def make(url: str, *, key: str = SECRET) -> STT:
    from greenroom_plugins.deepgram import DeepgramOptions
    from greenroom_plugins.deepgram.stream import DeepgramSTT

    return DeepgramSTT(DeepgramOptions(base_url=url, api_key=key, patience=1.0))


def serve() -> AbstractAsyncContextManager[VendorServer]:
    return DeepgramServer().started()


def question() -> Speech:
    words = "hello there what time is it"
    return Speech(spell(words, 16000)[0], words)


def deepgram_cases() -> list[Case]:
    return [
        Case(
            "deepgram",
            "stt",
            make,
            serve,
            faults=frozenset(FAULTS),
            failing=lambda url: make(url, key="sk-another-key"),
            speech=question,
        )
    ]
