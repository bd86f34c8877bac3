"""The files in ``config/`` are true: every key with its default, an agent that runs, a schema that is current."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from greenroom.check import check
from greenroom.cli import DEMO
from greenroom.providers import registry
from greenroom.settings import (
    AcceptRule,
    AdminSettings,
    AgentSettings,
    BackgroundSettings,
    DeadAirSettings,
    Deadlines,
    DuckSettings,
    InterruptionSettings,
    JournalSettings,
    LogSettings,
    MCPServerSettings,
    ModelHostSettings,
    PreconnectSettings,
    ProviderSettings,
    ReconcileSettings,
    RecoverySettings,
    RetrySettings,
    ServerSettings,
    SoundSettings,
    SpeechCacheSettings,
    SpeechSettings,
    TurnSettings,
    VoiceActivitySettings,
    WorkerSettings,
)
from greenroom.settings_file import load
from greenroom.settings_schema import encode_schema, schema
from greenroom.yaml_document import read

CONFIG = Path(__file__).parents[2] / "config"
SERVER = {"LIVEKIT_URL": "ws://127.0.0.1:7880", "LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "secret"}
SECTIONS: Mapping[tuple[str | int, ...], type[Any]] = {
    ("server",): ServerSettings,
    ("agents", 0): AgentSettings,
    ("agents", 0, "llm", "retry"): RetrySettings,
    ("agents", 0, "turns"): TurnSettings,
    ("agents", 0, "turns", "voice_activity"): VoiceActivitySettings,
    ("agents", 0, "turns", "interruption"): InterruptionSettings,
    ("agents", 0, "turns", "dead_air"): DeadAirSettings,
    ("agents", 0, "mcp", 0): MCPServerSettings,
    ("agents", 0, "preconnect"): PreconnectSettings,
    ("agents", 0, "accept", 0): AcceptRule,
    ("agents", 0, "recovery"): RecoverySettings,
    ("agents", 0, "background"): BackgroundSettings,
    ("agents", 0, "background", "ambient", 0): SoundSettings,
    ("agents", 0, "background", "duck"): DuckSettings,
    ("agents", 0, "speech"): SpeechSettings,
    ("agents", 0, "speech", "cache"): SpeechCacheSettings,
    ("worker",): WorkerSettings,
    ("worker", "deadlines"): Deadlines,
    ("worker", "journal"): JournalSettings,
    ("worker", "admin"): AdminSettings,
    ("worker", "reconcile"): ReconcileSettings,
    ("worker", "model_host"): ModelHostSettings,
    ("logs",): LogSettings,
}
"""Every model of ``greenroom.settings`` but ``Settings`` and ``ProviderSettings``, and where the file shows it."""


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """``worker.yaml`` with every key that it shows taken at its word."""
    file = tmp_path / "worker.yaml"
    file.write_text(
        re.sub(r"^( *)#(?=(?:- )?[a-z_]+:)", r"\1", (CONFIG / "worker.yaml").read_text(), flags=re.MULTILINE)
    )
    return file


def shown_in(file: Path) -> Any:
    return read(file.read_bytes(), environ=SERVER).value


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def plain(value: Any) -> Any:
    """A default as YAML has it."""
    return msgspec.json.decode(msgspec.json.encode(value))


def structs(kind: msgspec.inspect.Type) -> Iterator[type[Any]]:
    """Every model inside a type."""
    match kind:
        case msgspec.inspect.StructType():
            yield kind.cls
            for field in kind.fields:
                if (kind.cls, field.name) != (ProviderSettings, "fallback"):  # models like itself
                    yield from structs(field.type)
        case msgspec.inspect.VarTupleType():
            yield from structs(kind.item_type)
        case msgspec.inspect.UnionType():
            for one in kind.types:
                yield from structs(one)
        case msgspec.inspect.Metadata():
            yield from structs(kind.type)


@pytest.mark.parametrize("name", ["worker.yaml", "demo.yaml"])
def test_the_file_is_right(name: str) -> None:
    settings = check(CONFIG / name, environ=SERVER)
    assert settings.server == ServerSettings(url="ws://127.0.0.1:7880", api_key="devkey", api_secret="secret")


def test_as_it_stands_the_file_changes_no_default() -> None:
    settings = load(CONFIG / "worker.yaml", environ={**SERVER, "HOME": "/h"})
    (agent,) = settings.agents
    assert agent.turns == TurnSettings()
    assert (agent.max_tool_steps, agent.warm, agent.job_types) == (3, None, ("room",))
    assert msgspec.structs.replace(settings.worker, run_dir="", state_dir="") == WorkerSettings()
    assert settings.logs == LogSettings()


def test_every_model_is_looked_for() -> None:
    from greenroom.settings import Settings

    models = set(structs(msgspec.inspect.type_info(Settings))) - {Settings, ProviderSettings}
    assert models == set(SECTIONS.values())


@pytest.mark.parametrize("path", SECTIONS, ids=lambda path: ".".join(map(str, path)))
def test_every_key_is_shown_with_its_default(path: tuple[str | int, ...], whole: Path) -> None:
    shown = at(shown_in(whole), path)
    fields = {field.name: field for field in msgspec.structs.fields(SECTIONS[path])}
    assert set(shown) == set(fields)
    examples = {"name", "instructions", "greeting", "vad", "stt", "llm", "tts"} if path == ("agents", 0) else set()
    for name, field in fields.items():
        inside = any(section[: len(path) + 1] == (*path, name) for section in SECTIONS)
        if inside or name in examples or field.required:
            continue
        default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
        assert shown[name] == plain(default), name
        assert type(shown[name]) is type(plain(default)), name


@pytest.mark.parametrize("kind", ["vad", "stt", "llm", "tts"])
def test_every_option_of_our_plugins_is_shown_with_its_default(kind: str, whole: Path) -> None:
    shown = at(shown_in(whole), ("agents", 0, kind))
    struct = registry.load_plugin(shown["plugin"]).options[kind]
    common = {field.name for field in msgspec.structs.fields(ProviderSettings)}
    own = {key: value for key, value in shown.items() if key not in common}
    assert own == {field.name: plain(field.default) for field in msgspec.structs.fields(struct)}


def test_what_every_model_may_have_is_shown_with_its_default(whole: Path) -> None:
    shown = at(shown_in(whole), ("agents", 0, "llm"))
    for field in msgspec.structs.fields(ProviderSettings):
        if field.name not in ("plugin", "options", "retry"):
            assert shown[field.name] == plain(field.default), field.name


def test_with_every_key_taken_the_file_is_right(whole: Path) -> None:
    text = whole.read_text().replace('agent: ""\n', "").replace("warm: null", "warm: 1")
    whole.write_text(text.replace('command: ""', "command: uvx"))
    assert check(whole, environ=SERVER).agents[0].warm == 1


def test_the_schema_is_current() -> None:
    assert (CONFIG / "schema.json").read_text() == f"{encode_schema()}\n", "run: greenroom schema > config/schema.json"


def test_the_schema_knows_the_file_as_people_write_it() -> None:
    described = cast("dict[str, Any]", schema()["$defs"])
    assert "file" not in described["Settings"]["properties"]
    assert described["Settings"]["required"] == ["agents"]
    assert described["ServerSettings"]["required"] == []
    assert described["ProviderSettings"]["additionalProperties"] is True
    assert "options" not in described["ProviderSettings"]["properties"]
    assert described["AgentSettings"]["additionalProperties"] is False
    # A number may be a variable, and only a variable may be a text.
    kinds = described["WorkerSettings"]["properties"]["warm"]["anyOf"]
    assert [kind["type"] for kind in kinds] == ["integer", "string"]
    assert re.search(kinds[1]["pattern"], "${WARM:-2}")
    assert not re.search(kinds[1]["pattern"], "two")


def test_the_demonstration_that_is_shipped_is_the_one_in_the_folder() -> None:
    assert DEMO.read_text() == (CONFIG / "demo.yaml").read_text()
    assert DEMO.samefile(CONFIG / "demo.yaml")


def test_the_demonstration_is_in_the_wheel(tmp_path: Path) -> None:
    """Checked in what a build would take, links followed."""
    root = CONFIG.parent
    code = (
        "from hatchling.builders.wheel import WheelBuilder\n"
        "files = {f.distribution_path: f.path for f in WheelBuilder('.').recurse_included_files()}\n"
        "print(files['greenroom/embedded/demo.yaml'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert Path(root, result.stdout.strip()).samefile(CONFIG / "demo.yaml")


def test_the_example_of_the_documentation_is_right(tmp_path: Path) -> None:
    text = (CONFIG.parent / "docs" / "configuration.md").read_text()
    example = text.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "worker.yaml").write_text(example)
    (tmp_path / "reception.py").write_text("import greenroom\n\nclass Reception(greenroom.Agent):\n    pass\n")
    before = [*sys.path]
    try:
        settings = check(tmp_path / "worker.yaml", environ=SERVER)
    finally:
        sys.path[:] = before
        sys.modules.pop("reception", None)
    assert settings.worker.max_jobs == 8
    mistaken = example.replace("whisper", "wisper").replace("max_jobs", "max_job")
    (tmp_path / "worker.yaml").write_text(mistaken)
    result = subprocess.run(
        [sys.executable, "-m", "greenroom", "check", "worker.yaml"],
        cwd=tmp_path,
        env={**os.environ, **SERVER},
        capture_output=True,
        text=True,
        check=False,
    )
    shown = re.findall(r"^worker\.yaml:\d+: .*$", text, re.MULTILINE)
    assert len(shown) == 2
    for line, said in zip(shown, result.stderr.splitlines(), strict=True):
        assert re.fullmatch(re.escape(line).replace("…", ".*"), said)
