"""Answers that are begun before their turn is committed."""

from __future__ import annotations

import pytest

from greenroom.dialog.commands import CancelGeneration, Generate, RunTool
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import (
    CloseAsked,
    Generated,
    HookFinished,
    RequestedCall,
    Transcribed,
    UserStarted,
    UserStopped,
    UserTyped,
)
from greenroom.dialog.notices import EarlyReplyDiscarded

from .world import World

EARLY = DialogRules(preemptive=True)
CALL = RequestedCall("c1", "look_up", "{}")


def asked(*, hooks: bool = True) -> World:
    """Words are final at 2.25, the turn is over at 2.5."""
    world = World(EARLY, hooks=hooks)
    return world.user_says("u1", "what time is it", begin=1.0, end=2.0, words_after=0.25)


def test_it_begins_with_the_final_words_and_is_heard_after_the_commit() -> None:
    world = asked()
    assert world.take() == [Generate("early_1", 1, "what time is it")]
    world.at(2.4).made("early_1", "noon")
    assert world.take() == []
    world.at(2.6)
    assert world.plays() == ["early_1"]
    assert world.history() == [("user", "what time is it")]
    assert not world.when(Generate)


def test_words_can_be_final_before_the_voice_is_known_to_have_ended() -> None:
    world = World(EARLY)
    world.at(1.06).feed(UserStarted("u1", 1.0))
    world.at(2.2).feed(Transcribed("u1", "what time is it"))
    assert world.when(Generate) == [pytest.approx(2.2)]
    world.at(2.25).feed(UserStopped("u1", 2.0))
    world.at(2.3).feed(Transcribed("u1", ""))  # nothing came after them
    world.at(2.6)
    assert world.plays() == ["early_1"]


def test_more_words_replace_it() -> None:
    world = asked()
    world.at(2.4).feed(UserStarted("u2", 2.34))
    assert world.take() == [Generate("early_1", 1, "what time is it"), CancelGeneration("early_1")]
    world.at(3.25).feed(UserStopped("u2", 3.0))
    world.at(3.3).feed(Transcribed("u2", "in Rome"))
    assert world.take() == [Generate("early_2", 1, "what time is it in Rome")]
    world.at(4.0)
    assert world.plays() == ["early_2"]


@pytest.mark.parametrize(
    "hook",
    [
        HookFinished("turn_1", True, "what time is it", changed=True),
        HookFinished("turn_1", True, "what time is it in Rome"),
    ],
)
def test_a_hook_that_changes_something_replaces_it(hook: HookFinished) -> None:
    world = asked(hooks=False)
    world.at(2.6).made("early_1", "noon")
    world.take()
    world.feed(hook)
    assert world.announced(EarlyReplyDiscarded) == [EarlyReplyDiscarded("early_1")]
    assert world.plays() == ["reply_turn_1"]


def test_a_hook_that_wants_no_answer_ends_it() -> None:
    world = asked(hooks=False)
    world.at(2.6).feed(HookFinished("turn_1", False, "what time is it"))
    assert world.announced(EarlyReplyDiscarded) == [EarlyReplyDiscarded("early_1")]
    assert world.plays() == []


def test_something_new_in_the_history_replaces_it() -> None:
    world = asked(hooks=False)
    world.at(2.6).say("s1")
    world.starts("s1")
    world.finishes("s1")
    world.feed(HookFinished("turn_1", True, "what time is it"))
    assert world.announced(EarlyReplyDiscarded) == [EarlyReplyDiscarded("early_1")]


def test_its_tools_run_only_once_it_is_kept() -> None:
    world = asked()
    world.at(2.3).made("early_1", "", calls=(CALL,))
    assert not world.when(RunTool)
    world.at(2.6)
    assert world.when(RunTool) == [pytest.approx(2.5)]


def test_one_that_failed_is_made_again() -> None:
    world = asked()
    world.at(2.3).feed(Generated("early_1", 1, "failed", error="llm: gone"))
    world.at(2.6)
    assert world.plays() == ["reply_turn_1"]
    assert world.ended() == {}


def test_nothing_is_begun_for_noise_or_after_the_end() -> None:
    world = World(EARLY).user_says("u1", "", begin=1.0, end=1.3)
    world.at(5.0)
    assert world.take() == []
    world = asked()
    world.feed(CloseAsked("bye"))
    assert world.announced(EarlyReplyDiscarded) == [EarlyReplyDiscarded("early_1")]


def test_typed_turns_need_no_early_answer() -> None:
    world = World(EARLY)
    world.feed(UserTyped("hello"))
    assert world.plays() == ["reply_turn_1"]
