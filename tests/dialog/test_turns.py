"""The user's side: when a turn is over, and what becomes of it."""

from __future__ import annotations

import pytest

from greenroom.dialog.commands import Drop, Generate, RunHook
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import AgentState, HookFinished, Started, Transcribed, UserStarted, UserStopped, UserTyped
from greenroom.dialog.notices import AgentStateChanged, TurnTimedOut, UserTranscribed
from greenroom.dialog.turns import TurnRules

from .world import World


def test_a_turn_ends_min_delay_after_its_last_voiced_sample() -> None:
    world = World().user_says("u1", "what time is it", begin=1.0, end=2.0, words_after=0.3)
    world.at(5.0)
    assert world.when(RunHook) == [pytest.approx(2.5)]
    assert world.when(Generate) == [pytest.approx(2.5)]
    assert world.history() == [("user", "what time is it")]
    assert world.plays() == ["reply_turn_1"]


def test_a_slow_transcript_ends_the_turn_when_it_comes() -> None:
    world = World().user_says("u1", "what time is it", begin=1.0, end=2.0, words_after=1.4)
    world.at(6.0)
    assert world.when(RunHook) == [pytest.approx(3.4)]


def test_a_pause_shorter_than_min_delay_keeps_the_turn() -> None:
    world = World()
    world.at(1.06).feed(UserStarted("u1", 1.0))
    world.at(2.25).feed(UserStopped("u1", 2.0))
    world.at(2.3).feed(Transcribed("u1", "what time"))
    world.at(2.46).feed(UserStarted("u2", 2.4))
    world.at(3.25).feed(UserStopped("u2", 3.0))
    world.at(3.3).feed(Transcribed("u2", "is it"))
    world.at(9.0)
    assert world.when(RunHook) == [pytest.approx(3.5)]
    assert world.history() == [("user", "what time is it")]
    texts = [n.text for n in world.announced(UserTranscribed) if isinstance(n, UserTranscribed)]
    assert texts == ["what time", "what time is it"]


def test_a_noise_without_words_leaves_no_trace() -> None:
    world = World().user_says("u1", "", begin=1.0, end=1.2)
    world.at(20.0)
    assert world.take() == []
    assert world.dialog.deadline() is None


def test_words_that_the_transcriber_owes_are_waited_for_until_the_timeout() -> None:
    world = World(DialogRules(turns=TurnRules(transcript_timeout=4.0)))
    world.at(1.06).feed(UserStarted("u1", 1.0))
    world.at(2.25).feed(UserStopped("u1", 2.0))
    world.at(20.0)
    assert world.announced(TurnTimedOut) == [TurnTimedOut("turn_1", ("u1",))]
    assert world.when(RunHook) == []
    # They come after all: answered at once, and once.
    world.feed(Transcribed("u1", "are you there"))
    world.at(30.0)
    assert world.history() == [("user", "are you there")]
    assert world.feed(Transcribed("u1", "are you there"))[0] == Drop("Transcribed", "utterance u1 is unknown")


def test_late_words_join_the_turn_that_is_being_spoken() -> None:
    world = World(DialogRules(turns=TurnRules(transcript_timeout=1.0)))
    world.at(1.06).feed(UserStarted("u1", 1.0))
    world.at(2.25).feed(UserStopped("u1", 2.0))
    world.at(5.0).feed(UserStarted("u2", 4.94))
    world.at(5.2).feed(Transcribed("u1", "one"))
    world.at(6.25).feed(UserStopped("u2", 6.0))
    world.at(6.3).feed(Transcribed("u2", "two"))
    world.at(9.0)
    assert world.history() == [("user", "one two")]


def test_interim_words_are_owed_until_they_are_final() -> None:
    world = World()
    world.at(1.06).feed(UserStarted("u1", 1.0))
    world.at(1.8).feed(Transcribed("", "first sentence."))
    world.at(1.9).feed(Transcribed("", "second", final=False))
    world.at(2.25).feed(UserStopped("u1", 2.0))
    world.at(2.9)
    assert world.when(RunHook) == []
    world.feed(Transcribed("", "second sentence."))
    assert world.history() == [("user", "first sentence. second sentence.")]


def test_words_without_voice_activity_are_a_turn() -> None:
    world = World()
    world.at(1.0).feed(Transcribed("", "hello there"))
    world.at(3.0)
    assert world.when(RunHook) == [pytest.approx(1.5)]


def test_typed_text_is_a_turn_at_once() -> None:
    world = World()
    world.at(1.0).feed(UserTyped("hello"))
    assert world.history() == [("user", "hello")]
    assert world.plays() == ["reply_turn_1"]


def test_a_hook_can_end_a_turn_without_an_answer() -> None:
    world = World(hooks=False).user_says("u1", "never mind", begin=1.0, end=2.0)
    world.at(3.0).take()
    world.feed(HookFinished("turn_1", False, "never mind"))
    assert world.take() == []


def test_hooks_run_one_at_a_time_in_order() -> None:
    world = World(hooks=False)
    world.at(1.0).feed(UserTyped("one"))
    world.at(1.1).feed(UserTyped("two"))
    assert world.take() == [RunHook("turn_1", "one")]
    world.at(1.2).feed(HookFinished("turn_1", True, "one"))
    assert RunHook("turn_2", "two") in world.take()
    world.at(1.3).feed(HookFinished("turn_2", True, "two"))
    assert world.ended() == {"reply_turn_1": "superseded"}
    assert world.plays() == ["reply_turn_2"]


def test_the_agent_thinks_from_the_turns_end_until_it_is_heard() -> None:
    world = World().user_says("u1", "hello", begin=1.0, end=2.0)
    world.at(2.6).made("reply_turn_1", "hi")
    world.at(2.7).starts("reply_turn_1")
    world.at(3.7).finishes("reply_turn_1", "hi")
    changes = [(n.old, n.new) for n in world.announced(AgentStateChanged) if isinstance(n, AgentStateChanged)]
    assert changes == [
        (AgentState.INITIALIZING, AgentState.LISTENING),
        (AgentState.LISTENING, AgentState.THINKING),
        (AgentState.THINKING, AgentState.SPEAKING),
        (AgentState.SPEAKING, AgentState.LISTENING),
    ]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (UserStopped("u9", 1.0), "utterance u9 is not being spoken"),
        (Transcribed("u9", "words"), "utterance u9 is unknown"),
        (HookFinished("turn_9", True, "x"), "turn_9 is not waiting for its hook"),
        (Started(), "the session has started already"),
    ],
)
def test_an_event_without_an_owner_is_dropped(event: object, reason: str) -> None:
    world = World()
    assert world.feed(event) == [Drop(type(event).__name__, reason)]  # type: ignore[arg-type]
