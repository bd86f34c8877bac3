"""What docs/plugins.md says of the plugin: every option with its default, and examples that are right."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from greenroom.providers import registry
from greenroom_plugins.openai import plugin
from greenroom_plugins.openai.options import EndpointOptions
from greenroom_plugins.openai.profiles import PROFILES

TEXT = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text()
SECTION = TEXT.partition("\n## openai (llm, stt, tts)\n")[2].partition("\n## ")[0]
COMMON = {field.name: field for field in msgspec.structs.fields(EndpointOptions)}
SHARED = {"extra"}
"""Of each kind, though not of the endpoint."""


def rows(table: str) -> dict[str, str]:
    """The keys of a table with what stands for their defaults."""
    found: dict[str, str] = {}
    for line in table.splitlines():
        keys, _, rest = line.removeprefix("| ").partition(" | ")
        default = rest.partition(" | ")[0]
        names = re.findall(r"`(\w+)`", keys) if line.startswith("| `") else []
        values = re.findall(r"`([^`]*)`", default)
        found |= (
            dict(zip(names, values, strict=True)) if len(values) == len(names) > 1 else dict.fromkeys(names, default)
        )
    return found


def table(kind: str) -> dict[str, str]:
    head = "| key of each kind" if kind == "" else f"| key of `{kind}`"
    return rows(SECTION.partition(head)[2].partition("\n\n")[0])


@pytest.mark.parametrize("kind", ["", "llm", "stt", "tts"])
def test_every_option_is_there_with_its_default(kind: str) -> None:
    struct = plugin.options[kind] if kind else EndpointOptions
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    wanted = set(COMMON) | SHARED if not kind else set(fields) - set(COMMON) - SHARED
    shown = table(kind)
    assert set(shown) == wanted
    for name, default in shown.items():
        value = fields[name].default if name in fields else msgspec.NODEFAULT
        if isinstance(value, str | int | float) and value != "":
            assert default.strip("`") == str(value).lower() if isinstance(value, bool) else str(value), name


def test_every_profile_is_named() -> None:
    assert set(PROFILES) <= set(re.findall(r"`([\w.-]+)`", SECTION))


def test_the_examples_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "GROQ_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.setenv(name, "sk-example")
    lines = [line for line in SECTION.partition("```yaml\n")[2].partition("```")[0].splitlines() if line]
    for line in lines:
        ((kind, options),) = yaml.safe_load(line).items()
        assert options.pop("plugin") == "openai"
        registry.check(kind, "openai", options)
    assert len(lines) == 6
