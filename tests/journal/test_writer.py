"""Written as it happens, by a process that may be killed at any moment, on a disk that may fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from greenroom.dialog.dialog import Dialog
from greenroom.dialog.events import Generated, RequestedCall, Started, Tick, ToolFinished, UserTyped
from greenroom.dialog.history import Message
from greenroom.journal.file import is_living
from greenroom.journal.format import Ending
from greenroom.journal.reader import read
from greenroom.journal.replay import compare
from greenroom.journal.writer import MEGABYTE, JournalWriter
from greenroom.settings import JournalSettings

from .calls import CALL, call_header, path_of, write


@pytest.fixture(autouse=True)
def _plain_logs() -> Iterator[None]:
    """Another test of this process may have configured them."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


def test_the_file_is_its_users_alone_and_named_after_the_job(tmp_path: Path) -> None:
    path = path_of(write(tmp_path / "journals", job="AJ_x/../y"))
    assert path == tmp_path / "journals" / "AJ_x_.._y.journal"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_second_process_of_the_same_call_has_a_file_of_its_own(tmp_path: Path) -> None:
    first = path_of(write(tmp_path, until=103.0, close=False))
    second = path_of(write(tmp_path))
    assert (first.name, second.name) == ("AJ_x.journal", "AJ_x.2.journal")
    assert (read(first).ending, read(second).ending) == (None, Ending("closed"))


def test_each_event_is_with_the_kernel_before_it_is_handled(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, call_header())
    for count, (now, event) in enumerate(CALL, start=1):
        writer.write(event, now)
        assert list(read(path_of(writer)).events) == CALL[:count]
    writer.close()
    writer.close()
    writer.write(Tick(), 200.0)
    assert len(read(path_of(writer)).events) == len(CALL)


def test_what_was_decided_is_written_too(tmp_path: Path) -> None:
    journal = read(path_of(write(tmp_path)))
    names = {type(r.what).__name__: (r.decided or "").rpartition(" ")[0] for r in journal.records}
    assert names["Started"] == "AgentStateChanged"
    assert names["Transcribed"] == "UserTranscribed CancelGeneration Stop"
    assert names["Aired"] == ""
    assert compare(journal) is None


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    """It kills itself after the last write; nobody had a chance to close anything."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.journal.calls import write\n"
        "write(Path(sys.argv[1]), close=False)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, check=False, timeout=60, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    journal = read(tmp_path / "AJ_x.journal")
    assert list(journal.events) == CALL
    assert (journal.ending, journal.cut) == (None, False)


def test_a_journal_is_locked_while_its_process_lives(tmp_path: Path) -> None:
    writer = write(tmp_path, close=False)
    assert is_living(path_of(writer))
    writer.close()
    assert not is_living(path_of(writer))


@pytest.mark.parametrize("fsync", [False, True])
def test_with_and_without_fsync_the_same_is_written(tmp_path: Path, fsync: bool) -> None:
    path = path_of(write(tmp_path, settings=JournalSettings(fsync=fsync)))
    assert list(read(path).events) == CALL
    assert not is_living(path)


def test_a_disk_that_fails_to_sync_stops_the_journal(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, call_header(), settings=JournalSettings(fsync=True))
    assert writer._file is not None
    assert writer._file._syncing is not None
    writer._file._syncing.error = OSError(5, "Input/output error")
    with capture_logs() as logs:
        writer.write(Started(), 100.0)
        writer.write(Tick(), 101.0)
        writer.close()
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("journal stopped", "error")]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk_stops_the_journal_and_not_the_call(tmp_path: Path) -> None:
    writer = write(tmp_path, until=103.0, close=False)
    before = path_of(writer).read_bytes()
    assert writer._file is not None
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        os.dup2(full, writer._file._file)
    finally:
        os.close(full)
    os.link(path_of(writer), tmp_path / "kept")
    with capture_logs() as logs:
        for now, event in CALL:
            writer.write(event, now)
        writer.said("s", 1, text="x", now=200.0)
        writer.close()
    (entry,) = logs
    assert (entry["event"], entry["log_level"]) == ("journal stopped", "error")
    assert "No space left on device" in entry["error"]
    assert path_of(writer).read_bytes() == before
    assert read(path_of(writer)).ending is None


def test_a_disk_that_is_full_within_a_line_keeps_the_lines_before(tmp_path: Path) -> None:
    """A real limit on the size of files: the kernel takes a part of the line, then none."""
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from tests.journal.calls import write\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "write(Path(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, check=True, timeout=60, cwd=root, capture_output=True, text=True)
    assert (done.stdout + done.stderr).count("journal stopped") == 1
    assert "File too large" in done.stdout + done.stderr
    journal = read(tmp_path / "AJ_x.journal")
    assert journal.events == tuple(CALL[: len(journal.events)])
    assert 1500 < (tmp_path / "AJ_x.journal").stat().st_size <= 2000
    assert not journal.cut


def test_a_folder_that_vanishes_stops_the_journal_and_not_the_call(tmp_path: Path) -> None:
    folder = tmp_path / "journals"
    writer = write(folder, until=103.0, close=False)
    path_of(writer).unlink()
    folder.rmdir()
    with capture_logs() as logs:
        for now, event in CALL:
            writer.write(event, now)
        writer.close()
    (entry,) = logs
    assert "was removed" in entry["error"]
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_stops_the_journal_and_not_the_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with capture_logs() as logs:
        writer = JournalWriter(tmp_path / "file" / "journals", call_header())
        writer.write(Started(), 100.0)
        writer.close()
    assert [entry["event"] for entry in logs] == ["journal stopped"]
    assert writer.path is None


def test_a_call_that_is_longer_than_its_journal_may_be(tmp_path: Path) -> None:
    settings = JournalSettings(max_mb=1)
    writer = JournalWriter(tmp_path, call_header(), settings=settings)
    with capture_logs() as logs:
        for count in range(40):
            writer.write(UserTyped("x" * 50_000), 101.0 + count)
        writer.close()
    (entry,) = logs
    assert entry["error"] == "it would grow beyond worker.journal.max_mb (1)"
    journal = read(path_of(writer))
    assert journal.ending == Ending("stopped", "it would grow beyond worker.journal.max_mb (1)")
    assert 0.9 * MEGABYTE < path_of(writer).stat().st_size <= MEGABYTE
    assert compare(journal) is None


def test_a_history_that_is_too_long_leaves_no_empty_file(tmp_path: Path) -> None:
    history = (Message("a", "user", "x" * MEGABYTE),)
    with capture_logs() as logs:
        write(tmp_path, history=history, settings=JournalSettings(max_mb=1))
    assert [entry["event"] for entry in logs] == ["journal stopped"]
    assert list(tmp_path.iterdir()) == []


def test_text_that_no_file_can_hold_is_mended(tmp_path: Path) -> None:
    """A model's JSON may hold half a character, a tool's output a file name that is no text."""
    call = RequestedCall("c", "look", '{"x": "\ud83d"}')
    events = [
        (100.0, Started()),
        (101.0, UserTyped("ok \ud83d\ude00 \udcff")),
        (102.0, Generated("reply_turn_1", 1, "end", "", (call,))),
        (103.0, ToolFinished("reply_turn_1", "c", "a\udcffb")),
    ]
    journal = read(path_of(write(tmp_path, events=events)))  # type: ignore[arg-type]
    assert journal.events[1][1] == UserTyped("ok 😀 �")
    assert journal.events[3][1] == ToolFinished("reply_turn_1", "c", "a�b")
    assert compare(journal) is None


def test_what_is_no_text_stops_the_journal_and_not_the_call(tmp_path: Path) -> None:
    with capture_logs() as logs:
        writer = write(tmp_path, events=[(100.0, Started()), (101.0, UserTyped(b"\xff"))])  # type: ignore[arg-type]
    assert [entry["event"] for entry in logs] == ["journal stopped"]
    assert len(read(path_of(writer)).events) == 1


def test_a_mistake_of_the_dialogs_is_the_calls_to_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event that it fails on is in the journal all the same: that is the one that is looked for."""
    handle = Dialog.handle

    def failing(dialog: Dialog, event: object, now: float) -> list[object]:
        if now >= 103.7:
            raise KeyError("turn_1")
        return handle(dialog, event, now)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(Dialog, "handle", failing)
    journal = read(path_of(write(tmp_path)))
    assert [record.decided for record in journal.records if record.now >= 103.7 and record.decided] == []
    monkeypatch.undo()
    assert list(journal.events) == CALL
    assert compare(journal) is None
