"""The protocol's words, the way to the server, and what may be written in the YAML."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.check import check
from greenroom.providers import OptionError, RealtimeModel, registry
from greenroom.settings import ProviderSettings
from greenroom_plugins.openai_realtime import wire
from greenroom_plugins.openai_realtime.link import address, backoff, failure_of
from greenroom_plugins.openai_realtime.options import NAME, OpenAIRealtimeOptions

KEY = "sk-0123456789"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("kind", ["response.output_audio.delta", "response.audio.delta"])
def test_two_names_for_one_event(kind: str) -> None:
    given = {"type": kind, "response_id": "r", "item_id": "i", "content_index": 0, "delta": "AQID", "new": [1]}
    assert wire.decode(json.dumps(given)) == wire.AudioDelta("i", b"\x01\x02\x03", 0, "r")


def test_events_that_nobody_needs_are_passed_over() -> None:
    assert wire.decode('{"type": "rate_limits.updated", "rate_limits": 7}') is None


@pytest.mark.parametrize(
    "data",
    [
        "",
        "[]",
        "{}",
        '{"type": 7}',
        "\ud800",
        '{"type": "response.done", "response": 7}',
        '{"type": "response.audio.delta", "item_id": "i", "delta": "!"}',
    ],
)
def test_what_is_no_event(data: str) -> None:
    with pytest.raises(wire.Malformed):
        wire.decode(data)


@settings(deadline=None)
@given(st.binary() | st.text())
def test_nothing_else_is_raised(data: bytes | str) -> None:
    with suppress(wire.Malformed):
        assert wire.decode(data) is None


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("", "wss://api.openai.com/v1/realtime?model=m+1"),
        ("http://localhost:8000/v1/", "ws://localhost:8000/v1/realtime?model=m+1"),
        ("wss://host/openai/v1/realtime?model=mine", "wss://host/openai/v1/realtime?model=mine"),
        ("https://host/v1?zone=eu", "wss://host/v1/realtime?zone=eu&model=m+1"),
    ],
)
def test_where_the_model_is(base_url: str, expected: str) -> None:
    found = address(OpenAIRealtimeOptions(base_url=base_url, model="m 1", api_key=KEY, headers={"X-Zone": "eu"}))
    assert found.url == expected
    assert found.headers == {"X-Zone": "eu", "Authorization": f"Bearer {KEY}"}
    assert KEY not in repr(found)


def test_the_wait_grows_by_chance_and_is_bounded() -> None:
    delays = list(itertools.islice(backoff(first=0.1, most=8.0), 12))
    assert 0 <= delays[0] <= 0.1
    for number, delay in enumerate(delays[1:]):
        assert min(0.1 * 2**number, 8.0) / 2 <= delay <= min(0.1 * 2**number, 8.0)


@pytest.mark.parametrize(
    ("fault", "retryable"),
    [
        (wire.Fault("slow down", "rate_limit_error", "rate_limit_exceeded"), True),
        (wire.Fault("it broke", "server_error"), True),
        (wire.Fault("an hour is over", "invalid_request_error", "session_expired"), True),
        (wire.Fault("no credit", "insufficient_quota", "insufficient_quota"), False),
        (wire.Fault("no such voice", "invalid_request_error", "invalid_value"), False),
        (wire.Fault(), True),
    ],
)
def test_whether_to_ask_again(fault: wire.Fault, retryable: bool) -> None:
    error = failure_of(fault)
    assert (error.retryable, error.provider) == (retryable, NAME)


def test_the_models_own_ears_in_the_protocols_words() -> None:
    options = OpenAIRealtimeOptions(api_key=KEY, session={"audio": {"input": {"format": {"rate": 16000}}}})
    told = wire.audio_settings(options, detect_speech=False)["audio"]["input"]
    assert told["turn_detection"] is None
    assert told["format"] == {"type": "audio/pcm", "rate": 16000}


# --- the YAML ---------------------------------------------------------------------------------------------------------


def test_the_plugin_is_a_model_for_llm() -> None:
    assert NAME in registry.offering("llm")
    made = registry.build("llm", ProviderSettings(NAME, {"api_key": KEY, "output": "text", "transcription": None}))
    assert isinstance(made, RealtimeModel)
    assert (made.speaks, made.transcribes, made.sample_rate) == (False, False, 24000)


def test_the_key_is_wanted_before_anybody_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="OPENAI_API_KEY"):
        registry.check("llm", NAME, {})
    registry.check("llm", NAME, {"base_url": "http://localhost:8000/v1"})
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert registry.check("llm", NAME, {}).key == KEY
    assert KEY not in repr(registry.check("llm", NAME, {"api_key": KEY, "headers": {"api-key": KEY}}))


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"base_url": "localhost"}, ("base_url",)),
        ({"speed": 9}, ("speed",)),
        ({"turn_detection": {"type": "server_vad", "patience": 1}}, ("turn_detection", "patience")),
        ({"voise": "marin"}, ("voise",)),
    ],
)
def test_a_wrong_option_names_its_key(options: dict[str, Any], path: tuple[str, ...]) -> None:
    with pytest.raises(OptionError) as caught:
        registry.check("llm", NAME, {"api_key": KEY} | options)
    assert caught.value.path == path


def test_an_agent_on_a_realtime_model_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "agents.yaml"
    file.write_text(
        f"server: {{url: 'ws://localhost:7880', api_key: devkey, api_secret: {'s' * 32}}}\n"
        "agents:\n"
        "  - instructions: Be brief.\n"
        "    llm:\n"
        "      plugin: openai_realtime\n"
        f"      api_key: {KEY}\n"
        "      turn_detection: {type: semantic_vad, eagerness: low}\n"
    )
    settings = check(file)
    assert settings.agents[0].llm is not None
    assert KEY not in repr(settings)
