"""The contract of each kind, kept by every provider of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom.providers import Provider
from greenroom.testing.contract import (
    LLMContract,
    RealtimeContract,
    Speech,
    STTContract,
    TTSContract,
    TurnDetectorContract,
    VADContract,
)
from greenroom.testing.contract.speech import buzz
from tests.providers.contract.case import Case, Kind, VendorServer
from tests.providers.contract.cases import of_kind
from tests.providers.contract.local import resilient

Params = list[Any]


def every(kind: Kind) -> Params:
    """The cases of a kind, those with a vendor also with what is put around them, as parameters of a test."""
    cases = of_kind(kind)
    cases += [resilient(case) for case in cases if case.serve is not None]
    return [pytest.param(case, id=case.name, marks=[pytest.mark.models] if case.models else []) for case in cases]


class _Cases:
    """A contract's fixtures, for the case that its class is given."""

    @pytest.fixture(autouse=True)
    def patient(self, case: Case) -> None:
        for name in ("patience", "promptness"):
            if hasattr(self, name):
                setattr(self, name, max(getattr(case, name), getattr(self, name)))
        if hasattr(self, "labelled"):
            self.labelled = case.labelled

    @pytest.fixture
    async def server(self, case: Case) -> AsyncIterator[VendorServer | None]:
        if case.serve is None:
            yield None
            return
        async with case.serve() as server:
            yield server

    @pytest.fixture
    async def provider(self, case: Case, server: VendorServer | None) -> AsyncIterator[Provider]:
        made = case.make(server.url if server is not None else "")
        yield made
        await made.aclose()

    @pytest.fixture
    async def failing(self, case: Case, server: VendorServer | None) -> AsyncIterator[Provider | None]:
        if case.failing is None:
            yield None
            return
        made = case.failing(server.url if server is not None else "")
        yield made
        await made.aclose()

    @pytest.fixture
    def speech(self, case: Case) -> Speech:
        return case.speech() if case.speech is not None else Speech(buzz(1.5, 16000))


@pytest.mark.parametrize("case", every("vad"))
class TestVAD(_Cases, VADContract):
    pass


@pytest.mark.parametrize("case", every("stt"))
class TestSTT(_Cases, STTContract):
    pass


@pytest.mark.parametrize("case", every("llm"))
class TestLLM(_Cases, LLMContract):
    pass


@pytest.mark.parametrize("case", every("tts"))
class TestTTS(_Cases, TTSContract):
    pass


@pytest.mark.parametrize("case", every("turn"))
class TestTurnDetector(_Cases, TurnDetectorContract):
    pass


@pytest.mark.parametrize("case", every("realtime"))
class TestRealtime(_Cases, RealtimeContract):
    pass
