"""The command line, as a person types it: real processes, except where only the passing on of options is looked at."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from greenroom import cli
from greenroom.daemon import __main__ as daemon
from greenroom.embedded import call, dev
from greenroom.embedded.call import CallOptions
from greenroom.errors import GreenroomError
from greenroom.version import __version__

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "config" / "demo.yaml"
SERVER = {"LIVEKIT_URL": "ws://127.0.0.1:9", "LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "hunter22hunter22"}
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith(("LIVEKIT_", "GREENROOM_"))}
COMMANDS = ["start", "dev", "check", "call", "schema", "journal", "status", "drain", "doctor", "providers"]


def greenroom(*words: str, env: Mapping[str, str] = SERVER, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "greenroom", *words],
        env={**CLEAN, **env},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).with_name("greenroom")
    result = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"greenroom {__version__}\n"


def test_without_a_word_it_says_what_there_is() -> None:
    result = greenroom()
    assert result.returncode == 2
    shown = result.stdout + result.stderr
    assert [line.split()[0] for line in shown.partition("Commands:\n")[2].splitlines() if line.startswith("  ")][
        :-1
    ] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_enough(command: str) -> None:
    result = CliRunner().invoke(cli.app, [command, "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert "Example" in result.output
    options = re.findall(r"^  +(?:-\w, )?(--[\w-]+)", result.output, re.MULTILINE)
    described = re.findall(r"^  +(?:-\w, )?--[\w/ -]+?(?: [A-Z]+)?(?:  +|\n +)(\S.*)$", result.output, re.MULTILINE)
    assert len(options) == len(described) >= 1
    assert max(len(line) for line in result.output.splitlines()) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_each_example_of_the_help_can_be_typed(command: str) -> None:
    shown = CliRunner().invoke(cli.app, [command, "--help"], terminal_width=80).output
    examples = re.findall(rf"^ +(?:\w+=\S+ )?greenroom {command}\b(.*?)(?:   .*| > .*)?$", shown, re.MULTILINE)
    assert examples
    parser = cast("Any", get_command(cli.app)).commands[command]
    for example in examples:
        with parser.make_context(command, shlex.split(example)) as context:
            assert set(context.params) >= set(re.findall(r"--(\w+)", example))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["begin"], "No such command 'begin'"),
        (["start"], "Missing option '--config'"),
        (["start", "--confg", "x"], "No such option: --confg"),
        (["check"], "Missing argument 'FILE'"),
        (["dev", "--port", "x"], "Invalid value for '--port'"),
        (["dev", "--port", "65536"], "Invalid value for '--port'"),
    ],
)
def test_words_that_are_none_of_ours(words: list[str], said: str) -> None:
    result = greenroom(*words)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_check_of_files_that_are_right() -> None:
    result = greenroom("check", "config/demo.yaml", "config/worker.yaml")
    assert result.stdout == "config/demo.yaml: right; agent: demo\nconfig/worker.yaml: right; agent: reception\n"
    assert (result.stderr, result.returncode) == ("", 0)
    assert greenroom("check", "--quiet", "config/demo.yaml").stdout == ""


def test_check_goes_on_after_a_file_that_is_wrong(tmp_path: Path) -> None:
    result = greenroom("check", str(tmp_path / "missing.yaml"), "config/demo.yaml")
    assert result.stderr == f"{tmp_path}/missing.yaml: no such file; expected a YAML file\n"
    assert result.stdout == "config/demo.yaml: right; agent: demo\n"
    assert result.returncode == 2


def test_check_finds_the_modules_beside_the_file_and_in_the_folder(tmp_path: Path) -> None:
    beside, here = tmp_path / "beside", tmp_path / "here"
    beside.mkdir()
    here.mkdir()
    agent = "import greenroom\n\nclass Mine(greenroom.Agent):\n    pass\n"
    (beside / "one.py").write_text(agent)
    (here / "two.py").write_text(agent)
    (beside / "worker.yaml").write_text("agents:\n  - {name: a, agent: 'one:Mine'}\n  - {name: b, agent: 'two:Mine'}\n")
    result = greenroom("check", "../beside/worker.yaml", cwd=here)
    assert (result.stdout, result.returncode) == ("../beside/worker.yaml: right; agents: a, b\n", 0)


def test_a_module_that_exits_is_a_mistake_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys\n\nsys.exit('run me')\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "w.yaml").write_text("agents:\n  - agent: script:A\n  - {name: b, agent: 'broken:A'}\n")
    result = greenroom("check", "w.yaml", cwd=tmp_path)
    said = [
        f"2: agents[0].agent: importing script raised SystemExit: run me ({tmp_path}/script.py:3)",
        f"3: agents[1].agent: importing broken raised SyntaxError: invalid syntax ({tmp_path}/broken.py:1)",
    ]
    assert result.stderr.splitlines() == [f"w.yaml:{line}; expected an import that works" for line in said]
    assert result.returncode == 2


def test_schema_is_json() -> None:
    result = greenroom("schema")
    assert result.returncode == 0
    assert result.stdout == (ROOT / "config" / "schema.json").read_text()
    assert json.loads(result.stdout)["title"] == "greenroom settings"


def test_start_says_each_mistake_once_and_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text("agents:\n  - llm: {plugin: piper}\nlogs: {level: loud}\n")
    result = greenroom("start", "-c", str(file))
    assert result.stderr.splitlines() == [
        (
            f"{file}:2: agents[0].llm.plugin: plugin `piper` offers tts; "
            "expected one for llm: openai, openai_realtime, script"
        ),
        f"{file}:3: logs.level: the text 'loud'; expected one of debug, error, info, warning",
    ]
    assert (result.stdout, result.returncode) == ("", 2)


def test_start_takes_its_file_from_the_environment(tmp_path: Path) -> None:
    result = greenroom("start", "--no-check", env={**SERVER, "GREENROOM_CONFIG": str(tmp_path / "w.yaml")})
    assert result.stderr == f"{tmp_path}/w.yaml: no such file; expected a YAML file\n"
    assert result.returncode == 2


def test_an_agent_that_hangs_when_imported_does_not_hang_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow.py").write_text("import threading\n\nthreading.Event().wait()\n")
    file = tmp_path / "w.yaml"
    file.write_text("agents:\n  - agent: slow:A\n")
    monkeypatch.setattr(daemon, "CHECK_TIMEOUT", 2.0)
    with pytest.raises(GreenroomError) as raised:
        daemon.start(str(file), check=True, takeover=False)
    assert str(raised.value) == f"{file}: not checked within 2 s; expected agents that import sooner, or --no-check"


def test_a_traceback_is_shown_only_when_asked_for(tmp_path: Path) -> None:
    words = ("start", "--no-check", "-c", str(tmp_path / "w.yaml"))
    assert "Traceback" not in greenroom(*words).stderr
    asked = greenroom(*words, env={**SERVER, "GREENROOM_DEBUG": "1"})
    assert asked.stderr.startswith("Traceback (most recent call last):\n")
    assert asked.returncode == 1


def test_a_worker_whose_server_is_away_stops_when_asked(tmp_path: Path) -> None:
    """The way from the command to a running daemon, its log and its end; what it does meanwhile is tested elsewhere."""
    file = tmp_path / "w.yaml"
    file.write_text(f"agents:\n  - llm: {{plugin: script}}\nworker: {{warm: 0, run_dir: {tmp_path}/run}}\n")
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "greenroom", "start", "-c", str(file)],
        env={**CLEAN, **SERVER},
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stderr is not None
        # With its second line it has its signal handlers.
        lines = [worker.stderr.readline(), worker.stderr.readline()]
        # What runs for months is neither the command line nor anything that it loads.
        words = Path(f"/proc/{worker.pid}/cmdline").read_text().split("\0")
        assert "-Werror" in words
        assert words[-5:] == ["-P", "-m", "greenroom.daemon", str(file), ""]
        mapped = Path(f"/proc/{worker.pid}/maps").read_text()
        assert "uvloop" in mapped
        assert "pydantic" not in mapped
        assert "cryptography" not in mapped
        worker.send_signal(signal.SIGTERM)
        lines += worker.stderr.readlines()
        assert worker.wait(30) == 0
    entries = [json.loads(line) for line in lines]
    assert (entries[0]["event"], entries[-1]["event"]) == ("starting", "stopped")
    assert {entry["level"] for entry in entries} <= {"info", "warning"}
    assert SERVER["LIVEKIT_API_SECRET"] not in "".join(lines)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["call", "--agent", "demo"], 2, "nothing to say; expected --say TEXT or --wav FILE"),
        (["call", "--say", "hi", "-c", "missing.yaml"], 2, "missing.yaml: no such file; expected a YAML file"),
        (["call", "--say", "hi"], 3, "no LiveKit server answers at ws://127.0.0.1:9"),
        (["dev", "-c", "missing.yaml"], 2, "missing.yaml: no such file; expected a YAML file"),
    ],
)
def test_a_call_that_cannot_be_made_says_why(words: list[str], code: int, said: str) -> None:
    result = greenroom(*words)
    assert said in " ".join((result.stderr + result.stdout).split())
    assert "Traceback" not in result.stderr
    assert result.returncode == code


def test_call_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[CallOptions] = []

    def run(options: CallOptions) -> int:
        seen.append(options)
        return 4

    monkeypatch.setattr(call, "run", run)
    words = "call --say one --say two --wav a.wav --out b.wav --embedded --agent x --url ws://h --json -v"
    result = CliRunner().invoke(cli.app, [*words.split(), "--agent-timeout", "3", "--answer-timeout", "4.5"])
    assert result.exit_code == 4
    assert seen == [
        CallOptions(
            config=cli.DEMO,
            embedded=True,
            url="ws://h",
            agent="x",
            say=("one", "two"),
            wav=(Path("a.wav"),),
            out=Path("b.wav"),
            json=True,
            agent_timeout=3.0,
            answer_timeout=4.5,
            verbose=True,
        )
    ]
    CliRunner().invoke(cli.app, ["call", "--say", "one"])
    assert seen[1] == CallOptions(say=("one",))


def test_dev_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Path, dict[str, Any]]] = []

    def run(config: Path, **options: Any) -> int:
        seen.append((config, options))
        return 0

    monkeypatch.setattr(dev, "run", run)
    assert CliRunner().invoke(cli.app, ["dev"]).exit_code == 0
    CliRunner().invoke(cli.app, ["dev", "-c", str(DEMO), "--port", "0", "--no-reload", "--no-open"])
    assert seen == [
        (cli.DEMO, {"port": 8080, "reload": True, "open_browser": True}),
        (DEMO, {"port": 0, "reload": False, "open_browser": False}),
    ]


def test_the_process_of_a_worker_loads_nothing_that_only_a_job_needs() -> None:
    code = (
        "import sys, greenroom.cli, greenroom.daemon.daemon, greenroom.ops.logs, greenroom.settings_file\n"
        "names = ('numpy', 'livekit.rtc', 'greenroom.providers', 'greenroom.session', 'greenroom_plugins')\n"
        "print([name for name in names if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
