"""What the YAML wants of a model beyond its options is refused where the model cannot be that, before any is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from greenroom.check import check
from greenroom.settings_file import InvalidSettings, load
from tests.models import fakes

SERVER = {"LIVEKIT_URL": "ws://127.0.0.1:7880", "LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "very-secret-value"}
BESIDE = "expected shared: true beside models that are asked for one utterance, sentence or pause at a time"
REALTIME = "openai_realtime, base_url: 'http://127.0.0.1:9/v1'"


@pytest.fixture(autouse=True)
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugins ``fake_models``, which can be shared, and ``fake_streams``, which cannot."""
    monkeypatch.syspath_prepend(str(fakes.install(tmp_path / "plugins")))


def written(folder: Path, text: str) -> Path:
    file = folder / "worker.yaml"
    file.write_text(text)
    return file


def mistakes(folder: Path, text: str) -> list[str]:
    file = written(folder, text)
    with pytest.raises(InvalidSettings) as caught:
        check(file, environ=SERVER)
    return [line.removeprefix(f"{file}:") for line in str(caught.value).splitlines()]


def agent(*lines: str) -> str:
    return "agents:\n  - name: desk\n" + "".join(f"    {line}\n" for line in lines)


MODELS = agent(
    "vad: {plugin: silero, shared: true}",
    "stt: {plugin: fake_streams, shared: true}",
    "llm: {plugin: script, shared: true}",
    "tts:",
    "  plugin: fake_models",
    "  shared: true",
    "  fallback:",
    "    - plugin: fake_streams",
    "      shared: true",
    "    - {plugin: fake_streams, shared: false}",
    "turn_detector: {plugin: fake_models, shared: true}",
)


def test_what_cannot_be_shared_is_named_with_its_line(tmp_path: Path) -> None:
    assert mistakes(tmp_path, MODELS) == [
        f"3: agents[0].vad.shared: plugin `silero`: its vad cannot be shared; {BESIDE}",
        f"4: agents[0].stt.shared: plugin `fake_streams`: its stt cannot be shared; {BESIDE}",
        f"5: agents[0].llm.shared: plugin `script`: its llm cannot be shared; {BESIDE}",
        f"11: agents[0].tts.fallback[0].shared: plugin `fake_streams`: its tts cannot be shared; {BESIDE}",
    ]


def test_without_a_model_host_nothing_is_shared_whatever_is_said(tmp_path: Path) -> None:
    file = written(tmp_path, MODELS + "worker:\n  model_host: {enabled: false}\n")
    assert check(file, environ=SERVER).agents[0].stt is not None


def test_a_vendor_that_streams_cannot_be_shared(tmp_path: Path) -> None:
    text = agent("vad: {plugin: silero}", "stt: {plugin: deepgram, api_key: k, shared: true}", "llm: {plugin: script}")
    (mistake,) = mistakes(tmp_path, text)
    assert mistake == f"4: agents[0].stt.shared: plugin `deepgram`: its stt cannot be shared; {BESIDE}"


def test_turns_are_told_by_no_model_that_does_not_hear(tmp_path: Path) -> None:
    text = agent("llm: {plugin: script}", "turns:", "  detection: realtime")
    (mistake,) = mistakes(tmp_path, text)
    assert mistake == (
        "5: agents[0].turns.detection: plugin `script`: its llm is no realtime model; "
        "expected realtime beside one, such as openai_realtime"
    )


@pytest.mark.parametrize(
    "lines",
    [
        (f"llm: {{plugin: {REALTIME}, api_key: k}}", "turns: {detection: realtime}"),
        ("llm: {plugin: script}", "turns: {detection: manual}"),
    ],
)
def test_what_can_be_is_let_be(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert check(written(tmp_path, agent(*lines)), environ=SERVER).agents[0].llm is not None


def test_a_model_that_is_wrong_already_is_not_asked_what_it_is(tmp_path: Path) -> None:
    text = agent("llm: {plugin: scrip, shared: true}", "turns: {detection: realtime}")
    (mistake,) = mistakes(tmp_path, text)
    assert mistake.startswith("3: agents[0].llm.plugin: no plugin `scrip` is installed")


def test_the_daemon_asks_nothing(tmp_path: Path) -> None:
    assert load(written(tmp_path, MODELS), environ=SERVER).agents[0].vad is not None


@pytest.mark.parametrize("command", ["check", "start"])
def test_the_commands_refuse_with_2(tmp_path: Path, command: str) -> None:
    file = written(tmp_path, agent("llm: {plugin: script, shared: true}", "turns: {detection: realtime}"))
    done = subprocess.run(
        [sys.executable, "-m", "greenroom", command, *(["-c"] if command == "start" else []), str(file)],
        env={**SERVER, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "worker.yaml:3: agents[0].llm.shared: " in said
    assert "worker.yaml:4: agents[0].turns.detection: " in said
