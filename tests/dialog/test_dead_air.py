"""Silence that the agent owes the user something in."""

from __future__ import annotations

import pytest

from greenroom.dialog.commands import Close, Hold
from greenroom.dialog.deadair import DeadAirRules
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import (
    Aired,
    CloseAsked,
    Generated,
    ListenerChanged,
    Played,
    RequestedCall,
    Synthesised,
    ToolFinished,
    UserStarted,
    UserStopped,
)
from greenroom.dialog.notices import DeadAir, SpeechCreated, SpeechEnded

from .world import World

RULES = DialogRules(
    dead_air=DeadAirRules(
        enabled=True,
        hold_after=4.0,
        fallback_after=6.0,
        end_after=8.0,
        hold_phrase="One moment.",
        fallback_phrase="Sorry?",
        end_phrase="Goodbye.",
    )
)


def asked(world: World, rules: DialogRules = RULES) -> World:
    """A question at 2.0; committed at 2.5."""
    world.user_says("u1", "what time is it", begin=1.0, end=2.0)
    world.at(2.6)
    assert world.when(type(world.log[-1][1]))
    return world


def heard(world: World, speech: str, *, begin: float, end: float, text: str = "hello") -> None:
    """It becomes audible, and is over."""
    world.at(begin)
    world.starts(speech)
    world.feed(Aired(audible=True, at=begin))
    world.at(end)
    world.finishes(speech, text)
    world.at(end + 0.5).feed(Aired(audible=False, at=end))


def phrases(world: World) -> list[str]:
    return [n.text for n in world.announced(SpeechCreated) if isinstance(n, SpeechCreated) and n.source == "guard"]


def steps(world: World) -> list[tuple[str, float]]:
    return [(n.step, round(n.silent, 3)) for n in world.announced(DeadAir) if isinstance(n, DeadAir)]


def test_a_model_that_hangs_is_bridged_given_up_and_ended() -> None:
    world = asked(World(RULES))
    world.at(6.6)
    assert steps(world) == [("hold", 4.0)]
    assert phrases(world) == ["One moment."]
    assert any(isinstance(command, Hold) for _, command in world.log), "the floor is taken back from what hangs"
    world.made("guard_1", "One moment.")
    heard(world, "guard_1", begin=6.8, end=8.0, text="One moment.")
    assert world.plays() == ["reply_turn_1", "guard_1", "reply_turn_1"]
    world.at(14.6)
    assert steps(world)[1] == ("fallback", 6.0), "counted from the holding phrase's end"
    assert phrases(world)[1] == "Sorry?"
    world.stops("reply_turn_1")
    (failed,) = (n for n in world.announced(SpeechEnded) if isinstance(n, SpeechEnded) and n.speech == "reply_turn_1")
    assert (failed.reason, failed.error) == ("failed", "nothing was audible for 6.0 s")
    world.made("guard_2", "Sorry?")
    heard(world, "guard_2", begin=15.0, end=16.0, text="Sorry?")
    world.at(60.0)
    assert len(steps(world)) == 2, "the user was told, and nothing is owed any more"
    assert world.dialog.deadline() is None


def test_an_answer_in_time_is_left_alone() -> None:
    world = asked(World(RULES))
    world.made("reply_turn_1", "Half past four.")
    heard(world, "reply_turn_1", begin=5.0, end=7.0)
    world.at(60.0)
    assert steps(world) == []


def test_an_answer_that_comes_during_the_holding_phrase_follows_it() -> None:
    world = asked(World(RULES))
    world.at(6.6)
    world.made("guard_1", "One moment.")
    world.at(6.7)
    world.starts("guard_1")
    world.feed(Aired(audible=True, at=6.7))
    world.made("reply_turn_1", "Half past four.")
    world.at(8.0)
    world.finishes("guard_1")
    assert world.plays() == ["reply_turn_1", "guard_1", "reply_turn_1"]
    heard(world, "reply_turn_1", begin=8.1, end=9.0, text="Half past four.")
    world.at(60.0)
    assert len(steps(world)) == 1


def test_a_voice_that_is_silent_is_dead_air_though_it_plays() -> None:
    world = asked(World(RULES))
    world.made("reply_turn_1", "Half past four.")
    world.at(3.0)
    world.starts("reply_turn_1")  # and nothing is audible
    world.at(12.7)
    assert [step for step, _ in steps(world)] == ["hold", "fallback"]
    assert phrases(world) == ["Sorry?"], "nothing can be put into a speech that has begun"
    assert world.stopped() == ["reply_turn_1"]


def test_when_nothing_can_be_said_the_call_is_ended_all_the_same() -> None:
    world = asked(World(RULES))
    world.at(40.0)  # neither the model nor the voice does anything
    assert [step for step, _ in steps(world)] == ["hold", "fallback", "end"]
    for speech in ("guard_1", "guard_2", "guard_3"):
        world.feed(Played(speech, 1, "stopped", world.now))
    assert world.when(Close) == [pytest.approx(2.5 + 4 + 6 + 8 + 8, abs=2.1)]
    (closed,) = (command for _, command in world.log if isinstance(command, Close))
    assert closed.reason == "dead air"


def test_the_end_is_spoken_and_protected() -> None:
    world = asked(World(RULES))
    world.at(6.6)
    world.feed(Played("guard_1", 1, "stopped", world.now))
    world.at(22.0)
    world.made("guard_3", "Goodbye.")
    world.starts("guard_3")
    world.feed(Aired(audible=True, at=22.0))
    world.feed(UserStarted("u2", 22.1))
    world.at(24.0)
    assert "guard_3" not in world.stopped()
    world.finishes("guard_3", "Goodbye.")
    assert world.when(Close) == [24.0]
    assert world.history()[-1] == ("assistant", "Goodbye.")


def test_a_tool_that_works_is_bridged_once_and_not_given_up() -> None:
    world = asked(World(RULES))
    world.made("reply_turn_1", "Let me look.", calls=(RequestedCall("c1", "look", "{}"),))
    heard(world, "reply_turn_1", begin=3.0, end=4.0, text="Let me look.")
    world.at(9.0)
    assert phrases(world) == ["One moment."]
    world.made("guard_1", "One moment.")
    heard(world, "guard_1", begin=9.0, end=10.0)
    world.at(100.0)
    assert len(steps(world)) == 1
    world.feed(ToolFinished("reply_turn_1", "c1", "found"))
    world.at(107.0)
    assert [step for step, _ in steps(world)] == ["hold", "fallback"], "what hangs now is the model"


def test_the_clock_stands_still_while_the_user_speaks_or_nobody_listens() -> None:
    world = asked(World(RULES))
    world.at(3.0).feed(UserStarted("u2", 3.0))
    world.at(30.0)
    assert steps(world) == []
    world.feed(UserStopped("u2", 29.9))
    world.at(31.0).feed(ListenerChanged(present=False))
    world.at(90.0)
    assert steps(world) == []
    world.feed(ListenerChanged(present=True))
    world.at(94.1)
    assert len(steps(world)) == 1


def test_a_transcriber_that_hangs_is_dead_air() -> None:
    world = World(RULES)
    world.at(1.06).feed(UserStarted("u1", 1.0))
    world.at(2.25).feed(UserStopped("u1", 2.0))
    world.at(7.0)
    assert [step for step, _ in steps(world)] == ["hold"]
    world.made("guard_1", "One moment.")
    heard(world, "guard_1", begin=7.0, end=8.0)
    world.at(20.0)
    assert [step for step, _ in steps(world)] == ["hold", "fallback"], "also when it was given up without words"


def test_a_hook_that_never_returns_is_dead_air() -> None:
    world = World(RULES, hooks=False)
    world.user_says("u1", "hello", begin=1.0, end=2.0)
    world.at(40.0)
    assert [step for step, _ in steps(world)] == ["hold", "fallback", "end"]


def test_a_phrase_that_is_empty_is_not_said() -> None:
    rules = DialogRules(dead_air=DeadAirRules(enabled=True, hold_after=4.0, fallback_after=6.0, end_after=8.0))
    world = asked(World(rules))
    world.at(12.6)
    world.stops("reply_turn_1")
    world.at(60.0)
    assert phrases(world) == []
    assert [step for step, _ in steps(world)] == ["hold", "fallback", "end"]
    assert len(world.when(Close)) == 1


def test_an_answer_that_fails_unheard_goes_to_the_fallback_at_once() -> None:
    world = asked(World(RULES))
    world.at(3.0).feed(Generated("reply_turn_1", 1, "failed", error="gone"))
    world.feed(Played("reply_turn_1", 1, "finished", 3.0))
    assert steps(world) == [("fallback", 0.5)]
    world.made("guard_1", "Sorry?")
    heard(world, "guard_1", begin=3.1, end=4.0, text="Sorry?")
    world.at(60.0)
    assert len(steps(world)) == 1


def test_a_voice_that_is_gone_for_good_ends_the_call() -> None:
    world = asked(World(RULES))
    world.at(3.0)
    for speech in ("reply_turn_1", "guard_1", "guard_2"):
        world.feed(Synthesised(speech, 1, "failed", error="gone"), Played(speech, 1, "finished", world.now))
        world.at(world.now + 9.0)
    assert [step for step, _ in steps(world)] == ["fallback", "end"]
    assert len(world.when(Close)) == 1


def test_a_quiet_conversation_is_not_dead_air() -> None:
    world = World(RULES)
    world.at(300.0)
    assert steps(world) == []
    world.feed(CloseAsked("done"))
    assert len(world.when(Close)) == 1
