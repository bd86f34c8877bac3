"""The YAML's ``accept`` and ``worker.admin``: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from greenroom.settings import AcceptRule, AdminSettings, Settings
from greenroom.settings_file import InvalidSettings, load

ENVIRONMENT = {"LIVEKIT_URL": "ws://127.0.0.1:7880", "LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "very-secret"}


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "worker.yaml"
    file.write_text(text)
    return load(file, environ=ENVIRONMENT)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        read(tmp_path, text)
    return [line.removeprefix(f"{tmp_path / 'worker.yaml'}:") for line in str(caught.value).splitlines()]


def test_rules_by_which_jobs_are_taken(tmp_path: Path) -> None:
    text = """
agents:
  - llm: {plugin: script}
    accept:
      - room: "hotel-.*"
      - metadata: ""
        attributes: {"sip.trunkPhoneNumber": "[+]49.*"}
"""
    (agent,) = read(tmp_path, text).agents
    assert agent.accept == (AcceptRule(room="hotel-.*"), AcceptRule(attributes={"sip.trunkPhoneNumber": "[+]49.*"}))


def test_a_pattern_that_cannot_be_read_is_told_with_its_line(tmp_path: Path) -> None:
    text = """agents:
  - llm: {plugin: script}
    accept:
      - room: "hotel-("
      - attributes:
          floor: "[0-"
"""
    first, second = mistakes(tmp_path, text)
    assert first.startswith("4: agents[0].accept[0].room: the text 'hotel-(' cannot be read (")
    assert second.startswith("6: agents[0].accept[1].attributes.floor: the text '[0-' cannot be read (")
    assert second.endswith("expected a regular expression, as Python's re takes it")


def test_a_token_that_could_be_guessed_is_refused_and_not_shown(tmp_path: Path) -> None:
    (mistake,) = mistakes(tmp_path, "agents: [{llm: {plugin: script}}]\nworker:\n  admin:\n    token: hunter2\n")
    assert mistake == "4: worker.admin.token: 7 characters; expected at least 16, or none"


def test_the_token_is_in_no_representation(tmp_path: Path) -> None:
    text = "agents: [{llm: {plugin: script}}]\nworker: {admin: {token: correct-horse-battery}}\n"
    admin = read(tmp_path, text).worker.admin
    assert admin == AdminSettings(token="correct-horse-battery")
    assert "correct" not in repr(admin)
