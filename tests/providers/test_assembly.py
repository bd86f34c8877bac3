"""Providers as the settings describe them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from greenroom.check import check
from greenroom.errors import SettingsError
from greenroom.job.agentsettings import AgentProviders
from greenroom.providers import Provider
from greenroom.providers.assembly import assemble
from greenroom.providers.plugin import PluginError
from greenroom.providers.resilience.llm import ResilientLLM
from greenroom.providers.resilience.realtime import ResilientRealtime
from greenroom.providers.resilience.rules import Rules
from greenroom.providers.resilience.turn import ResilientTurnDetector
from greenroom.providers.resilience.vad import ResilientVAD
from greenroom.redaction import MASK, redact
from greenroom.settings import ProviderSettings, RetrySettings
from greenroom.testing.providers import ScriptedLLM, ScriptedVAD
from greenroom.testing.realtime import ScriptedRealtime
from greenroom_plugins.phrase import PhraseDetector
from tests.providers.resilience.models import answer

SERVER = {"LIVEKIT_URL": "ws://127.0.0.1:7880", "LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "secret"}


def test_a_chain_is_made_of_what_the_settings_say() -> None:
    settings = ProviderSettings(
        "script",
        {"otherwise": "one"},
        retry=RetrySettings(attempts=3, delay=0.5, max_delay=4.0),
        timeout=2.0,
        fallback=(ProviderSettings("script", {"otherwise": "two"}, stall=7.0),),
    )
    llm = assemble("llm", settings)
    assert isinstance(llm, ResilientLLM)
    assert llm.chain.names == ("script", "script#2")
    assert llm.chain.rules == (
        Rules(attempts=3, delay=0.5, max_delay=4.0, timeout=2.0, stall=10.0),
        Rules(timeout=10.0, stall=7.0),
    )


async def test_it_is_a_model_like_the_plugins_own() -> None:
    llm = assemble("llm", ProviderSettings("script", {"otherwise": "one"}))
    assert isinstance(llm, ResilientLLM)
    assert await answer(llm) == "one"
    assert llm.label == "script"


def test_what_hears_and_judges_here_is_left_alone_unless_another_stands_behind() -> None:
    assert isinstance(assemble("turn", ProviderSettings("phrase")), PhraseDetector)
    judged = assemble("turn", ProviderSettings("phrase", fallback=(ProviderSettings("phrase"),)))
    assert isinstance(judged, ResilientTurnDetector)
    assert judged.chain.rules[0].timeout == 0.5
    one = assemble("vad", ProviderSettings("a"), build=lambda kind, settings: ScriptedVAD())
    assert isinstance(one, ScriptedVAD)
    two = assemble(
        "vad", ProviderSettings("a", fallback=(ProviderSettings("b"),)), build=lambda kind, settings: ScriptedVAD()
    )
    assert isinstance(two, ResilientVAD)


def test_a_realtime_model_has_realtime_models_behind_it() -> None:
    made: dict[str, Provider] = {"a": ScriptedRealtime(), "b": ScriptedLLM()}
    behind = ProviderSettings("a", fallback=(ProviderSettings("b"),))
    with pytest.raises(
        PluginError, match="`b` is no RealtimeModel; expected a fallback of the same kind as `a`"
    ) as caught:
        assemble("llm", behind, build=lambda kind, settings: made[settings.plugin])
    assert caught.value.path == ("fallback", 0, "plugin")
    alone = assemble("llm", ProviderSettings("a"), build=lambda kind, settings: made[settings.plugin])
    assert isinstance(alone, ResilientRealtime)


def test_keys_are_hidden_wherever_they_stand() -> None:
    options = {"otherwise": "x", "headers": {"authorization": "Bearer-of-keys-1"}, "api_key": "sk-of-assembly-2"}
    fallback = ProviderSettings("b", {"api_key": "sk-of-assembly-3"})
    assemble("llm", ProviderSettings("a", options, fallback=(fallback,)), build=lambda kind, settings: ScriptedLLM())
    assert redact("Bearer-of-keys-1, sk-of-assembly-2, sk-of-assembly-3") == ", ".join([MASK] * 3)


async def test_all_of_an_agents_models_are_warmed_and_closed() -> None:
    class Warm(ScriptedLLM):
        def __init__(self) -> None:
            super().__init__()
            self.done: list[str] = []

        async def warm_up(self) -> None:
            self.done.append("warm")
            raise OSError("it does not matter")

        async def aclose(self) -> None:
            self.done.append("closed")

    llm = Warm()
    providers = AgentProviders(llm=llm, turn=assemble("turn", ProviderSettings("phrase")))
    await providers.warm_up()
    await providers.aclose()
    assert llm.done == ["warm", "closed"]


def mistakes(tmp_path: Path, llm: str) -> list[str]:
    file = tmp_path / "worker.yaml"
    file.write_text(f"agents:\n  - llm: {llm}\n    turn_detector: {{plugin: phrase, hedge_after: 1}}\n")
    with pytest.raises(SettingsError) as caught:
        check(file, environ=SERVER)
    return [line.partition("agents[0].")[2] for line in str(caught.value).splitlines()]


FIRST = "not used in a fallback; expected it beside the first plugin, for all of them"
HEDGED = "turn_detector.hedge_after: not used for turn; expected it beside an llm"


@pytest.mark.parametrize(
    ("llm", "expected"),
    [
        ("{plugin: script}", []),
        (
            "{plugin: script, retry: {attempts: 0}}",
            ["llm.retry.attempts: the number 0; expected a whole number from 1 to 10"],
        ),
        (
            "{plugin: script, timeout: 0, fallback: {plugin: script}}",
            [
                "llm.timeout: the number 0; expected a number above 0, at most 86400",
                "llm.fallback: a mapping; expected a list of mappings",
            ],
        ),
        (
            "{plugin: script, fallback: [script, {plugin: scrip}, {plugin: script, otherwise: 5}]}",
            [
                "llm.fallback[0]: the text 'script'; expected a mapping such as {plugin: script}",
                "llm.fallback[1].plugin: no plugin `scrip` is installed; expected one for llm: ",
                "llm.fallback[2].otherwise: expected `str | array`, got `int`",
            ],
        ),
        (
            "{plugin: script, fallback: [{plugin: script, hedge_after: 1, fallback: [{plugin: script}]}]}",
            [
                f"llm.fallback[0].fallback: {FIRST}",
                f"llm.fallback[0].hedge_after: {FIRST}",
            ],
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_key(tmp_path: Path, llm: str, expected: list[str]) -> None:
    found = mistakes(tmp_path, llm)
    assert len(found) == len(expected) + 1
    for said, wanted in zip(sorted(found), sorted([*expected, HEDGED]), strict=True):
        assert said.startswith(wanted), said


def test_an_option_of_every_model_is_none_of_the_plugins(tmp_path: Path) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text(
        "agents:\n  - llm: {plugin: script, otherwise: a, hedge_after: 2, retry: , shared: false,"
        " fallback: [{plugin: script, otherwise: b, stall: 3}]}\n"
    )
    llm: Any = check(file, environ=SERVER).agents[0].llm
    assert llm == ProviderSettings(
        "script",
        {"otherwise": "a"},
        hedge_after=2,
        shared=False,
        fallback=(ProviderSettings("script", {"otherwise": "b"}, stall=3),),
    )
    assert "otherwise" in repr(llm)
