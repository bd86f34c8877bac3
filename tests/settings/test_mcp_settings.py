"""The YAML's ``mcp``: what is read, what is refused, and what becomes of it in a job."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from greenroom.job.runner import tool_sources
from greenroom.redaction import redact
from greenroom.session.mcp import MCPServerHTTP, MCPServerStdio
from greenroom.settings import MCPServerSettings, Settings
from greenroom.settings_file import InvalidSettings, load

ENVIRONMENT = {
    "LIVEKIT_URL": "ws://127.0.0.1:7880",
    "LIVEKIT_API_KEY": "devkey",
    "LIVEKIT_API_SECRET": "very-secret-value",
    "CALENDAR_TOKEN": "token-of-the-calendar",
}
HEAD = "agents:\n  - llm: {plugin: script}\n    mcp:\n"


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "worker.yaml"
    file.write_text(HEAD + text)
    return load(file, environ=ENVIRONMENT)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        read(tmp_path, text)
    return [line.removeprefix(f"{tmp_path / 'worker.yaml'}:") for line in str(caught.value).splitlines()]


EITHER = "expected the address of a server, or the program that is one"
ADDRESS = "expected http://HOST/PATH or https://HOST/PATH"
NAME = "expected a name of letters, digits, '_' and '-', at most 32 of them"
BOTH_KINDS = """\
      - name: calendar
        url: https://calendar.example.com/mcp
        headers: {Authorization: "Bearer ${CALENDAR_TOKEN}"}
        timeout: 5
        tools: [find_slot, book]
      - name: files
        command: uvx
        args: [files-server, --root, .]
        env: {API_KEY: "${CALENDAR_TOKEN}", LEVEL: "1"}
        cwd: data
"""


def test_both_kinds_are_read(tmp_path: Path) -> None:
    settings = read(tmp_path, BOTH_KINDS)
    calendar, files = settings.agents[0].mcp
    assert calendar == MCPServerSettings(
        name="calendar",
        url="https://calendar.example.com/mcp",
        headers={"Authorization": "Bearer token-of-the-calendar"},
        timeout=5,
        tools=("find_slot", "book"),
    )
    assert files.env == {"API_KEY": "token-of-the-calendar", "LEVEL": "1"}
    assert "token-of-the-calendar" not in repr(settings)
    assert Settings.decode(settings.encode()) == settings


def test_a_job_makes_servers_of_them(tmp_path: Path) -> None:
    settings = read(tmp_path, BOTH_KINDS)
    calendar, files = tool_sources(settings.agents[0], beside=settings.file)
    assert isinstance(calendar, MCPServerHTTP)
    assert (calendar.name, calendar.timeout, calendar.allowed_tools) == ("calendar", 5, ("find_slot", "book"))
    assert calendar.headers == {"Authorization": "Bearer token-of-the-calendar"}
    assert isinstance(files, MCPServerStdio)
    assert (files.command, files.args, files.allowed_tools) == ("uvx", ("files-server", "--root", "."), None)
    assert files.cwd == str(tmp_path / "data")
    assert redact("sent token-of-the-calendar, 1 time") == "sent ***, 1 time"


def test_an_agent_without_servers_has_none(tmp_path: Path) -> None:
    settings = read(tmp_path, "")
    assert settings.agents[0].mcp == ()
    assert tool_sources(settings.agents[0], beside=settings.file) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "      - name: x",
            f"4: agents[0].mcp[0]: neither url nor command; {EITHER}",
        ),
        (
            "      - {name: x, url: 'https://a.example', command: b}",
            f"4: agents[0].mcp[0]: both url and command; {EITHER}",
        ),
        (
            "      - {name: x, command: b, headers: {a: b}}",
            "4: agents[0].mcp[0].headers: not used beside command",
        ),
        (
            "      - {name: x, url: 'https://a.example/mcp', env: {a: b}}",
            "4: agents[0].mcp[0].env: not used beside url",
        ),
        (
            "      - {name: x, url: 'ws://a.example'}",
            f"4: agents[0].mcp[0].url: the text 'ws://a.example' has the scheme ws; {ADDRESS}",
        ),
        (
            "      - {name: x, url: 'https://me:secret@a.example'}",
            f"4: agents[0].mcp[0].url: an address with a user or a password in it; {ADDRESS}",
        ),
        (
            "      - {name: x, command: b}\n      - {name: x, command: c}",
            "5: agents[0].mcp[1].name: 'x' is another's too; expected its own",
        ),
        (
            "      - {command: b}",
            f"4: agents[0].mcp[0].name: missing; {NAME}",
        ),
        (
            "      - {name: 'a b', command: b}",
            f"4: agents[0].mcp[0].name: the text 'a b'; {NAME}",
        ),
        (
            "      - {name: x, command: b, env: [a]}",
            "4: agents[0].mcp[0].env: a list; expected a mapping of names to texts",
        ),
        (
            "      - {name: x, command: b, env: {a: 1}}",
            "4: agents[0].mcp[0].env.a: the number 1; expected text, in quotes",
        ),
        (
            "      - {name: x, command: b, timeout: 0}",
            "4: agents[0].mcp[0].timeout: the number 0; expected a number above 0, at most 86400",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    assert mistakes(tmp_path, text) == [said]


def test_the_extra_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == "mcp" else real(name, *rest)

    monkeypatch.setattr("greenroom.settings_file.find_spec", find_spec)
    assert mistakes(tmp_path, "      - {name: x, command: b}") == [
        "3: agents[0].mcp: needs mcp, which is not installed; expected after: pip install 'greenroom[mcp]'"
    ]
