"""A recorded call becomes a test that pytest runs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from greenroom.dialog.endpoint import EndpointRules
from greenroom.dialog.turns import TurnRules
from greenroom.errors import GreenroomError
from greenroom.journal.reader import Journal, read
from greenroom.journal.regression import default_name, write_test
from greenroom.journal.replay import compare

from .calls import RULES, call_header, journal_of, path_of, write


def run(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    return subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=False, timeout=120)


def decided_otherwise(folder: Path) -> Journal:
    """A call as another greenroom would have held it: it waited for longer."""
    patient = replace(RULES, turns=TurnRules(endpoint=EndpointRules(min_delay=1.5)))
    content = path_of(write(folder / "patient", rules=patient)).read_bytes()
    other = folder / "other.journal"
    other.write_bytes(content)
    journal = read(other)
    return replace(journal, header=replace(journal.header, rules=RULES))


def test_the_test_of_a_call_passes_and_fails_when_a_decision_is_another(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "journals")
    file = tmp_path / default_name(journal)
    beside = write_test(journal, file)
    assert (file.name, beside) == ("test_call_AJ_x.py", tmp_path / "test_call_AJ_x.journal")
    assert beside.read_bytes() == journal.path.read_bytes()
    passed = run(file)
    assert (passed.returncode, "1 passed" in passed.stdout) == (0, True), passed.stdout
    code = file.read_text().replace("compare(read(", "compare(read_patiently(")
    file.write_text(
        code.replace(
            "\n\ndef test_",
            "\n\ndef read_patiently(path):\n    import dataclasses as d\n    j = read(path)\n"
            "    e = d.replace(j.header.rules.turns.endpoint, min_delay=1.5)\n"
            "    r = d.replace(j.header.rules, turns=d.replace(j.header.rules.turns, endpoint=e))\n"
            "    return d.replace(j, header=d.replace(j.header, rules=r))\n\n\ndef test_",
        )
    )
    failed = run(file)
    assert failed.returncode == 1
    assert "then:  UserTranscribed TurnCommitted RunHook AgentStateChanged" in failed.stdout


def test_todays_decisions_can_be_asserted_instead(tmp_path: Path) -> None:
    journal = decided_otherwise(tmp_path)
    assert compare(journal) is not None
    kept = read(write_test(journal, tmp_path / "test_today.py", today=True))
    assert compare(kept) is None
    assert (kept.header, kept.ending, kept.events) == (journal.header, journal.ending, journal.events)
    assert [record.what for record in kept.records] == [record.what for record in journal.records]


@pytest.mark.parametrize("name", ["call.py", "test_call.txt", "journal"])
def test_a_name_that_pytest_does_not_find(tmp_path: Path, name: str) -> None:
    with pytest.raises(GreenroomError, match=r"pytest would not find it; expected a name like test_call\.py"):
        write_test(journal_of(tmp_path), tmp_path / name)


@pytest.mark.parametrize("there", ["test_x.py", "test_x.journal"])
def test_nothing_is_written_over(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(GreenroomError, match="is there already; expected a new name: --out FILE"):
        write_test(journal_of(tmp_path), tmp_path / "test_x.py")
    assert (tmp_path / there).read_text() == "mine"
    assert not any((tmp_path / name).exists() for name in {"test_x.py", "test_x.journal"} - {there})


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GreenroomError, match=r"nowhere/test_x\.journal: cannot be written \(No such file"):
        write_test(journal_of(tmp_path), tmp_path / "nowhere" / "test_x.py")


def test_the_name_is_made_of_the_job(tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    named = replace(journal, header=replace(call_header(), job="AJ-1/../é"))
    assert default_name(named) == "test_call_AJ_1_____.py"
