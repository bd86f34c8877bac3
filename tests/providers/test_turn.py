"""The end-of-turn detectors' seam: the scripted one, and the registry."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import Struct

from greenroom.errors import ProviderError
from greenroom.providers import Heard, Plugin, TurnDetector, registry
from greenroom.providers.registry import BrokenPlugin
from greenroom.settings import ProviderSettings
from greenroom.testing.contract import TurnDetectorContract
from greenroom.testing.contract.turn import heard
from greenroom.testing.providers import ScriptedVAD, ScriptEnded
from greenroom.testing.turn import Judgement, ScriptedTurnDetector
from greenroom.testing.virtual_time import virtual_time

HERE = "tests.providers.test_turn"


def by_length(turn: Heard) -> float:
    return 1.0 if not turn.text else 0.9 if turn.text.endswith(".") else 0.1


class TestScripted(TurnDetectorContract):
    @pytest.fixture
    def provider(self) -> TurnDetector:
        return ScriptedTurnDetector([by_length] * 50)

    @pytest.fixture
    def cut(self) -> Heard | None:
        return heard("I would like to order a")

    @pytest.fixture
    def failing(self) -> TurnDetector | None:
        return ScriptedTurnDetector([Judgement(failure="raise")])


@virtual_time
async def test_answers_come_by_the_script() -> None:
    detector = ScriptedTurnDetector([0.2, Judgement(0.7, delay=0.5), lambda turn: float(turn.text == "three")])
    loop = asyncio.get_running_loop()
    assert await detector.probability(heard("one")) == 0.2
    assert loop.time() == pytest.approx(0.02)
    assert await detector.probability(heard("two")) == 0.7
    assert loop.time() == pytest.approx(0.52)
    assert await detector.probability(heard("three")) == 1.0
    assert [turn.text for turn in detector.asked] == ["one", "two", "three"]
    with pytest.raises(ScriptEnded, match="step 4 of a script of 3"):
        await detector.probability(heard("four"))


@virtual_time
async def test_a_question_may_be_taken_back() -> None:
    detector = ScriptedTurnDetector([Judgement(failure="stall"), 0.5])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await detector.probability(heard("one"))
    assert detector.cancelled == 1
    assert await detector.probability(heard("two")) == 0.5
    assert not detector.left


@virtual_time
async def test_a_failure_by_the_script() -> None:
    with pytest.raises(ProviderError, match="scripted turn"):
        await ScriptedTurnDetector([Judgement(failure="raise")]).probability(heard("one"))


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    threshold: float = 0.5


class Ours(ScriptedTurnDetector):
    def __init__(self, options: Options) -> None:
        super().__init__([by_length], threshold=options.threshold)


class NotOne(ScriptedVAD):
    def __init__(self, options: Options) -> None:
        super().__init__()


@pytest.mark.parametrize("name", ["Ours", "NotOne"])
def test_a_detector_is_a_plugin_of_kind_turn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin(kinds={"turn": f"{HERE}:{name}"}, options={"turn": Options})
    monkeypatch.setattr(registry, "load_plugin", lambda _: plugin)
    settings = ProviderSettings("ours", options={"threshold": 0.7})
    if name == "NotOne":
        with pytest.raises(BrokenPlugin, match="not a TurnDetector"):
            registry.build("turn", settings)
    else:
        assert registry.build("turn", settings).threshold == 0.7
