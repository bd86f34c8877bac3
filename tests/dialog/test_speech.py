"""The agent's side: who has the floor, what interrupts, what is kept."""

from __future__ import annotations

import pytest

from greenroom.dialog.commands import (
    CancelGeneration,
    Close,
    Drop,
    Generate,
    Hold,
    Pause,
    Play,
    Resume,
    RunTool,
    Stop,
    Synthesise,
)
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import (
    CloseAsked,
    Generated,
    InterruptAsked,
    Played,
    ProtectionChanged,
    RequestedCall,
    SpeechRequested,
    Synthesised,
    ToolFinished,
    Transcribed,
    UserStarted,
    UserStopped,
    UserTyped,
)
from greenroom.dialog.interruption import InterruptionRules
from greenroom.dialog.notices import Backchannel, FalseInterruption

from .world import World

CALL = RequestedCall("c1", "look_up", '{"city":"Rome"}')


def test_a_speech_is_made_voiced_and_played_at_once_when_the_floor_is_free() -> None:
    world = World()
    world.feed(SpeechRequested("s1", "say", text="hello"))
    assert world.take() == [Generate("s1", 1), Synthesise("s1", 1), Play("s1", 1)]


def test_speeches_play_one_after_another_and_the_next_is_voiced_meanwhile() -> None:
    world = World()
    world.say("s1")
    world.say("s2")
    world.say("s3")
    world.take()
    world.at(1.0).starts("s1")
    assert world.take() == [Synthesise("s2", 1)]
    world.at(2.0).finishes("s1")
    assert world.plays() == ["s2"]


def test_order_is_priority_then_place_then_arrival() -> None:
    world = World()
    world.say("playing")
    world.starts("playing")
    world.say("low", priority=0)
    world.say("first")
    world.say("second")
    world.say("next", place="next")
    world.say("high", priority=10)
    order = []
    for _ in range(6):
        current = world.dialog.current_speech
        assert current is not None
        order.append(current)
        if current != "playing":
            world.starts(current)
        world.finishes(current)
    assert order == ["playing", "high", "next", "first", "second", "low"]


STOPS = DialogRules(interruption=InterruptionRules(pause=False))


def test_without_pauses_the_users_voice_stops_the_agents_after_the_minimum_duration() -> None:
    world = World(STOPS)
    world.say("s1")
    world.at(1.0).starts("s1")
    world.at(3.06).feed(UserStarted("u1", 3.0))
    world.at(3.49)
    assert world.stopped() == []
    world.at(3.6)
    assert world.when(Stop) == [pytest.approx(3.5)]
    world.stops("s1", "hel")
    assert world.ended() == {"s1": "interrupted"}
    assert world.history() == [("assistant", "hel")]


def test_without_pauses_a_short_noise_does_nothing() -> None:
    world = World(STOPS)
    world.say("s1")
    world.at(1.0).starts("s1")
    world.user_says("u1", "", begin=3.0, end=3.2)
    world.at(10.0)
    assert world.stopped() == []


def paused() -> World:
    """A speech that fell silent at 3.06, when the user's voice was noticed."""
    world = World()
    world.say("s1")
    world.at(1.0).starts("s1")
    world.at(3.06).feed(UserStarted("u1", 3.0))
    assert world.take()[-1] == Pause("s1", 1)
    return world


def test_words_after_a_pause_stop_the_speech() -> None:
    world = paused()
    world.at(3.6).feed(Transcribed("u1", "wait a", final=False))
    assert world.take() == [CancelGeneration("s1"), Stop("s1", 1)]
    world.stops("s1", "hel")
    world.at(4.0).feed(UserStopped("u1", 3.75))
    world.at(4.1).feed(Transcribed("u1", "wait a moment"))
    world.at(9.0)
    assert world.plays() == ["reply_turn_1"]


def test_a_cough_resumes_at_once_when_it_turns_out_to_hold_no_words() -> None:
    world = paused()
    world.at(3.45).feed(UserStopped("u1", 3.2))
    world.at(3.6).feed(Transcribed("u1", ""))
    assert world.take() == [Resume("s1", 1)]
    assert world.announced(FalseInterruption) == []  # taken with the log
    world.finishes("s1")
    assert world.ended() == {"s1": "finished"}


def test_a_pause_ends_when_no_words_come_in_time() -> None:
    world = paused()
    world.at(3.45).feed(UserStopped("u1", 3.2))
    world.at(9.0)
    assert world.when(Resume) == [pytest.approx(5.45)]
    # Words that come after all interrupt like any turn.
    world.feed(Transcribed("u1", "late words"))
    assert world.stopped() == ["s1"]


def test_a_backchannel_resumes_and_is_no_turn() -> None:
    world = paused()
    world.at(3.45).feed(UserStopped("u1", 3.2))
    world.at(3.5).feed(Transcribed("u1", "Mm-hm."))
    world.at(9.0)
    assert world.announced(Backchannel) == [Backchannel("turn_1", "Mm-hm.")]
    assert world.when(Resume) == [pytest.approx(3.7)]
    assert world.history() == []


def test_the_same_words_are_a_turn_when_the_agent_is_silent() -> None:
    world = World().user_says("u1", "Okay.", begin=1.0, end=1.4)
    world.at(5.0)
    assert world.history() == [("user", "Okay.")]


def test_fewer_words_than_the_minimum_do_not_interrupt() -> None:
    world = World(DialogRules(interruption=InterruptionRules(min_words=3)))
    world.say("s1")
    world.at(1.0).starts("s1")
    world.user_says("u1", "oh really", begin=3.0, end=3.5)
    world.at(9.0)
    assert world.stopped() == []
    assert world.history() == []
    world.user_says("u2", "no not at all", begin=10.0, end=11.0)
    assert world.stopped() == ["s1"]


def test_a_speech_that_becomes_protected_while_it_is_paused_goes_on() -> None:
    world = paused()
    world.feed(ProtectionChanged("s1", allow_interruptions=False))
    assert world.take() == [Resume("s1", 1)]


def test_a_protected_speech_plays_on_and_the_turn_is_answered_after_it() -> None:
    world = World()
    world.say("s1", allow_interruptions=False)
    world.at(1.0).starts("s1")
    world.user_says("u1", "hello", begin=2.0, end=4.0)
    world.at(8.0)
    assert world.stopped() == []
    world.finishes("s1")
    assert world.plays() == ["s1", "reply_turn_1"]


def test_protection_can_be_changed_while_it_plays() -> None:
    world = World()
    world.say("s1")
    world.at(1.0).starts("s1")
    world.feed(ProtectionChanged("s1", allow_interruptions=False))
    world.feed(InterruptAsked("s1"))
    assert world.stopped() == []
    world.feed(InterruptAsked("s1", force=True))
    assert world.stopped() == ["s1"]


def test_no_reply_starts_over_the_users_voice() -> None:
    world = World()
    world.at(1.0).feed(UserTyped("hello"))
    world.take()
    world.at(1.1).feed(UserStarted("u1", 1.04))
    assert world.take() == [Hold("reply_turn_1", 1)]
    world.made("reply_turn_1", "hi")
    assert world.take() == []
    world.at(1.5).feed(UserStopped("u1", 1.2))
    assert world.take() == [Play("reply_turn_1", 1)]


def test_an_answer_that_nobody_heard_is_superseded_by_the_next() -> None:
    world = World().user_says("u1", "what time is it", begin=1.0, end=2.0)
    world.at(2.6).user_says("u2", "in Rome", begin=2.6, end=3.2)
    world.at(5.0)
    assert world.ended() == {"reply_turn_1": "superseded"}
    assert world.dialog.current_speech == "reply_turn_2"
    assert world.history() == [("user", "what time is it"), ("user", "in Rome")]


def test_interrupting_everything_spares_what_is_protected() -> None:
    world = World()
    world.say("s1")
    world.say("s2", allow_interruptions=False)
    world.say("s3")
    world.starts("s1")
    world.feed(InterruptAsked())
    world.stops("s1")
    assert world.ended() == {"s1": "interrupted", "s3": "interrupted"}
    assert world.dialog.current_speech == "s2"


def test_a_group_is_cancelled_together() -> None:
    world = World()
    world.say("s1", group="news")
    world.say("s2")
    world.say("s3", group="news")
    world.feed(InterruptAsked(group="news"))
    world.stops("s1")
    assert world.ended() == {"s1": "interrupted", "s3": "interrupted"}
    assert world.dialog.current_speech == "s2"


def test_a_speech_expires_in_the_queue_but_not_once_it_plays() -> None:
    world = World()
    world.say("s1", ttl=2.0)
    world.at(0.5).starts("s1")
    world.say("s2", ttl=1.0)
    world.at(10.0)
    assert world.ended() == {"s2": "expired"}


def test_a_key_keeps_out_duplicates_while_the_first_is_alive() -> None:
    world = World()
    world.say("s1", key="busy")
    world.say("s2", key="busy")
    assert world.ended() == {"s2": "duplicate"}
    world.starts("s1")
    world.finishes("s1")
    world.say("s3", key="busy")
    assert world.dialog.current_speech == "s3"


def test_replace_takes_the_place_of_everything_that_may_be_interrupted() -> None:
    world = World()
    world.say("s1")
    world.starts("s1")
    world.say("s2")
    world.say("s3", place="replace")
    world.stops("s1")
    assert world.ended() == {"s2": "replaced", "s1": "replaced"}
    assert world.dialog.current_speech == "s3"


def test_tools_run_once_and_the_speech_goes_on_with_their_results() -> None:
    world = World()
    world.feed(SpeechRequested("s1", "generate_reply"))
    world.take()
    world.made("s1", "let me look", calls=(CALL,))
    assert world.take() == [RunTool("s1", 1, CALL)]
    world.at(1.0).starts("s1")
    world.at(2.0).finishes("s1", "let me look")
    world.at(3.0).feed(ToolFinished("s1", "c1", "sunny"))
    assert [type(c).__name__ for c in world.take()] == ["Commit", "Commit", "Commit", "Generate", "Synthesise", "Play"]
    assert world.feed(ToolFinished("s1", "c1", "sunny")) == [Drop("ToolFinished", "tool call c1 is not running")]
    world.made("s1", "it is sunny", step=2)
    world.at(4.0).starts("s1", step=2)
    world.at(5.0).finishes("s1", "it is sunny", step=2)
    assert world.ended() == {"s1": "finished"}


def test_results_come_after_the_words_before_them_in_the_history() -> None:
    world = World()
    world.feed(SpeechRequested("s1", "generate_reply"))
    world.made("s1", "let me look", calls=(CALL,))
    world.at(1.0).starts("s1")
    world.at(1.5).feed(ToolFinished("s1", "c1", "sunny"))
    assert world.history() == []
    world.at(2.0).finishes("s1", "let me look")
    assert [row[0] for row in world.history()] == ["assistant", "FunctionCall", "FunctionCallOutput"]
    assert world.plays() == ["s1", "s1"]


def test_a_tool_may_speak_while_its_speech_waits_for_it() -> None:
    world = World()
    world.feed(SpeechRequested("s1", "generate_reply"))
    world.made("s1", "", calls=(CALL,))
    world.finishes("s1", "")
    world.say("s2", "one moment")
    assert world.dialog.current_speech == "s2"
    world.starts("s2")
    world.feed(ToolFinished("s1", "c1", "sunny"))
    world.say("s3")
    world.finishes("s2")
    assert world.dialog.current_speech == "s1"  # it goes on ahead of what came later


def test_a_tool_that_returns_nothing_ends_the_speech() -> None:
    world = World()
    world.feed(SpeechRequested("s1", "generate_reply"))
    world.made("s1", "", calls=(CALL,))
    world.finishes("s1", "")
    world.feed(ToolFinished("s1", "c1", "", reply=False))
    assert world.ended() == {"s1": "finished"}


def test_a_tools_result_is_kept_whatever_became_of_its_speech() -> None:
    world = World()
    world.feed(SpeechRequested("s1", "generate_reply"))
    world.made("s1", "let me", calls=(CALL,))
    world.at(1.0).starts("s1")
    world.feed(InterruptAsked("s1"))
    world.stops("s1", "let")
    world.at(9.0).feed(ToolFinished("s1", "c1", "booked"))
    assert [row[0] for row in world.history()] == ["assistant", "FunctionCall", "FunctionCallOutput"]
    assert world.ended() == {"s1": "interrupted"}
    assert len(world.when(Generate)) == 1


def test_tool_rounds_are_limited() -> None:
    world = World(DialogRules(max_tool_steps=1))
    world.feed(SpeechRequested("s1", "generate_reply"))
    world.made("s1", "", calls=(CALL,))
    world.finishes("s1", "")
    world.feed(ToolFinished("s1", "c1", "sunny"))
    world.take()
    world.made("s1", "more", step=2, calls=(RequestedCall("c2", "look_up", "{}"),))
    assert not world.when(RunTool)
    world.finishes("s1", "more", step=2)
    assert world.ended() == {"s1": "finished"}


@pytest.mark.parametrize("on_the_floor", [True, False])
def test_a_failing_model_ends_its_speech_with_the_reason(on_the_floor: bool) -> None:
    world = World()
    if not on_the_floor:
        world.say("s0", allow_interruptions=False)
    world.feed(SpeechRequested("s1", "generate_reply"), Generated("s1", 1, "failed", "half", error="llm: gone"))
    if on_the_floor:
        world.finishes("s1", "half")
    assert world.ended() == {"s1": "failed"}


def test_a_failing_voice_ends_its_speech_after_what_was_made() -> None:
    world = World()
    world.say("s1")
    world.starts("s1")
    world.feed(Synthesised("s1", 1, "failed", 0.4, "tts: gone"))
    assert world.ended() == {}
    world.finishes("s1", "hel")
    assert world.ended() == {"s1": "failed"}
    assert world.history() == [("assistant", "hel")]


def test_a_playout_that_never_reports_its_stop_loses_the_floor() -> None:
    world = World()
    world.say("s1")
    world.starts("s1")
    world.say("s2")
    world.feed(InterruptAsked("s1"))
    world.at(10.0)
    assert world.ended() == {"s1": "interrupted"}
    assert world.dialog.current_speech == "s2"
    assert isinstance(world.feed(Played("s1", 1, "stopped"))[0], Drop)


def test_a_late_event_of_an_ended_speech_changes_nothing() -> None:
    world = World()
    world.say("a")
    world.starts("a")
    world.finishes("a")
    world.say("b")
    world.starts("b")
    assert isinstance(world.finishes("a")[0], Drop)
    assert world.dialog.current_speech == "b"


def test_closing_at_once_ends_every_speech_and_commands_nothing_after() -> None:
    world = World()
    world.say("s1", allow_interruptions=False)
    world.starts("s1")
    world.say("s2")
    world.feed(CloseAsked("caller left"))
    assert world.take()[-2:] == [CancelGeneration("s2"), Stop("s1", 1)] or world.log == []
    world.stops("s1")
    assert world.take()[-1] == Close("caller left")
    assert world.feed(UserTyped("hello")) == [Drop("UserTyped", "the conversation is closed")]
    assert world.dialog.deadline() is None


def test_draining_lets_what_waits_be_said_and_takes_no_more() -> None:
    world = World()
    world.say("s1")
    world.say("s2")
    world.feed(CloseAsked("bye", drain=True))
    world.feed(SpeechRequested("s3", "say", text="late"))
    assert world.ended() == {"s3": "closed"}
    for speech in ("s1", "s2"):
        world.starts(speech)
        world.finishes(speech)
    assert world.take()[-1] == Close("bye")
