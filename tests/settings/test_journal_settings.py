"""The YAML's ``worker.journal``: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from greenroom.settings import JournalSettings, Settings
from greenroom.settings_file import InvalidSettings, load

ENVIRONMENT = {"LIVEKIT_URL": "ws://127.0.0.1:7880", "LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "very-secret"}
HEAD = "agents:\n  - llm: {plugin: script}\nworker:\n  journal:\n"


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "worker.yaml"
    file.write_text(HEAD + text)
    return load(file, environ=ENVIRONMENT)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        read(tmp_path, text)
    return [line.removeprefix(f"{tmp_path / 'worker.yaml'}:") for line in str(caught.value).splitlines()]


def test_nothing_written_means_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "").worker.journal == JournalSettings()
    assert JournalSettings() == JournalSettings(
        enabled=True, fsync=False, max_mb=50, keep_mb=1000, keep_days=30, redact=()
    )


def test_all_keys(tmp_path: Path) -> None:
    text = r"""
    enabled: false
    fsync: true
    max_mb: 5
    keep_mb: 0
    keep_days: 0
    redact: ['\b\d(?:[ -]?\d){11,18}\b', '[\w.]+@[\w.]+']
"""
    journal = read(tmp_path, text).worker.journal
    assert journal == JournalSettings(
        enabled=False,
        fsync=True,
        max_mb=5,
        keep_mb=0,
        keep_days=0,
        redact=(r"\b\d(?:[ -]?\d){11,18}\b", r"[\w.]+@[\w.]+"),
    )
    assert Settings.decode(read(tmp_path, text).encode()).worker.journal == journal


def test_patterns_that_are_none(tmp_path: Path) -> None:
    expected = "expected a regular expression, as Python's re takes it"
    unread = "cannot be read (missing ), unterminated subpattern at position 0)"
    assert mistakes(tmp_path, "    redact: ['[0-9]{4}', '(a', 'a*', 5]\n    max_mb: 0\n") == [
        "5: worker.journal.redact[3]: the number 5; expected text, in quotes",
        f"5: worker.journal.redact[1]: the text '(a' {unread}; {expected}",
        f"5: worker.journal.redact[2]: the text 'a*' finds the empty text; {expected}",
        "6: worker.journal.max_mb: the number 0; expected a whole number from 1 to 10000",
    ]
