"""From a file to ``Settings``, and the mistakes that the broken files do not show."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from greenroom.errors import SettingsError
from greenroom.settings import AgentSettings, ProviderSettings, ServerSettings, Settings
from greenroom.settings_file import InvalidSettings, load

SERVER = {"LIVEKIT_URL": "ws://127.0.0.1:7880", "LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "very-secret-value"}
AGENT = "agents:\n  - llm: {plugin: script}\n"

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> Path:
        file = tmp_path / "worker.yaml"
        file.write_text(text)
        return file

    return write_file


def mistakes(file: Path, *, environ: Mapping[str, str] = SERVER, **checks: Any) -> list[str]:
    """What is said of the file, without its name."""
    with pytest.raises(InvalidSettings) as caught:
        load(file, environ=environ, **checks)
    assert isinstance(caught.value, SettingsError)
    return [line.removeprefix(f"{file}:") for line in str(caught.value).splitlines()]


def test_a_small_file_has_every_default(write: Write) -> None:
    file = write(AGENT)
    settings = load(file, environ={**SERVER, "XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/home/joe"})
    assert settings.server.url == "ws://127.0.0.1:7880"
    assert settings.agents == (AgentSettings(llm=ProviderSettings("script")),)
    assert settings.worker.max_jobs == 10
    assert settings.worker.run_dir == "/run/user/7/greenroom"
    assert settings.worker.state_dir == "/home/joe/.local/state/greenroom"
    assert settings.file == str(file)
    assert Settings.decode(settings.encode()) == settings


def test_options_stand_beside_the_plugin(write: Write) -> None:
    file = write("agents:\n  - llm: {plugin: script, gap: 0.1, rules: [{when: hi, say: ho}]}\n")
    (agent,) = load(file, environ=SERVER).agents
    assert agent.llm == ProviderSettings("script", {"gap": 0.1, "rules": [{"when": "hi", "say": "ho"}]})


def test_the_file_comes_before_the_environment(write: Write) -> None:
    file = write(f"server: {{url: wss://calls.example.com, api_key: other}}\n{AGENT}")
    server = load(file, environ=SERVER).server
    assert (server.url, server.api_key, server.api_secret) == ("wss://calls.example.com", "other", "very-secret-value")


@pytest.mark.parametrize("server", ["", "server:\n", "server: {}\n"])
def test_a_server_that_nobody_names_is_one_mistake(write: Write, server: str) -> None:
    (mistake,) = mistakes(write(server + AGENT), environ={})
    variables = "LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET"
    assert mistake == (f"1: server: no url, api_key, api_secret; expected them here, or {variables} in the environment")


def test_what_is_missing_of_a_server_is_named(write: Write) -> None:
    file = write(f"{AGENT}server:\n  url: ws://localhost\n")
    assert mistakes(file, environ={"LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": ""}) == [
        "3: server.api_secret: missing; expected it here, or LIVEKIT_API_SECRET in the environment"
    ]


@pytest.mark.parametrize("text", ["logs:\n", "logs: {level: info}\n"])
def test_a_file_without_agents(write: Write, text: str) -> None:
    assert mistakes(write(text)) == ["1: agents: missing; expected a list of mappings"]


@pytest.mark.parametrize(
    ("agents", "said"),
    [
        ("agents:\n", "1: agents: missing; expected a list of mappings"),
        ("agents: []\n", "1: agents: an empty list; expected a list of mappings, at least one"),
        ("agents: {name: a}\n", "1: agents: a mapping; expected a list of mappings"),
        ("agents: [demo]\n", "1: agents[0]: the text 'demo'; expected a mapping with keys among name, agent,"),
        ("agents:\n  -\n", "2: agents[0]: nothing; expected a mapping with keys among name, agent,"),
    ],
)
def test_agents_that_are_none(write: Write, agents: str, said: str) -> None:
    (mistake,) = mistakes(write(agents))
    assert mistake.startswith(said)


@pytest.mark.parametrize("text", ["just text", "- a\n- b\n", "12"])
def test_a_file_that_is_no_mapping(write: Write, text: str) -> None:
    (mistake,) = mistakes(write(text))
    assert mistake.startswith("1: ")
    assert mistake.endswith("; expected a mapping with keys among server, agents, worker, logs")


def test_sections_with_nothing_in_them_have_their_defaults(write: Write) -> None:
    file = write(
        "agents:\n  - llm: {plugin: script}\n    vad:\n    warm:\n    turns:\n      voice_activity:\n"
        "worker:\n  preload:\n  deadlines:\nlogs:\n"
    )
    settings = load(file, environ=SERVER)
    assert settings.agents == (AgentSettings(llm=ProviderSettings("script")),)
    assert settings.worker.preload == ()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("worker: {warm: }", "worker.warm: nothing; expected a whole number from 0 to 10000"),
        ("worker: {warm: 1.5}", "worker.warm: the number 1.5; expected a whole number from 0 to 10000"),
        ("worker: {warm: true}", "worker.warm: true; expected a whole number from 0 to 10000"),
        ("worker: {warm: -1}", "worker.warm: the number -1; expected a whole number from 0 to 10000"),
        ("worker: {max_jobs: 99999999999999999999}", None),
        ("worker: {deadlines: {end: 0}}", None),
        ("worker: {deadlines: {boot: .nan}}", None),
        ("worker: {deadlines: {boot: .inf}}", None),
        ("worker: {deadlines: {boot: '3'}}", None),
        ("worker: {run_dir: 5}", "worker.run_dir: the number 5; expected text, in quotes"),
        ("worker: {run_dir: true}", "worker.run_dir: true; expected text, in quotes"),
        ("worker: {preload: [a, 2]}", "worker.preload[1]: the number 2; expected text, in quotes"),
        ("worker: {preload: a}", "worker.preload: the text 'a'; expected a list of texts"),
        (
            "logs: {level: warn}",
            "logs.level: the text 'warn'; expected one of debug, error, info, warning; did you mean warning?",
        ),
        ("logs: {level: [info]}", "logs.level: a list; expected one of debug, error, info, warning"),
        ("file: /etc/passwd", "file: unknown key; expected one of agents, logs, server, worker"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_what_was_expected(write: Write, section: str, said: str | None) -> None:
    (mistake,) = mistakes(write(f"{AGENT}{section}\n"))
    assert said is None or mistake == f"3: {said}"
    assert "; expected " in mistake


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ("name: a b", "name: the text 'a b'; expected letters, digits, '.', '_' and '-', at most 128 of them"),
        ("name: 12", "name: the number 12; expected letters, digits, '.', '_' and '-', at most 128 of them"),
        ('name: "a\\n"', None),
        (f"name: {'a' * 129}", None),
        ("vad: silero", "vad: the text 'silero'; expected a mapping such as {plugin: silero}"),
        ("vad: [silero]", "vad: a list; expected a mapping such as {plugin: silero}"),
        ("vad: {gate: 3}", "vad.plugin: missing; expected a plugin's name, such as {plugin: silero}"),
        ("tts: {plugin: 3}", "tts.plugin: the number 3; expected a plugin's name, such as {plugin: piper}"),
        ("tts: {plugin: ''}", "tts.plugin: the text ''; expected a plugin's name, such as {plugin: piper}"),
        ("stt: {plugin: whisper}", "vad: missing; expected voice activity beside stt, such as vad: {plugin: silero}"),
        (
            "job_types: []",
            "job_types: an empty list; expected a list out of participant, publisher, room, at least one",
        ),
        ("job_types: [room, room]", "job_types[1]: room is written twice; expected it once"),
        ("job_types: [rooms]", None),
        ("agent: 'a b:C'", "agent: the text 'a b:C'; expected module:Class, such as reception:Reception"),
        ("agent: reception.py:Reception", None),
        ("agent: 'reception:'", None),
    ],
)  # fmt: skip
def test_mistakes_in_an_agent(write: Write, agent: str, said: str | None) -> None:
    (mistake,) = mistakes(write(f"agents:\n  - llm: {{plugin: script}}\n    {agent}\n"))
    if said is not None:
        line = 2 if said.startswith("vad: missing") else 3
        assert mistake == f"{line}: agents[0].{said}"


def test_words_that_a_class_would_not_hear_are_refused(write: Write) -> None:
    file = write("agents:\n  - agent: reception:Reception\n    greeting: Hello\n    instructions: Be brief\n")
    assert mistakes(file) == [
        "3: agents[0].greeting: not used beside agent; expected it in the agent's class",
        "4: agents[0].instructions: not used beside agent; expected it in the agent's class",
    ]


@pytest.mark.parametrize(
    "url",
    ["ws://localhost", "wss://calls.example.com:443/", "http://[::1]:7880", "https://example.com/livekit"],
)
def test_addresses_of_a_media_server(write: Write, url: str) -> None:
    assert load(write(f"server: {{url: '{url}'}}\n{AGENT}"), environ=SERVER).server.url == url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("calls.example.com", "the text 'calls.example.com' has no scheme"),
        ("localhost:7880", "the text 'localhost:7880' has no scheme"),
        ("ftp://host", "the text 'ftp://host' has the scheme ftp"),
        ("ws://", "the text 'ws://' has no host"),
        ("ws://:7880", "the text 'ws://:7880' has no host"),
        ("ws://a host", "the text 'ws://a host' has no host"),
        ("ws://host:0", "the text 'ws://host:0' has port 0"),
        ("ws://host:99999", "not an address (Port out of range 0-65535)"),
        ("ws://host:port", "not an address (Port could not be cast to integer value as 'port')"),
        ("ws://[::1", "not an address (Invalid IPv6 URL)"),
        ("ws://joe:hunter22@host", "an address with a user or a password in it"),
        ("ws://host?token=hunter22", "an address with a query or a fragment"),
    ],
)
def test_what_is_no_address(write: Write, url: str, problem: str) -> None:
    (mistake,) = mistakes(write(f"{AGENT}server:\n  url: '{url}'\n"))
    assert mistake == f"4: server.url: {problem}; expected ws://HOST, wss://HOST, http://HOST or https://HOST"
    assert "hunter22" not in mistake


def test_an_address_from_the_environment_is_said_to_be_from_there(write: Write) -> None:
    (mistake,) = mistakes(write(AGENT), environ={**SERVER, "LIVEKIT_URL": "nonsense"})
    assert mistake.startswith(
        "1: server.url: LIVEKIT_URL in the environment: the text 'nonsense' has no scheme; expected"
    )


def test_secrets_are_not_shown(write: Write) -> None:
    text = f"server: {{url: ws://h, api_key: [hunter22], api_secret: {{a: hunter22}}}}\n{AGENT}"
    said = mistakes(write(text))
    assert [line.split(";")[0] for line in said] == ["1: server.api_key: a list", "1: server.api_secret: a mapping"]
    said = mistakes(write(f"server: {{api_secret: 31415926}}\n{AGENT}"))
    assert said == ["1: server.api_secret: a number; expected text of at least one character, in quotes"]


def test_no_repr_shows_a_secret(write: Write) -> None:
    file = write("agents:\n  - llm: {plugin: script, api_key: hunter22}\n")
    shown = repr(load(file, environ=SERVER))
    assert "hunter22" not in shown
    assert "very-secret-value" not in shown
    assert "options=['api_key']" in shown


def test_text_from_the_environment_stays_text(write: Write) -> None:
    file = write(
        "server: {api_key: '${KEY}'}\nagents:\n  - name: ${NAME}\n    warm: ${WARM}\n    llm: {plugin: script}\n"
    )
    settings = load(file, environ={**SERVER, "KEY": "007", "NAME": "12", "WARM": "3"})
    assert settings.server.api_key == "007"
    assert (settings.agents[0].name, settings.agents[0].warm) == ("12", 3)


def test_agents_are_told_apart_by_their_names_alone(write: Write) -> None:
    file = write(
        "agents:\n"
        "  - {name: a, llm: {plugin: script}}\n"
        "  - {name: b, job_types: [room, publisher, participant], llm: {plugin: script}}\n"
        "  - {llm: {plugin: script}}\n"
        "  - {name: a, namespace: night, job_types: [publisher], llm: {plugin: script}}\n"
    )
    assert mistakes(file) == ["5: agents[3].name: 'a' is agents[0]'s too, on line 2; expected a name of its own"]


def test_two_agents_without_a_name_are_the_same(write: Write) -> None:
    file = write("agents:\n  - llm: {plugin: script}\n  - llm: {plugin: script}\n")
    assert mistakes(file) == ["3: agents[1].name: no name is agents[0]'s too, on line 2; expected a name of its own"]


def test_plugins_are_asked_about(write: Write) -> None:
    asked: list[tuple[str, str, Mapping[str, Any]]] = []

    def check(kind: str, name: str, options: Mapping[str, Any]) -> tuple[tuple[str | int, ...], str] | None:
        asked.append((kind, name, options))
        return (("rules", 1, "say"), "no such words; expected others") if kind == "llm" else None

    file = write(
        "agents:\n  - vad: {plugin: silero}\n    llm:\n      plugin: script\n      rules:\n"
        "        - when: a\n          say: b\n        - when: c\n          say: d\n"
        "    stt: {plugin: w, model: '${X}'}\n"
    )
    said = mistakes(file, check_plugin=check)
    assert said == [
        "9: agents[0].llm.rules[1].say: no such words; expected others",
        "10: agents[0].stt.model: the variable X is not set; expected it in the environment, or ${X:-default} here",
    ]
    # What is broken already is not asked about.
    assert [kind for kind, _, _ in asked] == ["vad", "llm"]
    assert asked[0] == ("vad", "silero", {})


def test_agents_are_asked_about(write: Write) -> None:
    file = write("agents:\n  - agent: a:B\n  - {name: x, agent: c.d:E}\n")
    problems = {"a:B": None, "c.d:E": "nobody there; expected someone"}
    assert mistakes(file, check_agent=problems.__getitem__) == ["3: agents[1].agent: nobody there; expected someone"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [("missing.yaml", "no such file; expected a YAML file"), (".", "a folder; expected a YAML file")],
)
def test_a_file_that_is_none(tmp_path: Path, name: str, problem: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load(tmp_path / name, environ=SERVER)
    assert str(caught.value) == f"{tmp_path / name}: {problem}"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    # A file's name that no system call takes, as whoever is root may read any file that there is.
    with pytest.raises(InvalidSettings, match=r"cannot be read \(embedded null byte\); expected a YAML file"):
        load(tmp_path / "a\0b", environ=SERVER)


def test_directories_of_the_file_are_relative_to_it(write: Write) -> None:
    file = write(f"{AGENT}worker: {{run_dir: run, state_dir: /var/lib/x}}\n")
    worker = load(file, environ=SERVER).worker
    assert (worker.run_dir, worker.state_dir) == (str(file.parent / "run"), "/var/lib/x")


def test_reading_settings_loads_nothing_heavy() -> None:
    code = (
        "import sys, greenroom.cli, greenroom.settings_file;"
        "print([name for name in ('numpy', 'livekit', 'greenroom.providers', 'rich') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_the_walk_accepts_what_the_models_accept(write: Write) -> None:
    """The models' defaults, all written out, are right."""
    server = ServerSettings(url="ws://h", api_key="k", api_secret="s")
    whole = Settings(server=server, agents=(AgentSettings(llm=ProviderSettings("script")),))
    written = msgspec.to_builtins(whole)
    del written["file"], written["models"]
    written["agents"][0]["llm"] = {"plugin": "script"}
    settings = load(write(msgspec.json.encode(written).decode()), environ={"HOME": "/h"})
    worker = msgspec.structs.replace(settings.worker, run_dir="", state_dir="")
    assert msgspec.structs.replace(settings, worker=worker, file="") == whole
