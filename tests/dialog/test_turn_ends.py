"""Who ends the user's turn: silence, a detector, the transcriber, the model, the program, or the clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from greenroom.dialog.commands import Announce, CutUtterance, Drop, Generate, Judge, Play, RunHook, Stop
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.endpoint import Endpointer, EndpointRules
from greenroom.dialog.events import (
    Transcribed,
    TurnCleared,
    TurnEndAsked,
    TurnJudged,
    UserStarted,
    UserState,
    UserStopped,
    UserTyped,
)
from greenroom.dialog.notices import TurnCommitted, TurnEmpty, TurnExceeded, UserStateChanged
from greenroom.dialog.turns import TurnRules

from .world import World


def rules(**turns: object) -> DialogRules:
    return DialogRules(turns=replace(TurnRules(), **turns))  # type: ignore[arg-type]


def by(modality: str, **more: object) -> DialogRules:
    return rules(endpoint=replace(EndpointRules(judged_by=modality), **more))  # type: ignore[arg-type]


# --- a detector -----------------------------------------------------------------------------------------------------


def test_a_likely_end_takes_the_short_delay() -> None:
    world = World(by("text")).user_says("u1", "what time is it", begin=1.0, end=2.0)
    (asked,) = (command for command in world.take() if isinstance(command, Judge))
    assert asked == Judge("turn_1", asked.serial, "what time is it")
    world.at(2.4).feed(TurnJudged("turn_1", asked.serial, 0.9))
    world.at(9.0)
    assert world.when(RunHook) == [pytest.approx(2.5)]


def test_an_unlikely_end_takes_the_long_delay() -> None:
    world = World(by("text")).user_says("u1", "I would like a", begin=1.0, end=2.0)
    world.at(2.4).feed(TurnJudged("turn_1", 2, 0.1))
    world.at(9.0)
    assert world.when(RunHook) == [pytest.approx(5.0)]


def test_a_late_judgement_ends_the_turn_when_it_comes() -> None:
    world = World(by("text")).user_says("u1", "what time is it", begin=1.0, end=2.0)
    world.at(3.2).feed(TurnJudged("turn_1", 2, 0.9))
    assert world.when(RunHook) == [pytest.approx(3.2)]


def test_a_judgement_of_words_that_went_on_is_void() -> None:
    world = World(by("text")).user_says("u1", "I would like a", begin=1.0, end=2.0)
    world.at(2.46).feed(UserStarted("u2", 2.4))
    assert world.feed(TurnJudged("turn_1", 2, 0.9)) == [Drop("TurnJudged", "turn_1 has gone on since it was judged")]
    world.at(3.25).feed(UserStopped("u2", 3.0))
    world.at(3.3).feed(Transcribed("u2", "table for two"))
    judged = [command for command in world.take() if isinstance(command, Judge)]
    assert [command.text for command in judged] == ["I would like a", "I would like a table for two"]
    assert judged[0].serial != judged[1].serial


def test_a_detector_for_sound_is_asked_before_the_words_are_there() -> None:
    world = World(by("audio"))
    world.at(1.06).feed(UserStarted("u1", 1.0))
    world.at(2.25).feed(UserStopped("u1", 2.0))
    assert world.when(Judge) == [pytest.approx(2.25)]
    world.feed(TurnJudged("turn_1", 2, 0.9))
    world.at(2.8).feed(Transcribed("u1", "what time is it"))
    assert world.when(RunHook) == [pytest.approx(2.8)]
    assert world.when(Judge) == [pytest.approx(2.25)], "asked once"


# --- the speaker's own pauses ---------------------------------------------------------------------------------------


def test_the_delay_follows_the_speakers_pauses_and_comes_back() -> None:
    endpointer = Endpointer(EndpointRules(min_delay=0.4, max_delay=2.5, dynamic=True))
    assert endpointer.delay(None) == 0.4
    for _ in range(20):
        endpointer.paused(1.0)
    assert endpointer.delay(None) == pytest.approx(1.0, abs=0.05)
    for _ in range(10):
        endpointer.paused(0.3)
        endpointer.paused(1.5)
    assert 1.5 < endpointer.delay(None) <= 2.5
    endpointer.paused(60.0)  # no pause: another turn
    assert endpointer.delay(None) <= 2.5
    for _ in range(30):
        endpointer.fluent()
    assert endpointer.delay(None) == 0.4


def test_a_slow_speaker_is_waited_for_longer() -> None:
    world = World(rules(endpoint=EndpointRules(min_delay=0.9, max_delay=3.0, dynamic=True)))
    for number in range(6):  # each goes on after 0.8 s
        begin = 10.0 * number
        world.user_says(f"a{number}", "well", begin=begin + 1.0, end=begin + 1.5)
        world.user_says(f"b{number}", "yes", begin=begin + 2.3, end=begin + 3.0)
        world.at(begin + 9.0)
    delays = [when - (10.0 * number + 3.0) for number, when in enumerate(world.when(RunHook))]
    assert delays[0] > 1.5, "one pause of 0.8 s: what two deviations above it need"
    assert 0.9 <= delays[-1] < 1.2
    assert sorted(delays, reverse=True) == delays


# --- the transcriber ------------------------------------------------------------------------------------------------


def test_a_transcriber_without_voice_activity_ends_turns() -> None:
    world = World(rules(detection="stt"))
    world.at(1.0).feed(Transcribed("", "what", final=False))
    assert UserStateChanged(UserState.LISTENING, UserState.SPEAKING) in world.announced(UserStateChanged)
    world.at(1.6).feed(Transcribed("", "what time", final=False))
    world.at(2.0).feed(Transcribed("", "What time is it?"))
    world.at(3.5)
    assert world.when(RunHook) == [], "the speaker has not finished, as far as the transcriber knows"
    world.feed(Transcribed("", "", ended=True))
    assert world.when(RunHook) == [pytest.approx(3.5)]
    assert world.history() == [("user", "What time is it?")]


def test_a_transcriber_that_never_says_so_is_not_waited_for_forever() -> None:
    world = World(rules(detection="stt", transcript_timeout=4.0))
    world.at(2.0).feed(Transcribed("", "What time is it?"))
    world.at(20.0)
    assert world.when(RunHook) == [pytest.approx(6.0)]


def test_words_alone_interrupt_when_there_is_no_voice_activity() -> None:
    world = World(rules(detection="stt"))
    world.at(1.0).say("s1")
    world.starts("s1")
    world.at(2.0).feed(Transcribed("", "mm-hm", final=False))
    assert world.stopped() == []
    world.at(2.5).feed(Transcribed("", "mm-hm but wait", final=False))
    assert world.stopped() == ["s1"]


# --- the realtime model ---------------------------------------------------------------------------------------------


def test_a_realtime_model_has_heard_the_turn_without_words() -> None:
    world = World(rules(detection="realtime"))
    world.at(1.0).feed(UserStarted("u1", 1.0))
    world.at(2.0).feed(UserStopped("u1", 2.0))
    assert world.when(Generate) == [pytest.approx(2.0)]
    assert world.history() == [("user", "")]
    world.at(2.4).feed(Transcribed("u1", "what time is it"))
    world.at(9.0)
    assert world.history() == [("user", ""), ("user", "what time is it")], "noted in its place"
    assert len(world.when(Generate)) == 1, "answered once"
    assert world.feed(Transcribed("u1", "again"))[0] == Drop("Transcribed", "utterance u1 is unknown")


# --- the program ----------------------------------------------------------------------------------------------------


def test_only_the_program_ends_a_manual_turn() -> None:
    world = World(rules(detection="manual"))
    world.user_says("u1", "one", begin=1.0, end=2.0)
    world.user_says("u2", "two", begin=10.0, end=11.0)
    world.at(60.0)
    assert world.when(RunHook) == []
    world.feed(TurnEndAsked())
    assert world.history() == [("user", "one two")]
    assert world.announced(TurnCommitted) == [TurnCommitted("turn_1", "one two", 11.0, asked=True)]


def test_a_manual_turn_is_cut_where_it_was_ended_and_waits_for_its_words() -> None:
    world = World(rules(detection="manual"))
    world.at(1.06).feed(UserStarted("u1", 1.0))
    assert CutUtterance("u1") in world.at(2.0).feed(TurnEndAsked())
    assert world.feed(UserStopped("u1", 2.0))[0] == Drop("UserStopped", "utterance u1 is not being spoken")
    world.at(2.1).feed(UserStarted("u2", 2.05))
    world.at(2.4).feed(Transcribed("u1", "first"))
    assert world.history() == [("user", "first")], "while the next one is spoken"
    world.at(3.0).feed(UserStopped("u2", 2.9), Transcribed("u2", "second"))
    world.at(9.0)
    assert world.history() == [("user", "first")]
    world.feed(TurnEndAsked(skip_reply=True))
    assert world.history() == [("user", "first"), ("user", "second")]
    assert len(world.when(Generate)) == 1, "the second wants no answer"


def test_turns_ended_one_after_the_other_keep_their_order() -> None:
    world = World(rules(detection="manual"))
    world.at(1.0).feed(UserStarted("u1", 1.0))
    world.at(2.0).feed(TurnEndAsked())
    world.at(3.0).feed(UserStarted("u2", 3.0))
    world.at(4.0).feed(TurnEndAsked())
    world.at(5.0).feed(Transcribed("u2", "second"))
    assert world.history() == []
    world.at(6.0).feed(Transcribed("u1", "first"))
    assert world.history() == [("user", "first"), ("user", "second")]


def test_a_manual_turn_without_words_says_so() -> None:
    world = World(rules(detection="manual"))
    assert Announce(TurnEmpty()) in world.feed(TurnEndAsked())
    world.at(1.0).feed(UserStarted("u1", 1.0))
    world.at(2.0).feed(TurnEndAsked())
    world.at(30.0)
    assert world.announced(TurnEmpty) == [TurnEmpty(), TurnEmpty()], "the transcriber never came"


def test_the_voice_interrupts_nothing_while_turns_are_manual() -> None:
    world = World(rules(detection="manual"))
    world.at(1.0).say("s1")
    world.starts("s1")
    world.at(2.0).feed(UserStarted("u1", 2.0))
    world.at(5.0)
    assert world.stopped() == []
    world.say("s2")
    world.finishes("s1")
    assert world.plays() == ["s1", "s2"], "and holds nothing back"


def test_the_program_can_end_any_turn_early() -> None:
    world = World().user_says("u1", "what time is it", begin=1.0, end=2.0)
    world.at(2.3).feed(TurnEndAsked())
    assert world.when(RunHook) == [pytest.approx(2.3)]


def test_a_cleared_turn_leaves_no_trace() -> None:
    world = World()
    world.at(1.06).feed(UserStarted("u1", 1.0))
    assert CutUtterance("u1") in world.at(2.0).feed(TurnCleared())
    world.feed(UserStopped("u1", 2.0), Transcribed("u1", "forget it"))
    world.at(30.0)
    assert world.history() == []
    assert world.when(RunHook) == []
    assert world.dialog.deadline() is None


# --- the clock ------------------------------------------------------------------------------------------------------


def test_a_turn_that_is_too_long_is_answered_while_the_user_goes_on() -> None:
    world = World(rules(max_duration=10.0))
    world.at(1.06).feed(UserStarted("u1", 1.0))
    world.at(12.0)
    (exceeded,) = (notice for notice in world.announced(TurnExceeded) if isinstance(notice, TurnExceeded))
    assert (exceeded.turn, round(exceeded.lasted, 6)) == ("turn_1", 10.0)
    assert world.when(CutUtterance) == [pytest.approx(11.0)]
    world.feed(UserStopped("u1", 11.9), UserStarted("u2", 11.95))
    world.at(12.5).feed(Transcribed("u1", "and then and then"))
    assert world.history() == [("user", "and then and then")]
    world.made("reply_turn_1", "let me say something")
    assert world.plays() == ["reply_turn_1"], "it cuts in"
    world.starts("reply_turn_1")
    world.at(16.0)
    assert world.stopped() == [], "and is not interrupted by the voice that it cut into"
    assert not [command for command in world.take() if isinstance(command, Stop)]


def test_a_turn_within_its_length_is_left_alone() -> None:
    world = World(rules(max_duration=10.0)).user_says("u1", "short", begin=1.0, end=2.0)
    world.at(30.0)
    assert world.announced(TurnExceeded) == []
    assert len(world.when(Play)) == 1


# --- away -----------------------------------------------------------------------------------------------------------


def test_a_user_who_says_nothing_is_away_until_the_voice_comes_back() -> None:
    world = World(DialogRules(away_after=15.0))
    world.at(1.0).say("s1")
    world.starts("s1")
    world.at(5.0)
    world.finishes("s1")
    world.at(60.0)
    assert world.announced(UserStateChanged) == [UserStateChanged(UserState.LISTENING, UserState.AWAY)]
    assert [when for when, c in world.log if isinstance(c, Announce) and isinstance(c.notice, UserStateChanged)] == [
        pytest.approx(20.0)
    ]
    assert world.dialog.deadline() is None, "nothing is waited for while the user is away"
    world.feed(UserStarted("u1", 60.0))
    assert world.dialog.user_state is UserState.SPEAKING


def test_what_is_typed_brings_the_user_back() -> None:
    world = World(DialogRules(away_after=15.0), hooks=False)
    world.at(60.0)
    world.feed(UserTyped("I am here"))
    assert world.announced(UserStateChanged) == [
        UserStateChanged(UserState.LISTENING, UserState.AWAY),
        UserStateChanged(UserState.AWAY, UserState.LISTENING),
    ]
