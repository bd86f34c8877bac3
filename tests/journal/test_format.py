"""Written as it happened, read back as it was; whatever was changed since is told, with its line."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args
from zlib import crc32

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom.dialog.commands import Announce, Commit
from greenroom.dialog.deadair import DeadAirRules
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.endpoint import EndpointRules
from greenroom.dialog.events import Event, Generated, RequestedCall, SpeechRequested, Started, TurnJudged
from greenroom.dialog.history import FunctionCall, FunctionCallOutput, Message
from greenroom.dialog.interruption import InterruptionRules
from greenroom.dialog.notices import AgentStateChanged, UserStateChanged
from greenroom.dialog.turns import TurnRules
from greenroom.journal.format import (
    AgentNoted,
    Decoder,
    Encoder,
    Ending,
    JournalBroken,
    LeftNoted,
    Note,
    PreconnectNoted,
    Record,
    Said,
    decode_event,
    encode_event,
    summary,
)
from greenroom.journal.reader import read

from .calls import CALL, SAID, call_header, path_of, write

QUICK = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
RULES = DialogRules(
    turns=TurnRules("stt", EndpointRules(0.1, 0.2, True, "text", 0.75), 3.5, 60.0),
    interruption=InterruptionRules(False, False, 0.1, 0.2, 0.3, 4, ("ja", "genau")),
    dead_air=DeadAirRules(True, 1.0, 2.0, 3.0, "Moment.", "Bitte?", "Tschüss."),
    mute=("greeting", "tools"),
    max_tool_steps=7,
    preemptive=True,
    preemptive_tts=True,
    away_after=9.5,
)
HISTORY = (
    Message("a", "user", "Grüß Gott"),
    Message("b", "assistant", "Yes", interrupted=True),
    FunctionCall("c", "call_1", "look", '{"x": 1}'),
    FunctionCallOutput("d", "call_1", "look", "not there", is_error=True),
)


def lines(folder: Path) -> tuple[Path, list[bytes]]:
    path = path_of(write(folder))
    return path, path.read_bytes().split(b"\n")[:-1]


def broken(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(JournalBroken) as error:
        read(path)
    return str(error.value).removeprefix(str(path))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    journal = read(path_of(write(tmp_path)))
    assert list(journal.events) == CALL
    said = [(r.now, r.what.speech, r.what.step, r.what.text) for r in journal.records if isinstance(r.what, Said)]
    assert said == SAID
    assert [record.now for record in journal.records] == sorted([now for now, *_ in CALL] + [now for now, *_ in SAID])
    assert (journal.ending, journal.cut) == (Ending("closed"), False)
    assert journal.seconds == pytest.approx(7.71)


def test_the_header_has_all_that_a_replay_needs(tmp_path: Path) -> None:
    written = call_header(rules=RULES, history=HISTORY, agent_class="house:Butler", attempt=2, follows="AJ_x.journal")
    header = Decoder().header(Encoder().header(written).rstrip(b"\n"))
    assert header == written
    assert header.rules == RULES
    assert (header.job, header.room, header.agent, header.agent_class) == ("AJ_x", "hall", "demo", "house:Butler")
    assert (header.attempt, header.follows) == (2, "AJ_x.journal")


def test_every_rule_is_written() -> None:
    """Also those that have their defaults, since defaults change."""
    values = msgspec.json.decode(Encoder().header(call_header(rules=DialogRules())))
    assert msgspec.convert(values["rules"], DialogRules) == DialogRules()
    for part in (DialogRules(), TurnRules(), EndpointRules(), InterruptionRules(), DeadAirRules()):
        names = {field.name for field in fields(part)}
        assert any(names <= set(one) for one in _mappings(values["rules"])), type(part).__name__


def _mappings(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, dict):
        return []
    return [value, *(inner for one in value.values() for inner in _mappings(one))]


def test_defaults_are_left_out() -> None:
    assert encode_event(Started(), 7.5).startswith(b'[7.5,"Started",{},"')
    line = encode_event(Generated("s", 1, "end", calls=(RequestedCall("c", "t", "{}"),)), 1.0)
    assert b'{"speech":"s","step":1,"what":"end","calls":[{"call_id":"c","name":"t","arguments":"{}"}]}' in line


def test_announcements_that_look_alike_have_other_summaries() -> None:
    agent, user = AgentStateChanged("listening", "speaking"), UserStateChanged("listening", "speaking")  # type: ignore[arg-type]
    assert summary([]) == ""
    digests = {summary([Announce(notice)]).split()[1] for notice in (agent, user)}
    items = {summary([Commit(item)]).split()[1] for item in (Message("a", "user", "x"), Message("a", "user", "y"))}
    assert (len(digests), len(items)) == (2, 2)
    assert summary([Announce(agent), Commit(HISTORY[0])]).split()[:2] == ["AgentStateChanged", "Commit"]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have(number: float) -> None:
    _, judged = decode_event(encode_event(TurnJudged("t", 1, number), 1.0))
    assert isinstance(judged, TurnJudged)
    assert repr(judged.probability) == repr(number)
    _, asked = decode_event(encode_event(SpeechRequested("s", "say", ttl=math.inf, text="inf"), 1.0))
    assert asked == SpeechRequested("s", "say", ttl=math.inf, text="inf")


def events() -> st.SearchStrategy[Event]:
    calls = st.builds(RequestedCall, st.text(), st.text(), st.text())
    kinds = []
    for cls in get_args(Event):
        given: dict[str, Any] = {"calls": st.tuples(calls)} if cls is Generated else {}
        given |= {f.name: st.floats(allow_nan=False) for f in fields(cls) if f.type in ("float", "float | None")}
        kinds.append(st.builds(cls, **given))
    return st.one_of(kinds)


@given(st.floats(allow_nan=False, allow_infinity=False), events())
def test_every_event_survives_the_trip(now: float, event: Event) -> None:
    try:
        line = encode_event(event, now)
    except UnicodeEncodeError:
        return  # halves of characters are taken out before
    assert decode_event(line) == (now, event)


# --- broken journals ----------------------------------------------------------------------------------------------


def test_a_line_that_a_killed_process_left_incomplete_is_left_out(tmp_path: Path) -> None:
    path, written = lines(tmp_path)
    path.write_bytes(b"\n".join(written[:-1])[:-7])
    journal = read(path)
    assert (journal.cut, journal.ending) == (True, None)
    assert len(journal.records) == len(written) - 3


@QUICK
@given(data=st.data())
def test_wherever_it_is_cut_the_beginning_is_there_or_the_header_is_missed(tmp_path: Path, data: st.DataObject) -> None:
    path, written = lines(tmp_path / "whole")
    whole, content = read(path), path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    piece = tmp_path / "piece"
    piece.write_bytes(content[:at])
    if at <= len(written[0]):
        with pytest.raises(JournalBroken, match=":1: no whole line"):
            read(piece)
        return
    journal = read(piece)
    assert journal.records == whole.records[: len(journal.records)]
    assert len(journal.records) + 1 == content[:at].count(b"\n")
    assert journal.cut is not content[:at].endswith(b"\n")
    assert journal.ending is None
    path.unlink()


@QUICK
@given(data=st.data())
def test_a_flipped_bit_is_found_on_its_line(tmp_path: Path, data: st.DataObject) -> None:
    path, _ = lines(tmp_path / "whole")
    whole, content = read(path), bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    line = bytes(content[:at]).count(b"\n") + 1
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    if at < len(content) - 1:
        told = broken(path, bytes(content))
        assert told.startswith(f":{line}: ")
        assert "expected" in told
    else:  # the very last line end: what is left looks like a journal whose last line was not finished
        path.write_bytes(content)
        journal = read(path)
        assert (journal.cut, journal.ending, journal.records) == (True, None, whole.records)
    path.unlink()


@QUICK
@given(data=st.data(), how=st.sampled_from(["delete", "repeat", "swap"]))
def test_lines_that_are_missing_or_moved_are_found(tmp_path: Path, data: st.DataObject, how: str) -> None:
    path, written = lines(tmp_path / "whole")
    at = data.draw(st.integers(0, len(written) - 2))
    changed = [*written]
    if how == "delete":
        del changed[at]
    elif how == "repeat":
        changed.insert(at, changed[at])
    else:
        changed[at], changed[at + 1] = changed[at + 1], changed[at]
    place = int(broken(path, b"".join(line + b"\n" for line in changed)).split(":")[1])
    assert place == at + (2 if how == "repeat" else 1)
    path.unlink()


@settings(QUICK, max_examples=300)
@given(junk=st.binary(max_size=300))
def test_no_bytes_raise_anything_else(tmp_path: Path, junk: bytes) -> None:
    path, written = lines(tmp_path / "whole")
    for content in (junk, junk + b"\n", written[0] + b"\n" + junk + b"\n"):
        assert broken(path, content).startswith(":")
    path.unlink()


def sealed(values: Any, after: bytes) -> bytes:
    """A line with these values whose checksum is right: ``after``: the lines above."""
    encoder = Encoder()
    encoder._check = int(after.rstrip(b"\n")[-10:-2], 16)
    return encoder._seal(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1e6, "Exploded", {}), "an unknown event 'Exploded'; expected one of those of version 3"),
        ((1e6, "UserStarted", {"utterance": 3}), "a UserStarted with mistakes (Expected `str`, got `int`"),
        ((1e6, "UserStarted", {"utterance": "u"}), "a UserStarted with mistakes (Object missing required field `at`)"),
        ((1e6, "Started", {"loud": True}), "a Started with mistakes (unknown field 'loud'); expected its fields"),
        ((0.5, "Started", {}), "the time 0.5 comes after 107.71; expected times that never go back"),
        (("Started",), "no record; expected a time, the name of an event and its fields"),
        ((1e6, "Started", {}, 5), "no record; expected a time, the name of an event and its fields"),
    ],
)
def test_a_record_that_is_none_says_what_was_expected(tmp_path: Path, values: Any, message: str) -> None:
    path, written = lines(tmp_path)
    above = b"\n".join(written[:-1]) + b"\n"
    told = broken(path, above + sealed(values, above))
    assert told.startswith(f":{len(written)}: {message}")


def test_nothing_comes_after_the_end(tmp_path: Path) -> None:
    path, written = lines(tmp_path)
    whole = b"\n".join(written) + b"\n"
    expected = f":{len(written) + 1}: a line after the end; expected none"
    assert broken(path, whole + sealed((1e6, "Started", {}), whole)) == expected
    assert broken(path, whole + b"[1e6,") == expected


@pytest.mark.parametrize("version", [2, 4])
def test_another_version_is_told_as_such(tmp_path: Path, version: int) -> None:
    path, written = lines(tmp_path)
    header = written[0].replace(b'"greenroom_journal":3', b'"greenroom_journal":%d' % version)
    assert broken(path, header + b"\n") == f":1: a journal of version {version}; expected version 3"


@pytest.mark.parametrize("content", [b"{}\n", b"[]\n", b"hello\n", b"\xff\xfe\n", b"\x00\x00\n"])
def test_a_file_that_is_no_journal_has_no_header(tmp_path: Path, content: bytes) -> None:
    assert broken(tmp_path / "x", content).startswith(":1: no header of a journal (")


def test_an_empty_file_and_none_at_all(tmp_path: Path) -> None:
    assert broken(tmp_path / "x", b"") == ":1: no whole line; expected the header of a journal"
    with pytest.raises(JournalBroken, match="No such file or directory; expected a journal"):
        read(tmp_path / "y")
    with pytest.raises(JournalBroken, match="Is a directory; expected a journal"):
        read(tmp_path)


def test_a_rule_of_another_greenroom_is_not_passed_over(tmp_path: Path) -> None:
    """A replay without it would decide otherwise, and nobody would know why."""
    line = Encoder().header(call_header())
    body = line[: -len(b'"12345678"}\n')].replace(b'"max_duration":0.0', b'"max_duration":0.0,"telepathy":true')
    changed = b'%b"%08x"}\n' % (body, crc32(body))
    assert len(changed) > len(line)
    expected = ":1: the rule turns.telepathy is unknown here; expected those of greenroom "
    assert broken(tmp_path / "x", changed).startswith(expected)


def test_a_record_that_is_not_of_the_dialog_is_no_event() -> None:
    with pytest.raises(JournalBroken, match="no event"):
        decode_event(Encoder().note(Said("s", 1, "x"), 1.0))
    assert isinstance(Decoder().line(Encoder().note(Said("s", 1, "x"), 1.0).rstrip()), Record)


NOTES: list[Note] = [
    Said("s", 1, "x"),
    AgentNoted(),
    AgentNoted("Billing_1", "house:Billing", "Be strict.", ("item_1", FunctionCall("c", "c", "look", "{}"))),
    AgentNoted(known=()),
    LeftNoted(),
    LeftNoted((SpeechRequested("s", "say", text="x", ttl=1.5),), (SpeechRequested("t", "turn"),), ("Well?", "Yes?")),
    PreconnectNoted("used", seconds=2.5, gap=0.25),
]


@pytest.mark.parametrize("note", NOTES, ids=repr)
def test_notes_come_back_as_they_were(note: Note) -> None:
    record = Decoder().line(Encoder().note(note, 1.5).rstrip())
    assert record == Record(1.5, note)
    assert isinstance(record, Record)
    assert (record.note, record.event) == (note, None)


@pytest.mark.parametrize(
    "fields", [{"known": [3]}, {"known": [["Secret", {}]]}, {"known": [["Message", {}]]}, {"name": 3}, {"more": 1}]
)
def test_a_note_with_mistakes_is_told(fields: dict[str, Any]) -> None:
    encoder = Encoder()
    with pytest.raises(JournalBroken, match="a agent with mistakes"):
        Decoder().line(encoder._seal((1.0, "agent", fields)).rstrip())
