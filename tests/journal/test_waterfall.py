"""Where the time of an answer went: to the microsecond, without gap or overlap."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings

from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import (
    Event,
    Generated,
    HookFinished,
    Played,
    SpeechRequested,
    Started,
    Synthesised,
    Tick,
    Transcribed,
    TurnEndAsked,
    UserStarted,
    UserStopped,
    UserTyped,
)
from greenroom.dialog.turns import TurnRules
from greenroom.journal.picture import COLOURS, draw
from greenroom.journal.reader import read
from greenroom.journal.waterfall import SEGMENTS, Segment, Turn, table, turns
from tests.dialog.moves import Script, converse, scripts

from .calls import RULES, journal_of, write_talk

SVG = "{http://www.w3.org/2000/svg}"


def measured(folder: Path, *events: tuple[float, Event], rules: DialogRules = RULES) -> list[Turn]:
    """The turns of a call: the user speaks from 100.5 to 101.0, noticed 60 and 250 ms later, then these happen."""
    spoken = [(100.0, Started()), (100.56, UserStarted("u", 100.5)), (101.25, UserStopped("u", 101.0))]
    return turns(journal_of(folder, events=[*spoken, *events], rules=rules))


def parsed(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)  # noqa: S314  # it is our own


def lengths(turn: Turn) -> dict[str, float]:
    """Milliseconds by segment."""
    return {segment.name: segment.length / 1000 for segment in turn.segments}


def answer(begin: float, speech: str = "reply_turn_1") -> list[tuple[float, Event]]:
    return [
        (begin + 0.2, Generated(speech, 1, "first")),
        (begin + 0.5, Synthesised(speech, 1, "first")),
        (begin + 0.51, Played(speech, 1, "started", begin + 0.53)),
    ]


def test_words_that_are_there_cost_nothing(tmp_path: Path) -> None:
    (turn,) = measured(
        tmp_path,
        (101.3, Transcribed("u", "hello")),
        (101.5, Tick()),
        (101.6, HookFinished("turn_1", True, "hello")),
        *answer(101.6),
    )
    assert lengths(turn) == {"silence": 500, "hook": 100, "model": 200, "voice": 300, "playout": 30}
    assert (turn.id, turn.text, turn.at, turn.outcome, turn.total) == ("turn_1", "hello", 1.0, "answered", 1_130_000)


def test_the_wait_for_a_first_sentence_is_told_apart_from_the_voice(tmp_path: Path) -> None:
    words, sound, heard = answer(101.5)
    (turn,) = measured(
        tmp_path,
        (101.3, Transcribed("u", "hello")),
        (101.5, Tick()),
        (101.5, HookFinished("turn_1", True, "hello")),
        words,
        (101.8, Synthesised("reply_turn_1", 1, "sentence")),
        sound,
        heard,
    )
    assert lengths(turn) == {"silence": 500, "model": 200, "sentence": 100, "voice": 200, "playout": 30}


def test_words_that_are_late_are_waited_for(tmp_path: Path) -> None:
    (turn,) = measured(
        tmp_path, (101.9, Transcribed("u", "hello")), (101.9, HookFinished("turn_1", True, "hello")), *answer(101.9)
    )
    assert lengths(turn) == {"silence": 500, "transcript": 400, "model": 200, "voice": 300, "playout": 30}


def test_silence_that_is_noticed_late_is_no_wait_for_words(tmp_path: Path) -> None:
    """The shortest delay is over before voice activity says that there is silence."""
    quick = replace(RULES, turns=TurnRules(endpoint=replace(RULES.turns.endpoint, min_delay=0.1)))
    (turn,) = measured(
        tmp_path,
        (101.4, Transcribed("u", "hello")),
        (101.4, HookFinished("turn_1", True, "hello")),
        *answer(101.4),
        rules=quick,
    )
    assert lengths(turn) == {"silence": 250, "transcript": 150, "model": 200, "voice": 300, "playout": 30}


def test_words_that_never_come(tmp_path: Path) -> None:
    (turn,) = measured(
        tmp_path,
        (101.3, Transcribed("u", "hel", final=False)),
        (111.25, Tick()),
        (111.25, HookFinished("turn_1", True, "hel")),
        *answer(111.25),
    )
    assert lengths(turn) == {"silence": 500, "transcript": 9750, "model": 200, "voice": 300, "playout": 30}


def test_the_program_ends_the_turn(tmp_path: Path) -> None:
    manual = replace(RULES, turns=TurnRules("manual"))
    (turn,) = measured(
        tmp_path,
        (101.7, TurnEndAsked()),
        (102.0, Transcribed("u", "hello")),
        (102.0, HookFinished("turn_1", True, "hello")),
        *answer(102.0),
        rules=manual,
    )
    assert lengths(turn) == {"silence": 700, "transcript": 300, "model": 200, "voice": 300, "playout": 30}


def test_an_answer_that_was_begun_early_costs_what_is_left_of_it(tmp_path: Path) -> None:
    (turn,) = measured(
        tmp_path,
        (101.3, Transcribed("u", "hello")),
        (101.45, Generated("early_1", 1, "first")),
        (101.5, Tick()),
        (101.5, HookFinished("turn_1", True, "hello")),
        (101.8, Synthesised("early_1", 1, "first")),
        (101.8, Played("early_1", 1, "started", 101.82)),
        rules=replace(RULES, preemptive=True),
    )
    assert lengths(turn) == {"silence": 500, "voice": 300, "playout": 20}


def test_an_answer_that_has_to_wait_for_another_speech(tmp_path: Path) -> None:
    (turn,) = measured(
        tmp_path,
        (101.3, Transcribed("u", "hello")),
        (101.4, SpeechRequested("s", "say", allow_interruptions=False, text="Notice.")),
        (101.4, Generated("s", 1, "end", "Notice.")),
        (101.5, Played("s", 1, "started", 101.5)),
        (101.5, HookFinished("turn_1", True, "hello")),
        (101.7, Generated("reply_turn_1", 1, "first")),
        (101.9, Synthesised("reply_turn_1", 1, "first")),
        (102.5, Played("s", 1, "finished", 102.5, 24000, "Notice.")),
        (102.5, Played("reply_turn_1", 1, "started", 102.52)),
    )
    assert lengths(turn) == {"silence": 500, "model": 200, "voice": 200, "floor": 600, "playout": 20}


def test_a_tool_before_the_answer(tmp_path: Path) -> None:
    first, second = turns(journal_of(tmp_path))
    assert lengths(first) == {
        "silence": 500,
        "transcript": 200,
        "hook": 100,
        "model": 200,
        "tools": 400,
        "answer": 250,
        "voice": 250,
        "playout": 50,
    }
    assert (second.outcome, second.segments, second.total) == ("closed", (), 0)


def test_what_was_typed_is_answered_from_when_it_came(tmp_path: Path) -> None:
    events = [(100.0, Started()), (101.0, UserTyped("hi")), (101.0, HookFinished("turn_1", True, "hi"))]
    (turn,) = turns(journal_of(tmp_path, events=[*events, *answer(101.0)]))
    assert lengths(turn) == {"model": 200, "voice": 300, "playout": 30}


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        ([], "not answered yet"),
        ([(101.6, HookFinished("turn_1", False, "hello"))], "no answer wanted"),
        ([(101.6, HookFinished("turn_1", True, "hello"))], "not heard yet"),
        (
            [
                (101.6, HookFinished("turn_1", True, "hello")),
                (101.7, UserTyped("more")),
                (101.7, HookFinished("turn_2", True, "more")),
            ],
            "superseded",
        ),
    ],
)
def test_a_turn_without_an_answer_says_why(tmp_path: Path, events: list[tuple[float, Event]], outcome: str) -> None:
    turn = measured(tmp_path, (101.3, Transcribed("u", "hello")), (101.5, Tick()), *events)[0]
    assert (turn.outcome, turn.segments) == (outcome, ())


def test_the_table_adds_up_as_it_is_printed(tmp_path: Path) -> None:
    """Also where each length would be rounded the same way."""
    marks = [0, 400, 900, 1400, 2600, 3100]
    names = SEGMENTS[: len(marks) - 1]
    segments = [Segment(name, *edges) for name, edges in zip(names, pairwise(marks), strict=True)]
    rows = table([Turn("t", "hi", 1.0, "answered", tuple(segments))]).splitlines()
    numbers = [int(cell) for cell in rows[1].split()[2:-1]]
    assert sum(numbers[:-1]) == numbers[-1] == 3

    rows = table(turns(journal_of(tmp_path))).splitlines()
    assert rows[0].split() == [
        "turn",
        "at",
        "silence",
        "transcript",
        "hook",
        "model",
        "tools",
        "answer",
        "voice",
        "playout",
        "total",
        "words",
    ]
    assert rows[1].split()[:10] == ["turn_1", "3.000", "500", "200", "100", "200", "400", "250", "250", "50"]
    assert rows[2].endswith("Thank you, goodbye. (closed)")
    assert [row.split()[0] for row in rows[3:]] == ["median", "worst"]


def test_the_picture_has_a_bar_of_the_right_length_for_each_segment(tmp_path: Path) -> None:
    first, second = turns(journal_of(tmp_path))
    hostile = replace(second, text='<script>&"\x00\x1b[2J', outcome="]]>")
    root = parsed(draw([first, hostile], title="AJ_<x>"))
    assert root.tag == f"{SVG}svg"
    bars = [rect for rect in root.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    assert [bar.get("fill") for bar in bars] == [COLOURS[segment.name] for segment in first.segments]
    edges = [(float(bar.get("x", "")), float(bar.get("width", ""))) for bar in bars]
    for (x, width), (following, _) in pairwise(edges):
        assert x + width == pytest.approx(following, abs=0.011)
    scale = sum(width for _, width in edges) / first.total
    for (_, width), segment in zip(edges, first.segments, strict=True):
        assert width == pytest.approx(segment.length * scale, abs=0.02)
    texts = [text.text or "" for text in root.iter(f"{SVG}text")]
    assert "1950 ms" in texts
    assert "]]>" in texts
    assert any("<script>" in text for text in texts)


def test_a_picture_of_nothing() -> None:
    assert parsed(draw([], title="")).tag == f"{SVG}svg"


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts())
def test_segments_of_random_conversations_are_contiguous_and_add_up(
    tmp_path_factory: pytest.TempPathFactory, script: Script
) -> None:
    talk = converse(script)
    journal = read(write_talk(tmp_path_factory.mktemp("j"), talk))
    starts = [event.at for _, event in talk.events if isinstance(event, Played) and event.what == "started"]
    for turn in turns(journal):
        assert (turn.outcome == "answered") is bool(turn.segments)
        place = 0
        for segment in turn.segments:
            assert segment.name in SEGMENTS
            assert segment.begin == place <= segment.end
            place = segment.end
        assert sum(segment.length for segment in turn.segments) == turn.total == place
        assert sum(turn.length(name) for name in SEGMENTS) == turn.total
        if turn.segments:
            assert any(abs(round((at - turn.at) * 1_000_000) - turn.total) <= 1 for at in starts)
    journal.path.unlink()
