"""The demonstration with a language model: right, and chosen by the environment alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from greenroom.check import check
from greenroom.settings_file import InvalidSettings
from greenroom_plugins.openai.options import LLMOptions

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "config" / "demo-openai.yaml"
SERVER = {"LIVEKIT_URL": "ws://h", "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s"}


def test_it_is_right_with_a_key_and_says_where_one_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InvalidSettings, match=r"llm\.api_key: no key for api\.openai\.com; expected it here or in OPEN"
    ):
        check(DEMO, environ=SERVER)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-demo")
    (agent,) = check(DEMO, environ=SERVER).agents
    plugins = [provider.plugin for provider in (agent.vad, agent.stt, agent.llm, agent.tts) if provider]
    assert plugins == ["silero", "whisper", "openai", "piper"]
    assert agent.llm is not None
    assert agent.llm.options == {"model": LLMOptions().model}


def test_an_address_will_do_and_the_model_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1")
    (agent,) = check(DEMO, environ={**SERVER, "OPENAI_MODEL": "qwen3:4b"}).agents
    assert agent.llm is not None
    assert agent.llm.options == {"model": "qwen3:4b"}


@pytest.mark.parametrize(
    ("environ", "file"),
    [
        ({}, "config/demo.yaml"),
        ({"OPENAI_API_KEY": "sk-demo"}, "config/demo-openai.yaml"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"}, "config/demo-openai.yaml"),
        ({"OPENAI_API_KEY": ""}, "config/demo.yaml"),
    ],
)
def test_make_demo_takes_what_there_is(environ: dict[str, str], file: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "MAKE", "MFLAGS"))}
    planned = subprocess.run(
        ["make", "--dry-run", "demo"], cwd=ROOT, env={**clean, **environ}, capture_output=True, text=True, check=True
    )
    assert planned.stdout.splitlines()[-1].endswith(f"greenroom dev -c {file}")
