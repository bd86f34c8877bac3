"""``greenroom journal``, as a person types it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from greenroom.cli import app
from greenroom.journal.console import journal_app
from tests.cli.test_cli import CLEAN, ROOT, SERVER
from tests.journal.calls import write

COMMANDS = ["list", "show", "replay", "turns", "test"]


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    """A state directory with two journals: a call, and the same call, whose second process went on."""
    folder = tmp_path / "state" / "greenroom" / "journals"
    write(folder)
    write(folder, room="annex")
    return folder


def journal(*words: str, state: Path | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = {**CLEAN, **SERVER, "XDG_STATE_HOME": str(state.parents[1] if state is not None else ROOT / "nowhere")}
    env.pop("STATE_DIRECTORY", None)
    return subprocess.run(
        [sys.executable, "-m", "greenroom", "journal", *words],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_word_it_says_what_there_is() -> None:
    shown = CliRunner().invoke(app, ["journal"], terminal_width=80).output
    listed = [line.split()[0] for line in shown.partition("Commands:\n")[2].splitlines() if line.startswith("  ")]
    assert listed[: len(COMMANDS)] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_enough_and_its_examples_can_be_typed(command: str) -> None:
    shown = CliRunner().invoke(app, ["journal", command, "--help"], terminal_width=80).output
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "Exit codes" in shown
    examples = re.findall(rf"^ +greenroom journal {command}\b(.*)$", shown, re.MULTILINE)
    assert examples
    parser = cast("Any", get_command(journal_app)).commands[command]
    for example in examples:
        with parser.make_context(command, shlex.split(example)) as context:
            assert set(context.params) >= set(re.findall(r"--(\w+)", example))


def test_list(journals: Path) -> None:
    result = journal("list", state=journals)
    assert result.returncode == 0
    for line, room in zip(result.stdout.splitlines(), ("hall", "annex"), strict=True):
        assert re.fullmatch(
            rf"closed      \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d      7\.7 s +\d\.\d KiB  AJ_x  {room}  demo", line
        )
    rows = [json.loads(line) for line in journal("list", "--json", str(journals)).stdout.splitlines()]
    assert [(row["room"], row["state"], row["error"]) for row in rows] == [
        ("hall", "closed", ""),
        ("annex", "closed", ""),
    ]


def test_list_of_where_the_settings_say(journals: Path, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("agents:\n  - llm: {plugin: script}\nworker: {state_dir: state/greenroom}\n")
    result = journal("list", "-c", str(tmp_path / "w.yaml"))
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 2)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert journal("list", str(empty)).stdout == f"{empty}: no journals\n"


def test_show(journals: Path) -> None:
    by_path = journal("show", str(journals / "AJ_x.journal"))
    assert by_path.returncode == 0
    assert "  0:04.950  agent  In Paris it is sunny, — cut off, unheard: and warm" in by_path.stdout
    assert "room       hall" in by_path.stdout
    newest = journal("show", "AJ_x", state=journals)
    assert "room       annex" in newest.stdout
    rows = [json.loads(line) for line in journal("show", "AJ_x", "--json", state=journals).stdout.splitlines()]
    assert [row["kind"] for row in rows][:3] == ["agent", "user", "tool"]


def test_replay_says_that_all_is_the_same_or_what_is_not(journals: Path, tmp_path: Path) -> None:
    path = journals / "AJ_x.journal"
    same = journal("replay", str(path))
    assert (same.returncode, same.stdout) == (0, f"{path}: 31 events, decided as in the call\n")
    # A call of another greenroom: what it decided stands in the journal, and is decided otherwise today.
    other = tmp_path / "other.journal"
    other.write_bytes(_with_another_decision(path))
    differs = journal("replay", str(other))
    assert (differs.returncode, differs.stderr) == (1, "")
    assert differs.stdout.splitlines()[1:] == [
        "  then:  Dance",
        "  today: SpeechCreated Generate Synthesise Play",
        "    Announce(notice=SpeechCreated(speech='speech_1', source='say', text=''))",
        "    Generate(speech='speech_1', step=1, user_text='')",
        "    Synthesise(speech='speech_1', step=1)",
        "    Play(speech='speech_1', step=1)",
    ]
    assert differs.stdout.startswith(f"{other}:3: at 0.000 s: SpeechRequested(speech='speech_1', source='say', ")


def _with_another_decision(path: Path) -> bytes:
    from greenroom.journal.format import Encoder
    from greenroom.journal.reader import read

    whole, encoder = read(path), Encoder()
    lines = [encoder.header(whole.header)]
    for number, record in enumerate(whole.records):
        if record.note is not None:
            lines.append(encoder.note(record.note, record.now))
        elif record.event is not None:
            lines.append(encoder.event(record.event, record.now, "Dance 12345678" if number == 1 else record.decided))
    return b"".join(lines)


def test_turns_as_a_table_a_picture_and_json(journals: Path, tmp_path: Path) -> None:
    picture = tmp_path / "turns.svg"
    result = journal("turns", "AJ_x", "--svg", str(picture), state=journals)
    assert result.returncode == 0
    assert " ".join(result.stdout.splitlines()[1].split()[:11]) == "turn_1 3.000 500 200 100 200 400 250 250 50 1950"
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")  # noqa: S314  # it is our own
    rows = [json.loads(line) for line in journal("turns", "AJ_x", "--json", state=journals).stdout.splitlines()]
    assert [segment["name"] for segment in rows[0]["segments"]][:3] == ["silence", "transcript", "hook"]
    assert journal("turns", "AJ_x", "--svg", str(tmp_path / "no" / "x.svg"), state=journals).returncode == 2


def test_test_writes_a_test_that_passes(journals: Path, tmp_path: Path) -> None:
    written = journal("test", "AJ_x", state=journals, cwd=tmp_path)
    assert (written.returncode, written.stdout) == (0, "test_call_AJ_x.py and test_call_AJ_x.journal, 31 events\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_call_AJ_x.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120).returncode == 0
    again = journal("test", "AJ_x", state=journals, cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr == "test_call_AJ_x.py: is there already; expected a new name: --out FILE\n"

    other = tmp_path / "other.journal"
    other.write_bytes(_with_another_decision(journals / "AJ_x.journal"))
    failing = journal("test", str(other), "--out", "test_other.py", cwd=tmp_path)
    assert "It fails now, since today's code decides otherwise:\n" in failing.stdout
    passing = journal("test", str(other), "--out", "test_today.py", "--today", cwd=tmp_path)
    assert passing.stdout == "test_today.py and test_today.journal, 31 events\n"


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_a_journal_that_cannot_be_read_is_one_line_and_the_code_2(journals: Path, tmp_path: Path, command: str) -> None:
    broken = journals / "AJ_x.journal"
    broken.write_bytes(broken.read_bytes().replace(b"Paris", b"Berne"))
    for words, told in [
        ([str(broken)], f"{broken}:13: the line ends with "),
        (["AJ_nobody"], "AJ_nobody: no such file, and no journal of such a job in "),
        (["no/where"], "no/where: No such file or directory; expected a journal"),
    ]:
        result = journal(command, *words, state=journals)
        assert result.returncode == 2
        assert result.stderr.startswith(told)
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""


def test_list_of_a_folder_that_is_not_there_and_of_a_broken_journal(journals: Path) -> None:
    result = journal("list", str(journals / "nowhere"))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"{journals}/nowhere: No such file or directory; expected a folder with journals\n"
    broken = journals / "AJ_x.journal"
    broken.write_bytes(b"\x00" * 100 + b"\n")
    assert journal("list", state=journals).stdout.count("unreadable") == 1


def test_the_command_line_does_not_load_journals_for_other_commands() -> None:
    code = "import sys, greenroom.cli\nprint([name for name in sys.modules if 'dialog' in name or 'msgspec' in name])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
