"""The scripted realtime model that is shipped for tests of sessions keeps the contract of the real ones."""

from __future__ import annotations

import pytest

from greenroom.providers import RealtimeModel, ToolCall
from greenroom.testing.contract import RealtimeContract
from greenroom.testing.providers import Heard
from greenroom.testing.realtime import Response, ScriptedRealtime

ANSWER = Response("It is noon, and all is well.", seconds_per_character=0.02)


class TestScriptedRealtime(RealtimeContract):
    @pytest.fixture
    def provider(self) -> RealtimeModel:
        called = Response("One moment.", calls=(ToolCall("c1", "look_up", "{}"),))
        return ScriptedRealtime([ANSWER, called, *[ANSWER] * 8], heard=[Heard("hello there", delay=0.01)] * 4)

    @pytest.fixture
    def failing(self) -> RealtimeModel | None:
        return ScriptedRealtime([Response("Never.", failure="raise")])


class TestScriptedWriter(TestScriptedRealtime):
    @pytest.fixture
    def provider(self) -> RealtimeModel:
        return ScriptedRealtime([ANSWER] * 10, heard=["hello there"] * 4, speaks=False)
