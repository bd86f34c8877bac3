"""When the user is not listened to, and what becomes of what was said meanwhile."""

from __future__ import annotations

from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import Muted, RequestedCall, ToolFinished, Transcribed, UserStarted, UserStopped, UserTyped
from greenroom.dialog.notices import UserMuted

from .world import World


def test_the_greeting_is_not_interrupted_and_what_is_said_over_it_is_not_heard() -> None:
    world = World(DialogRules(mute=("greeting",)))
    world.at(1.0).say("s1")
    world.starts("s1")
    world.user_says("u1", "hello hello", begin=2.0, end=3.0)
    assert world.stopped() == []
    world.at(5.0)
    world.finishes("s1")
    world.user_says("u2", "what time is it", begin=6.0, end=7.0)
    world.at(9.0)
    assert world.history() == [("assistant", "hello"), ("user", "what time is it")]
    assert world.announced(UserMuted) == [UserMuted(on=True), UserMuted(on=False)]


def test_an_agent_without_a_greeting_listens_from_the_start() -> None:
    world = World(DialogRules(mute=("greeting",))).user_says("u1", "hello", begin=1.0, end=2.0)
    world.at(9.0)
    assert world.history() == [("user", "hello")]
    world.made("reply_turn_1", "hi")
    world.starts("reply_turn_1")
    world.user_says("u2", "", begin=9.1, end=9.2)
    assert world.announced(UserMuted)[:1] == [UserMuted(on=True)], "its first speech counts as the greeting"


def test_a_conversation_that_goes_on_has_had_its_greeting() -> None:
    world = World(DialogRules(mute=("greeting",)), resumed=True)
    world.at(1.0).say("s1")
    world.starts("s1")
    assert world.announced(UserMuted) == []


def test_an_utterance_that_is_still_spoken_when_the_mute_ends_counts_whole() -> None:
    world = World(DialogRules(mute=("greeting",)))
    world.at(1.0).say("s1")
    world.starts("s1")
    world.at(4.9).feed(UserStarted("u1", 4.8))
    world.at(5.0)
    world.finishes("s1")
    world.at(6.0).feed(UserStopped("u1", 5.8), Transcribed("u1", "wait a moment"))
    world.at(9.0)
    assert world.history() == [("assistant", "hello"), ("user", "wait a moment")]


def test_tools_are_left_to_work() -> None:
    world = World(DialogRules(mute=("tools",)))
    world.user_says("u1", "book it", begin=1.0, end=2.0)
    world.at(3.0)
    world.made("reply_turn_1", "", calls=(RequestedCall("c1", "book", "{}"),))
    world.user_says("u2", "are you there", begin=4.0, end=5.0)
    world.at(7.0)
    assert world.history() == [("user", "book it")]
    world.feed(ToolFinished("reply_turn_1", "c1", "booked"))
    world.user_says("u3", "thank you", begin=8.0, end=9.0)
    world.at(12.0)
    assert ("user", "thank you") in world.history()
    assert ("user", "are you there") not in world.history()


def test_the_agent_is_not_talked_over_when_speaking_mutes() -> None:
    world = World(DialogRules(mute=("speaking",)))
    world.at(1.0).say("s1")
    world.user_says("u1", "before it is heard", begin=1.1, end=1.5)
    world.at(3.0)
    assert ("user", "before it is heard") in world.history()
    world.starts("s1")
    world.user_says("u2", "over it", begin=3.5, end=4.0)
    world.at(8.0)
    assert ("user", "over it") not in world.history()


def test_an_agent_for_text_hears_no_voice() -> None:
    world = World(DialogRules(mute=("always",)))
    world.user_says("u1", "hello", begin=1.0, end=2.0)
    world.at(2.5).feed(Transcribed("", "words without a voice"))
    world.at(5.0)
    assert world.history() == []
    world.feed(UserTyped("typed"))
    assert world.history() == [("user", "typed")]


def test_the_program_mutes_and_listens_again() -> None:
    world = World()
    world.feed(Muted(on=True))
    world.user_says("u1", "to somebody else", begin=1.0, end=2.0)
    world.at(5.0).feed(Muted(on=False))
    world.user_says("u2", "to you", begin=6.0, end=7.0)
    world.at(9.0)
    assert world.history() == [("user", "to you")]


def test_a_turn_that_was_begun_before_the_mute_is_kept() -> None:
    world = World()
    world.at(1.06).feed(UserStarted("u1", 1.0))
    world.at(1.5).feed(Muted(on=True))
    world.at(2.25).feed(UserStopped("u1", 2.0), Transcribed("u1", "half and half"))
    world.at(5.0)
    assert world.history() == [("user", "half and half")]
