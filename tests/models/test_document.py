"""docs/models.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from greenroom.models.work import LONG, SHAREABLE
from greenroom.providers import registry
from greenroom.settings import ModelHostSettings

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text()


def test_every_key_is_there_with_its_default() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", TEXT, re.MULTILINE))
    defaults = ModelHostSettings()
    assert told == {name: str(getattr(defaults, name)).lower() for name in ModelHostSettings.__struct_fields__}


def test_what_is_shared_by_itself() -> None:
    shared = {name for name in registry.names() if registry.load_plugin(name).shared}
    assert shared == {"whisper", "piper", "smart_turn"}
    assert "`whisper`, `piper`, `smart_turn` | yes" in TEXT
    assert set(SHAREABLE) == {"stt", "tts", "turn"}


def test_what_is_long() -> None:
    assert f"({LONG['stt']:g} seconds of\n  speech, {LONG['tts']:g} characters)" in TEXT
