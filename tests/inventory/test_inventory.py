"""What is listed, and what is found when it is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from greenroom.errors import ProviderError
from greenroom.inventory.entries import Entry, as_json, as_text, configured, installed
from greenroom.inventory.probing import probe, probe_all
from greenroom.providers import Provider, registry
from greenroom.redaction import hide
from greenroom.settings import ProviderSettings, Settings
from greenroom.settings_file import load
from greenroom.testing.providers import Answer, ScriptedLLM

SERVER = {"LIVEKIT_URL": "ws://127.0.0.1:7880", "LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "secret"}
FILE = """
agents:
  - name: desk
    llm:
      plugin: script
      fallback:
        - {plugin: script, otherwise: Later.}
        - {plugin: script, otherwise: 5}
        - {plugin: scrip}
    turn_detector: {plugin: phrase}
  - name: door
    llm: {plugin: script}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "worker.yaml").write_text(FILE)
    return load(tmp_path / "worker.yaml", environ=SERVER)


def test_what_is_installed_is_listed_with_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPGRAM_API_KEY", raising=False)
    found = {(entry.plugin, entry.kind): entry for entry, _ in installed()}
    assert set(found) == {(name, kind) for name in registry.names() for kind in registry.load_plugin(name).kinds}
    assert found["script", "llm"].state == "ready"
    assert found["deepgram", "stt"].state == "lacking"
    assert "DEEPGRAM_API_KEY" in found["deepgram", "stt"].detail
    assert all(entry.place == "" for entry in found.values())


def test_what_settings_use_is_listed_with_its_place(settings: Settings) -> None:
    found = [entry for entry, _ in configured(settings)]
    assert [(entry.place, entry.kind, entry.plugin, entry.state) for entry in found] == [
        ("desk.llm", "llm", "script", "ready"),
        ("desk.llm.fallback[0]", "llm", "script", "ready"),
        ("desk.llm.fallback[1]", "llm", "script", "wrong"),
        ("desk.llm.fallback[2]", "llm", "scrip", "wrong"),
        ("desk.turn_detector", "turn", "phrase", "ready"),
        ("door.llm", "llm", "script", "ready"),
    ]
    assert found[2].detail == "otherwise: expected `str | array`, got `int`"
    assert "did you mean `script`?" in found[3].detail


async def test_a_probe_measures_the_first_output(settings: Settings) -> None:
    async with aclosing(probe_all(configured(settings), timeout=5.0)) as probed:
        found = [entry async for entry in probed]
    assert [entry.state for entry in found] == ["answers", "answers", "wrong", "wrong", "answers", "answers"]
    for entry in found:
        if entry.state == "answers":
            assert entry.load is not None
            assert entry.connect is not None
            assert entry.first is not None
            assert entry.first < 1
        else:
            assert (entry.load, entry.connect, entry.first) == (None, None, None)
    assert (found[0].first, found[0].place) == (found[5].first, "desk.llm")  # asked once


class Unreachable(ScriptedLLM):
    closed = False

    async def warm_up(self) -> None:
        raise ProviderError("nobody at sk-very-secret", provider="made up", retryable=True)

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("provider", "detail"),
    [
        (Unreachable(), "made up: nobody at ***"),
        (ScriptedLLM([Answer(failure="empty")]), "ScriptedLLM: an answer with nothing in it"),
        (ScriptedLLM([Answer(failure="stall")]), "not an answer in time"),
        (ScriptedLLM([lambda context: Answer(str(1 // len(context.copy().items[1:])))]), "ZeroDivisionError: "),
    ],
)
async def test_what_does_not_answer_says_why(monkeypatch: pytest.MonkeyPatch, provider: Provider, detail: str) -> None:
    hide("sk-very-secret")
    monkeypatch.setattr(registry, "build", lambda kind, settings: provider)
    entry = Entry(plugin="made_up", kind="llm", place="desk.llm")
    found = await probe(entry, ProviderSettings("made_up"), timeout=0.2)
    assert (found.state, found.first) == ("silent", None)
    assert found.detail.startswith(detail)
    if isinstance(provider, Unreachable):
        assert provider.closed
        assert found.connect is None


def test_the_list_is_in_columns_and_the_data_in_lines() -> None:
    entries = [
        Entry(plugin="whisper", kind="stt", place="desk.stt", state="answers", load=1.25, connect=0.0, first=0.31),
        Entry(plugin="x", kind="llm", state="lacking", detail="a key\nis missing"),
    ]
    assert as_text(entries).splitlines() == [
        "answers  stt  whisper  desk.stt  load 1.2 s, connect 0 ms, first 310 ms",
        "lacking  llm  x                                                            a key\\nis missing",
    ]
    first, second = (json.loads(line) for line in as_json(entries).splitlines())
    assert (first["first"], second["detail"]) == (0.31, "a key\nis missing")
    assert as_text([]) == ""


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment: dict[str, Any] = {**os.environ, **SERVER}
    return subprocess.run(
        [sys.executable, "-m", "greenroom", "providers", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(settings: Settings, tmp_path: Path) -> None:
    everything = command(cwd=tmp_path)
    assert (everything.returncode, everything.stderr) == (0, "")
    assert "ready" in everything.stdout
    wrong = command("-c", "worker.yaml", "--probe", "--json", cwd=tmp_path)
    assert wrong.returncode == 1
    states = [json.loads(line)["state"] for line in wrong.stdout.splitlines()]
    assert states == ["answers", "answers", "wrong", "wrong", "answers", "answers"]
    (tmp_path / "worker.yaml").write_text(FILE.partition("      fallback")[0])
    assert command("-c", "worker.yaml", cwd=tmp_path).returncode == 0
    (tmp_path / "worker.yaml").write_text("agents: 5")
    assert command("-c", "worker.yaml", cwd=tmp_path).returncode == 2
