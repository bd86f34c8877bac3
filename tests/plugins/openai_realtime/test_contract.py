"""The plugin keeps the contract of realtime models, with its sound and without."""

from __future__ import annotations

import pytest

from greenroom.providers import RealtimeModel
from greenroom.testing.contract import RealtimeContract, Speech

from .cases import NOWHERE, model, speech
from .server import RealtimeServer


class TestSpoken(RealtimeContract):
    @pytest.fixture
    def provider(self, server: RealtimeServer) -> RealtimeModel:
        return model(server.url)

    @pytest.fixture
    def failing(self) -> RealtimeModel | None:
        return model(NOWHERE)

    @pytest.fixture
    def speech(self) -> Speech:
        return speech()


class TestWritten(TestSpoken):
    @pytest.fixture
    def provider(self, server: RealtimeServer) -> RealtimeModel:
        return model(server.url, output="text")


class TestUntranscribed(TestSpoken):
    @pytest.fixture
    def provider(self, server: RealtimeServer) -> RealtimeModel:
        return model(server.url, transcription=None)
