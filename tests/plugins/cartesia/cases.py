"""Cartesia for the contract suite."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from greenroom.providers import TTS
from tests.plugins.cartesia.server import CartesiaServer
from tests.providers.contract.case import FAULTS, SECRET, Case, VendorServer

__all__ = ["cartesia_cases", "make", "serve"]


def make(url: str, *, key: str = SECRET, **options: Any) -> TTS:
    from greenroom_plugins.cartesia import CartesiaOptions
    from greenroom_plugins.cartesia.stream import CartesiaTTS

    return CartesiaTTS(CartesiaOptions(base_url=url, api_key=key, **{"patience": 1.0, **options}))


def serve() -> AbstractAsyncContextManager[VendorServer]:
    return CartesiaServer().started()


def cartesia_cases() -> list[Case]:
    return [
        Case(
            "cartesia",
            "tts",
            make,
            serve,
            faults=frozenset(FAULTS),
            failing=lambda url: make(url, key="sk-another-key"),
        )
    ]
