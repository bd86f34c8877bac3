"""A call as people read it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from greenroom.dialog import notices as news
from greenroom.dialog.deadair import DeadAirRules
from greenroom.dialog.events import (
    AgentChanged,
    Event,
    Generated,
    HandOff,
    HookFinished,
    InterruptAsked,
    Played,
    RequestedCall,
    SpeechRequested,
    Started,
    Synthesised,
    Tick,
    Transcribed,
    UserStarted,
    UserStopped,
    UserTyped,
)
from greenroom.dialog.history import Message
from greenroom.dialog.turns import TurnRules
from greenroom.journal.reader import read
from greenroom.journal.transcript import as_json, as_text, transcript
from tests.dialog.moves import Script, converse, scripts

from .calls import RULES, journal_of, write_talk


def lines(folder: Path, *events: tuple[float, Event], **facts: object) -> list[str]:
    """The transcript of a call in which these happen, without what stands above it."""
    journal = journal_of(folder, events=[(100.0, Started()), *events], **facts)
    return as_text(journal, transcript(journal)).partition("\n\n")[2].splitlines()


def test_a_whole_call(tmp_path: Path) -> None:
    journal = journal_of(tmp_path, agent_class="house:Butler")
    above, _, below = as_text(journal, transcript(journal)).partition("\n\n")
    assert [line.split(maxsplit=1)[1] for line in above.splitlines()][:3] == ["AJ_x", "hall", "demo (house:Butler)"]
    assert below.splitlines() == [
        "  0:00.250  agent  Good day.",
        "  0:02.000  user   What is the weather in Paris?",
        '  0:04.000  tool   weather({"city": "Paris"}): sunny, 21 C (0.40 s)',
        "  0:04.950  agent  In Paris it is sunny, — cut off, unheard: and warm for the time of year.",
        "  0:06.500  user   Thank you, goodbye.",
        "  0:07.600  error  reply_turn_2: model: overloaded",
        "  0:07.710         never heard, closed",
        "  0:07.710  end    the user hung up",
    ]


def test_as_json_with_all_that_is_known(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in as_json(transcript(journal_of(tmp_path))).splitlines()]
    cut = next(row for row in rows if row["interrupted"])
    assert cut | {"at": 0, "until": 0} == {
        "at": 0,
        "until": 0,
        "kind": "agent",
        "what": "turn",
        "id": "reply_turn_1",
        "text": "In Paris it is sunny,",
        "unheard": "and warm for the time of year.",
        "interrupted": True,
    }
    assert (round(cut["at"], 3), round(cut["until"], 3)) == (4.95, 7.3)
    user = next(row for row in rows if row["kind"] == "user")
    assert (round(user["at"], 3), round(user["until"], 3), user["id"]) == (2.0, 3.0, "turn_1")


def test_a_call_that_was_broken_off(tmp_path: Path) -> None:
    journal = journal_of(tmp_path, until=104.2, close=False)
    told = as_text(journal, transcript(journal)).splitlines()
    assert told[-4:] == [
        "  0:02.000  user   What is the weather in Paris?",
        '  0:04.000  tool   weather({"city": "Paris"}): has not returned',
        "",
        "The journal was broken off here: its process was killed, or goes on.",
    ]
    journal = journal_of(tmp_path, until=105.5, close=False)
    assert (
        "  0:04.950  agent  In Paris it is sunny, and warm for the time of year. — when the journal broke off"
        in as_text(journal, transcript(journal))
    )


def test_dead_air_and_a_hand_off(tmp_path: Path) -> None:
    rules = replace(RULES, dead_air=DeadAirRules(True, 1.0, 9.0, 9.0, hold_phrase="One moment."))
    told = lines(
        tmp_path,
        (101.0, UserTyped("hi")),
        (101.0, HookFinished("turn_1", True, "hi")),
        (102.0, Tick()),
        (102.5, Played("guard_1", 1, "started", 102.5)),
        (103.0, Generated("guard_1", 1, "end", "One moment.")),
        (103.5, Played("guard_1", 1, "finished", 103.5, 1, "One moment.")),
        (103.6, HandOff("Billing_1")),
        (103.7, AgentChanged("Billing_1")),
        (103.7, AgentChanged("Billing_1")),
        rules=rules,
    )
    assert told == [
        "  0:01.000  user   types: hi",
        "  0:02.000  error  dead air: nothing was audible for 1.0 s: hold",
        "  0:02.500  agent  One moment.",
        "  0:03.700         hand-off: Billing_1",
    ]


def test_what_went_wrong(tmp_path: Path) -> None:
    call = RequestedCall("c", "find", "{}", on_interrupt="cancel")
    told = lines(
        tmp_path,
        (101.0, SpeechRequested("s", "generate_reply")),
        (101.5, Generated("s", 1, "end", "Let me see.", (call,))),
        (101.6, Synthesised("s", 1, "failed", error="voice: gone")),
        (101.7, Played("s", 1, "started", 101.7)),
        (101.8, InterruptAsked("s")),
        (102.0, Played("s", 1, "stopped", 102.0, 5, "Let")),
        (103.06, UserStarted("u", 103.0)),
        (104.0, UserStopped("u", 103.8)),
        (104.5, Transcribed("u", "he", final=False)),
        (106.0, Tick()),
        (107.0, SpeechRequested("t", "say", text="Too late.", ttl=1.0)),
        (108.0, Tick()),
        rules=replace(RULES, turns=TurnRules(transcript_timeout=2.0)),
    )
    assert told == [
        "  0:01.500  tool   find({}): error: cancelled (0.30 s)",
        "  0:01.600  error  s: voice: gone",
        "  0:01.700  agent  Let — cut off, unheard: me see.",
        "  0:03.000  user   he",
        "  0:06.000  error  transcriber: no words came for u",
    ]


def test_a_false_alarm_and_a_word_put_in(tmp_path: Path) -> None:
    told = lines(
        tmp_path,
        (101.0, SpeechRequested("s", "say", text="A long story.")),
        (101.0, Generated("s", 1, "end", "A long story.")),
        (101.2, Played("s", 1, "started", 101.2)),
        (102.06, UserStarted("u", 102.0)),
        (102.1, Played("s", 1, "paused", 102.1, 5, "A")),
        (102.6, UserStopped("u", 102.4)),
        (102.9, Transcribed("u", "mm-hm")),
        (103.0, Tick()),
        (103.0, Played("s", 1, "resumed", 103.0, 5, "A")),
        (105.0, Played("s", 1, "finished", 105.0, 9, "A long story.")),
    )
    assert told == [
        "  0:01.200  agent  A long story.",
        "  0:02.000  user   puts in: mm-hm",
        "  0:02.900         goes on after a false alarm",
    ]


def test_what_a_terminal_would_obey_is_left_out(tmp_path: Path) -> None:
    told = lines(tmp_path, (101.0, UserTyped("a\x1b[2J\nb\u2028c")))
    assert told == ["  0:01.000  user   types: a [2J b c"]


def test_a_transcript_by_other_code_says_so(tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    other = replace(journal, header=replace(journal.header, rules=replace(RULES, turns=TurnRules("manual"))))
    (note,) = [entry for entry in transcript(other) if entry.what == "replay"]
    assert note.text == "from here on (line 13) today's greenroom decides otherwise"
    assert [entry for entry in transcript(journal) if entry.what == "replay"] == []


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts())
def test_random_conversations_can_be_read(tmp_path_factory: pytest.TempPathFactory, script: Script) -> None:
    talk = converse(script)
    journal = read(write_talk(tmp_path_factory.mktemp("j"), talk))
    entries = transcript(journal)
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)
    spoken = [entry.id for entry in entries if entry.kind == "user" and entry.what != "puts in"]
    notices = [getattr(command, "notice", None) for commands in talk.commands for command in commands]
    assert sorted(spoken) == sorted(notice.turn for notice in notices if isinstance(notice, news.TurnCommitted))
    items = [getattr(command, "item", None) for commands in talk.commands for command in commands]
    heard = {item.text for item in items if isinstance(item, Message) and item.role == "assistant"}
    assert heard <= {entry.text for entry in entries if entry.kind == "agent"}
    assert len(as_text(journal, entries).splitlines()) >= len(entries)
    journal.path.unlink()
