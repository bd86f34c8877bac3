"""What docs/plugins.md says of the plugin: every option with its default, and an example that is right."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from greenroom.check import check
from greenroom_plugins.openai_realtime.options import OpenAIRealtimeOptions

TEXT = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text()
SECTION = TEXT.partition("\n## openai_realtime (llm)\n")[2].partition("\n## ")[0]
ROWS = [line.strip("| ").split(" | ") for line in SECTION.splitlines() if line.startswith("| `")]


def test_every_option_is_there_with_its_default() -> None:
    shown: dict[str, str] = {}
    for keys, defaults, *_ in ROWS:
        names, values = re.findall(r"`(\w+)`", keys), re.findall(r"`([^`]*)`", defaults)
        shown |= dict(zip(names, values, strict=True)) if len(names) > 1 else {names[0]: defaults.strip("`")}
    fields = {field.name: field for field in msgspec.structs.fields(OpenAIRealtimeOptions)}
    assert set(shown) == set(fields)
    usual = OpenAIRealtimeOptions()
    for name, text in shown.items():
        value = getattr(usual, name)
        if not value and value is not False:
            assert text == "none" or text.startswith("OPENAI_"), name
        else:
            assert msgspec.convert(yaml.safe_load(text), fields[name].type) == value, name


def test_the_example_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    (example,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    file = tmp_path / "agents.yaml"
    file.write_text(f"server: {{url: 'ws://localhost:7880', api_key: devkey, api_secret: {'s' * 32}}}\n{example}")
    (agent,) = check(file).agents
    assert agent.llm is not None
    assert agent.llm.plugin == "openai_realtime"
