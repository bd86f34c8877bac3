"""Written as it happens, read back as it was, broken ones told apart."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.dialog.events import (
    Announce,
    Event,
    Generated,
    RequestedCall,
    Started,
    Tick,
    Transcribed,
    TurnCommitted,
    UserStarted,
    UserStopped,
)
from greenroom.journal.format import JournalBroken, decode_event, encode_event
from greenroom.journal.reader import read, replay
from greenroom.journal.writer import JournalWriter

CALL: list[tuple[float, Event]] = [
    (7.5, Started()),
    (8.784000000000001, UserStarted("utterance_1", 8.692)),
    (9.95, UserStopped("utterance_1", 9.7)),
    (10.05, Transcribed("utterance_1", "naïve “question”", confidence=0.5)),
    (10.2, Tick()),
]


def write(folder: Path) -> Path:
    writer = JournalWriter(folder, job="AJ_x/../y", room="hall", agent="demo", began=7.5)
    for now, event in CALL:
        writer.write(event, now)
    writer.close()
    writer.close()
    return writer.path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "journals")
    assert path.name == "AJ_x_.._y.journal"
    assert path.stat().st_mode & 0o777 == 0o600
    journal = read(path)
    assert (journal.header.room, journal.header.agent, journal.header.began) == ("hall", "demo", 7.5)
    assert list(journal.events) == CALL
    assert not journal.cut


def test_a_replay_gives_the_commands(tmp_path: Path) -> None:
    steps = replay(read(write(tmp_path)))
    assert Announce(TurnCommitted("turn_1", "naïve “question”", 9.7)) in steps[-1][2]


def test_each_event_is_with_the_kernel_before_it_is_handled(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, job="j", room="r", agent="a", began=0.0)
    writer.write(Started(), 1.0)
    assert [event for _, event in read(writer.path).events] == [Started()]
    writer.close()


def test_a_line_that_a_killed_process_left_incomplete_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:-7])
    journal = read(path)
    assert journal.cut
    assert list(journal.events) == CALL[:-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [], ":1: no whole line; expected a journal header"),
        (lambda lines: [b"{}", *lines[1:]], ":1: the first line is no journal header"),
        (
            lambda lines: [lines[0].replace(b'journal":1', b'journal":9'), *lines[1:]],
            ":1: a journal of version 9; expected version 1",
        ),
        (lambda lines: [*lines[:3], b"\xff\x00", *lines[3:]], ":4: no event"),
        (lambda lines: [*lines[:2], b'[1.0,"Exploded",{}]', *lines[2:]], ":3: an unknown event 'Exploded'"),
        (lambda lines: [*lines[:2], b'[1.0,"UserStarted",{"utterance":3}]'], ":3: no event"),
    ],
)
def test_a_broken_journal_says_where(tmp_path: Path, change: Any, message: str) -> None:
    path = write(tmp_path)
    lines = path.read_bytes().split(b"\n")[:-1]
    path.write_bytes(b"".join(line + b"\n" for line in change(lines)))
    with pytest.raises(JournalBroken) as error:
        read(path)
    assert f"{path}{message}" in str(error.value)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk_stops_the_journal_and_not_the_call(tmp_path: Path) -> None:
    (tmp_path / "j.journal").symlink_to("/dev/full")
    writer = JournalWriter(tmp_path, job="j", room="r", agent="a", began=0.0)
    writer.write(Started(), 1.0)
    writer.write(Tick(), 2.0)
    writer.close()


def test_a_folder_that_cannot_be_made_stops_the_journal_and_not_the_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = JournalWriter(tmp_path / "file" / "journals", job="j", room="r", agent="a", began=0.0)
    writer.write(Started(), 1.0)
    writer.close()


def events() -> st.SearchStrategy[Event]:
    calls = st.builds(RequestedCall, st.text(), st.text(), st.text())
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    kinds = []
    for cls in get_args(Event):
        given: dict[str, Any] = {"calls": st.tuples(calls)} if cls is Generated else {}
        given |= {f.name: numbers for f in fields(cls) if f.type in ("float", "float | None")}
        kinds.append(st.builds(cls, **given))
    return st.one_of(kinds)


@given(st.floats(allow_nan=False, allow_infinity=False), events())
def test_every_event_survives_the_trip(now: float, event: Event) -> None:
    if any(isinstance(v, float) and v != v for v in (getattr(event, f, 0) for f in event.__slots__)):
        return
    try:
        line = encode_event(event, now)
    except UnicodeEncodeError:
        return  # lone surrogates never come out of JSON or protobuf
    assert decode_event(line) == (now, event)
