"""How long journals are kept, and what is said of those that are."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from greenroom.dialog.events import UserTyped
from greenroom.journal.shelf import FRESH, prune, survey, tidy_up
from greenroom.journal.writer import MEGABYTE, JournalWriter
from greenroom.settings import JournalSettings

from .calls import CALL, call_header, path_of, write

NOW = 1_800_000_000.0
DAY = 86_400.0


def kept(folder: Path, job: str, *, days: float, size: int = 0) -> Path:
    """A closed journal that was last written to so many days ago, as large as asked for."""
    path = path_of(write(folder, job=job))
    if size:
        with path.open("ab") as file:
            file.truncate(size)
    os.utime(path, (NOW - days * DAY, NOW - days * DAY))
    return path


def names(paths: list[Path]) -> list[str]:
    return sorted(path.stem for path in paths)


def test_journals_are_deleted_when_they_are_old(tmp_path: Path) -> None:
    for days in (0.5, 29, 31, 400):
        kept(tmp_path, f"d{days}", days=days)
    assert names(prune(tmp_path, JournalSettings(keep_days=30), now=NOW)) == ["d31", "d400"]
    assert names(prune(tmp_path, JournalSettings(keep_days=0, keep_mb=0), now=NOW)) == []
    assert names(list(tmp_path.iterdir())) == ["d0.5", "d29"]


def test_the_oldest_are_deleted_while_all_are_too_large(tmp_path: Path) -> None:
    for days in (1, 2, 3, 4):
        kept(tmp_path, f"d{days}", days=days, size=MEGABYTE)
    assert names(prune(tmp_path, JournalSettings(keep_mb=2), now=NOW)) == ["d3", "d4"]
    assert names(prune(tmp_path, JournalSettings(keep_mb=2), now=NOW)) == []


def test_a_journal_of_a_call_that_goes_on_is_kept_whatever_it_is(tmp_path: Path) -> None:
    living = JournalWriter(tmp_path, call_header(job="living"))
    os.utime(path_of(living), (NOW - 90 * DAY, NOW - 90 * DAY))
    kept(tmp_path, "dead", days=90)
    settings = JournalSettings(keep_days=1, keep_mb=1)
    assert names(prune(tmp_path, settings, now=NOW)) == ["dead"]
    living.close()
    os.utime(path_of(living), (NOW - 90 * DAY, NOW - 90 * DAY))
    assert names(prune(tmp_path, settings, now=NOW)) == ["living"]


def test_a_journal_that_has_just_been_broken_off_is_kept_for_its_recovery(tmp_path: Path) -> None:
    kept(tmp_path, "fresh", days=0.9 * FRESH / DAY, size=2 * MEGABYTE)
    kept(tmp_path, "old", days=1.1 * FRESH / DAY, size=2 * MEGABYTE)
    assert names(prune(tmp_path, JournalSettings(keep_mb=1), now=NOW)) == ["old"]


def test_nothing_but_journals_is_deleted(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    folder = tmp_path / "journals"
    folder.mkdir()
    (folder / "link.journal").symlink_to(outside)
    (folder / "folder.journal").mkdir()
    (folder / "notes.txt").write_text("x")
    for path in folder.iterdir():
        os.utime(path, (1.0, 1.0), follow_symlinks=False)
    assert prune(folder, JournalSettings(keep_days=1), now=NOW) == []
    assert len(list(folder.iterdir())) == 3


def test_tidying_up_is_done_by_a_thread(tmp_path: Path) -> None:
    path = path_of(write(tmp_path))
    old = time.time() - 2 * DAY
    os.utime(path, (old, old))
    tidy_up(tmp_path, JournalSettings(keep_days=1))
    tidy_up(tmp_path / "nowhere", JournalSettings())
    for thread in threading.enumerate():
        if thread.name == "old journals":
            thread.join(10)
    assert not path.exists()


def test_a_survey_says_how_each_ended(tmp_path: Path) -> None:
    write(tmp_path, job="closed")
    broken_off = path_of(write(tmp_path, job="broken_off"))
    broken_off.write_bytes(broken_off.read_bytes()[:2000])
    living = write(tmp_path, job="living", until=103.0, close=False)
    changed = path_of(write(tmp_path, job="changed"))
    changed.write_bytes(changed.read_bytes().replace(b"Paris", b"Berne"))
    long = JournalWriter(tmp_path, call_header(job="long"), settings=JournalSettings(max_mb=1))
    long.write(UserTyped("x" * MEGABYTE), 101.0)
    found = {one.path.stem: one for one in survey(tmp_path)}
    living.close()
    assert {name: one.state for name, one in found.items()} == {
        "closed": "closed",
        "broken_off": "broken off",
        "living": "living",
        "changed": "unreadable",
        "long": "stopped",
    }
    closed = found["closed"]
    assert (closed.job, closed.room, closed.agent, closed.events) == ("closed", "hall", "demo", len(CALL))
    assert round(closed.seconds, 2) == 7.71
    assert closed.size == closed.path.stat().st_size
    assert "changed.journal:" in found["changed"].error
    assert "max_mb" in found["long"].error
