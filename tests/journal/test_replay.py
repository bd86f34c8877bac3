"""Today's code on yesterday's call: the same, or where it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from greenroom.dialog.dialog import Dialog
from greenroom.dialog.endpoint import EndpointRules
from greenroom.dialog.events import Event, Played
from greenroom.dialog.interruption import InterruptionRules
from greenroom.dialog.turns import TurnRules
from greenroom.journal.reader import read
from greenroom.journal.replay import compare, replay
from tests.dialog.moves import Script, converse, scripts

from .calls import CALL, RULES, journal_of, write_talk


def test_a_replay_gives_the_commands(tmp_path: Path) -> None:
    dialog = Dialog(RULES)
    expected = [(now, event, tuple(dialog.handle(event, now))) for now, event in CALL]
    assert [(step.now, step.event, step.commands) for step in replay(journal_of(tmp_path))] == expected


def test_a_step_knows_its_line(tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    lines = journal.path.read_text().splitlines()
    for step in replay(journal):
        assert f'"{type(step.event).__name__}"' in lines[step.line - 1]


def test_the_first_decision_that_differs_is_shown(tmp_path: Path) -> None:
    """As if the code had changed meanwhile: other rules decide otherwise."""
    journal = journal_of(tmp_path)
    patient = replace(RULES, turns=TurnRules(endpoint=EndpointRules(min_delay=1.5)))
    difference = compare(journal, patient)
    assert difference is not None
    assert difference.at == pytest.approx(3.7)
    event, *decisions = str(difference).splitlines()
    assert event.startswith(f"{journal.path}:13: at 3.700 s: Transcribed(utterance='utterance_1', text='What is ")
    assert decisions == [
        "  then:  UserTranscribed TurnCommitted RunHook AgentStateChanged",
        "  today: UserTranscribed",
        "    Announce(notice=UserTranscribed(turn='turn_1', text='What is the weather in Paris?', final=True))",
    ]


def test_the_same_commands_with_something_else_in_them_differ(tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    records = tuple(
        replace(record, what=replace(record.what, text="Good evening."))
        if isinstance(record.what, Played) and record.what.text == "Good day."
        else record
        for record in journal.records
    )
    difference = compare(replace(journal, records=records))
    assert difference is not None
    assert "  today: the same commands, with something else in them\n" in str(difference)
    assert "text='Good evening.'" in str(difference)


def test_nothing_commanded_is_a_decision_too(tmp_path: Path) -> None:
    impatient = replace(RULES, interruption=InterruptionRules(enabled=False))
    difference = compare(journal_of(tmp_path), impatient)
    assert difference is not None
    assert "  then:  Pause UserStateChanged AgentStateChanged\n  today: UserStateChanged" in str(difference)


def test_code_that_fails_today_is_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = journal_of(tmp_path)
    handle = Dialog.handle

    def failing(dialog: Dialog, event: Event, now: float) -> object:
        if now >= 104.4:
            raise KeyError("call_1")
        return handle(dialog, event, now)

    monkeypatch.setattr(Dialog, "handle", failing)
    difference = compare(journal)
    assert difference is not None
    assert "  today: KeyError: 'call_1'" in str(difference)
    after = [step for step in replay(journal) if step.now > 104.4]
    assert [(step.commands, step.error) for step in after] == [((), "")] * len(after)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts())
def test_random_conversations_replay_as_they_were_held(
    tmp_path_factory: pytest.TempPathFactory, script: Script
) -> None:
    talk = converse(script)
    path = write_talk(tmp_path_factory.mktemp("j"), talk)
    journal = read(path)
    assert compare(journal) is None
    assert [list(step.commands) for step in replay(journal)] == talk.commands
    assert journal.header.rules == talk.circumstances.rules
    path.unlink()
