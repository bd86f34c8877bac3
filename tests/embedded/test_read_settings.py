"""Which media server counts: the file's, the environment's, or one of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from greenroom.embedded.stack import environment_of, read_settings
from greenroom.errors import SettingsError
from greenroom.settings import ServerSettings

SERVER = ServerSettings(url="wss://calls.example.com", api_key="key", api_secret="secret")
AGENT = "agents:\n  - name: demo\n    llm: {plugin: script}\n"
OPEN = 'server:\n  url: "${LIVEKIT_URL}"\n  api_key: "${LIVEKIT_API_KEY}"\n  api_secret: "${LIVEKIT_API_SECRET}"\n'
NAMED = "server: {url: 'ws://10.0.0.1:7880', api_key: own, api_secret: own-secret}\n"


def write(folder: Path, text: str) -> Path:
    file = folder / "worker.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("head", ["", OPEN, "server: {target_load: 0.5}\n"])
def test_nothing_named_means_one_of_our_own(tmp_path: Path, head: str) -> None:
    settings, server = read_settings(write(tmp_path, head + AGENT), environ={})
    assert server is None
    assert settings.agents[0].name == "demo"


def test_an_empty_variable_names_nothing(tmp_path: Path) -> None:
    _, server = read_settings(write(tmp_path, AGENT), environ={"LIVEKIT_URL": "", "LIVEKIT_API_KEY": ""})
    assert server is None


@pytest.mark.parametrize("head", ["", OPEN])
def test_the_environment_fills_what_the_file_leaves_open(tmp_path: Path, head: str) -> None:
    _, server = read_settings(write(tmp_path, head + AGENT), environ=environment_of(SERVER))
    assert server == SERVER


def test_the_file_wins(tmp_path: Path) -> None:
    _, server = read_settings(write(tmp_path, NAMED + AGENT), environ=environment_of(SERVER))
    assert server is not None
    assert server.url == "ws://10.0.0.1:7880"


def test_an_address_without_its_key_is_a_mistake(tmp_path: Path) -> None:
    file = write(tmp_path, AGENT)
    with pytest.raises(SettingsError, match=r"server.api_key: missing.*LIVEKIT_API_KEY"):
        read_settings(file, environ={"LIVEKIT_URL": SERVER.url, "LIVEKIT_API_SECRET": "s"})
    with pytest.raises(SettingsError, match=r"server.api_secret: missing.*LIVEKIT_API_SECRET"):
        read_settings(file, environ={"LIVEKIT_URL": SERVER.url, "LIVEKIT_API_KEY": "k"})


@pytest.mark.parametrize("head", ["", OPEN])
def test_our_own_server_passes_over_the_environments(tmp_path: Path, head: str) -> None:
    _, server = read_settings(write(tmp_path, head + AGENT), environ=environment_of(SERVER), own_server=True)
    assert server is None


def test_our_own_server_cannot_pass_over_the_files(tmp_path: Path) -> None:
    """The worker would register at the address in the file, and the caller wait elsewhere."""
    with pytest.raises(SettingsError, match=r"server.url: ws://10.0.0.1:7880 is named here"):
        read_settings(write(tmp_path, NAMED + AGENT), environ={}, own_server=True)


def test_other_mistakes_come_out_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"worker.yaml:2: agents"):
        read_settings(write(tmp_path, "agents:\n  - name: demo\n"), environ={})
