"""Tools under barge-in and repetition, and hand-off to another agent."""

from __future__ import annotations

import pytest

from greenroom.dialog.commands import CancelTool, Commit, Drop, Generate, RunHook, RunTool, SwitchAgent
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import (
    AgentChanged,
    HandOff,
    HookFinished,
    InterruptAsked,
    OnDuplicate,
    OnInterrupt,
    RequestedCall,
    ToolFinished,
    UserTyped,
)
from greenroom.dialog.history import FunctionCallOutput
from greenroom.dialog.notices import SpeechCreated, SpeechEnded

from .world import World


def call(
    call_id: str, name: str = "look", *, cut: OnInterrupt = "finish", again: OnDuplicate = "allow"
) -> RequestedCall:
    return RequestedCall(call_id, name, "{}", cut, again)


def calling(*calls: RequestedCall) -> World:
    """The agent says "let me see", and calls tools."""
    world = World()
    world.say("s0", "ignored")
    world.starts("s0")
    world.finishes("s0")
    world.take()
    world.feed(UserTyped("look it up"))
    world.made("reply_turn_1", "let me see", calls=calls)
    world.starts("reply_turn_1")
    return world


def outputs(world: World) -> list[tuple[str, str, bool]]:
    items = [command.item for _, command in world.log if isinstance(command, Commit)]
    return [(item.call_id, item.output, item.is_error) for item in items if isinstance(item, FunctionCallOutput)]


def test_a_tool_runs_on_under_barge_in_and_its_result_is_kept() -> None:
    world = calling(call("c1"))
    world.feed(InterruptAsked())
    world.stops("reply_turn_1", "let me")
    world.feed(ToolFinished("reply_turn_1", "c1", "found"))
    assert outputs(world) == [("c1", "found", False)]
    assert world.when(CancelTool) == []
    assert [c for _, c in world.log if isinstance(c, Generate)] == [Generate("reply_turn_1", 1)]


def test_a_tool_that_wants_to_be_cancelled_is_and_the_model_is_told() -> None:
    world = calling(call("c1", cut="cancel"), call("c2"))
    commands = world.feed(InterruptAsked())
    assert CancelTool("c1") in commands
    world.stops("reply_turn_1", "let me")
    assert outputs(world) == [("c1", "It was cancelled, because the speech was interrupted.", True)]
    assert world.feed(ToolFinished("reply_turn_1", "c1", "late")) == [
        Drop("ToolFinished", "tool call c1 is not running")
    ]
    world.feed(ToolFinished("reply_turn_1", "c2", "found"))
    assert outputs(world)[1] == ("c2", "found", False)


def test_a_tool_whose_result_matters_is_told_though_the_speech_was_interrupted() -> None:
    world = calling(call("c1", cut="tell"))
    world.feed(InterruptAsked())
    world.stops("reply_turn_1", "let me")
    world.feed(ToolFinished("reply_turn_1", "c1", "booked"))
    created = [n for n in world.announced(SpeechCreated) if isinstance(n, SpeechCreated) and n.source == "tool"]
    assert [n.speech for n in created] == ["tool_1"]
    assert Generate("tool_1", 1) in [command for _, command in world.log]
    assert outputs(world) == [("c1", "booked", False)], "the model sees it"


def test_it_is_told_also_when_it_returns_while_the_speech_falls_silent() -> None:
    world = calling(call("c1", cut="tell"))
    world.feed(InterruptAsked())
    world.feed(ToolFinished("reply_turn_1", "c1", "booked"))
    world.stops("reply_turn_1", "let me")
    assert Generate("tool_1", 1) in [command for _, command in world.log]
    assert outputs(world) == [("c1", "booked", False)]


def test_a_result_without_a_reply_is_not_told() -> None:
    world = calling(call("c1", cut="tell"))
    world.feed(InterruptAsked())
    world.stops("reply_turn_1", "let me")
    world.feed(ToolFinished("reply_turn_1", "c1", "", reply=False))
    assert [n for n in world.announced(SpeechCreated) if isinstance(n, SpeechCreated) and n.source == "tool"] == []


def test_two_calls_of_one_tool_both_run_unless_it_says_otherwise() -> None:
    world = calling(call("c1"), call("c2"))
    assert [c.call.call_id for _, c in world.log if isinstance(c, RunTool)] == ["c1", "c2"]


def test_a_second_call_is_refused_while_the_first_runs() -> None:
    world = calling(call("c1", again="reject"), call("c2", again="reject"))
    assert [c.call.call_id for _, c in world.log if isinstance(c, RunTool)] == ["c1"]
    world.finishes("reply_turn_1", "let me see")
    world.feed(ToolFinished("reply_turn_1", "c1", "found", reply=False))
    assert outputs(world) == [("c2", "look is running already.", True), ("c1", "found", False)]
    assert Generate("reply_turn_1", 2) in [c for _, c in world.log], "the model is to react to the refusal"


def test_a_refusal_alone_goes_on_at_once() -> None:
    world = calling(call("c1", again="reject"))
    world.feed(InterruptAsked())
    world.stops("reply_turn_1", "let me")
    world.feed(UserTyped("and?"))
    world.made("reply_turn_2", "", calls=(call("c2", again="reject"),))
    assert Generate("reply_turn_2", 2) in [c for _, c in world.log]


def test_a_second_call_replaces_the_first() -> None:
    world = calling(call("c1", again="replace"))
    world.finishes("reply_turn_1", "let me see")
    world.feed(UserTyped("no, the other one"))
    world.made("reply_turn_2", "sure", calls=(call("c2", again="replace"),))
    assert CancelTool("c1") in [c for _, c in world.log]
    assert outputs(world) == [("c1", "It was replaced by a newer call.", True)]
    assert world.ended()["reply_turn_1"] in ("finished", "interrupted", "superseded")
    assert world.feed(ToolFinished("reply_turn_1", "c1", "late"))[0] == Drop(
        "ToolFinished", "tool call c1 is not running"
    )


# --- hand-off -------------------------------------------------------------------------------------------------------


def test_the_conversation_is_handed_over_when_the_speech_that_called_has_ended() -> None:
    world = calling(call("c1", "transfer"))
    world.feed(ToolFinished("reply_turn_1", "c1", "", reply=False, agent="Sales_1"))
    assert world.when(SwitchAgent) == [], "its words are heard first"
    commands = world.finishes("reply_turn_1", "let me see")
    assert SwitchAgent("Sales_1") in commands
    assert outputs(world) == [("c1", "", False)]


def test_a_hand_off_with_a_result_lets_the_old_agent_answer_first() -> None:
    world = calling(call("c1", "transfer"))
    world.finishes("reply_turn_1", "let me see")
    world.feed(ToolFinished("reply_turn_1", "c1", "say goodbye", agent="Sales_1"))
    assert world.when(SwitchAgent) == []
    world.made("reply_turn_1", "Goodbye.", step=2)
    world.starts("reply_turn_1", step=2)
    assert SwitchAgent("Sales_1") in world.finishes("reply_turn_1", "Goodbye.", step=2)


@pytest.mark.parametrize("first", ["stop", "tool"])
def test_a_hand_off_is_not_lost_by_an_interruption(first: str) -> None:
    world = calling(call("c1", "transfer"))
    world.feed(InterruptAsked())
    returned = ToolFinished("reply_turn_1", "c1", "", reply=False, agent="Sales_1")
    if first == "tool":
        world.feed(returned)
    world.stops("reply_turn_1", "let me")
    if first == "stop":
        world.feed(returned)
    assert [c for _, c in world.log if isinstance(c, SwitchAgent)] == [SwitchAgent("Sales_1")]


def test_no_turn_is_answered_between_two_agents() -> None:
    world = World(hooks=False)
    assert world.feed(HandOff("Sales_1")) == [SwitchAgent("Sales_1")]
    world.feed(UserTyped("hello?"))
    assert world.when(RunHook) == []
    world.feed(AgentChanged("Sales_1"))
    assert len(world.when(RunHook)) == 1
    assert world.feed(AgentChanged("Sales_1"))[0] == Drop("AgentChanged", "nobody asked for Sales_1")


def test_a_hand_off_waits_for_the_turn_that_is_being_decided() -> None:
    world = World(hooks=False)
    world.feed(UserTyped("hello"))
    assert world.feed(HandOff("Sales_1")) == []
    assert SwitchAgent("Sales_1") in world.feed(HookFinished("turn_1", True, "hello"))


def test_hand_offs_come_one_after_the_other() -> None:
    world = World()
    world.feed(HandOff("A_1"), HandOff("B_2"))
    assert [c.agent for _, c in world.log if isinstance(c, SwitchAgent)] == ["A_1"]
    world.feed(AgentChanged("A_1"))
    assert [c.agent for _, c in world.log if isinstance(c, SwitchAgent)] == ["A_1", "B_2"]


def test_an_early_answer_of_the_old_agent_is_dropped() -> None:
    world = World(DialogRules(preemptive=True))
    world.user_says("u1", "what time is it", begin=1.0, end=2.0)
    assert world.when(Generate) == [pytest.approx(2.3)]
    world.feed(HandOff("Sales_1"), AgentChanged("Sales_1"))
    world.at(5.0)
    generated = [c.speech for _, c in world.log if isinstance(c, Generate)]
    assert generated == ["early_1", "reply_turn_1"]
    assert not [n for n in world.announced(SpeechEnded) if isinstance(n, SpeechEnded)]
