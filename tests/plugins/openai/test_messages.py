"""The conversation as it is sent: valid whatever became of its calls."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.dialog.history import ChatItem
from greenroom.providers import ChatContext, FunctionCall, FunctionCallOutput, Message, ToolSchema
from greenroom_plugins.openai.messages import OPENING, PENDING, messages, tool_list
from greenroom_plugins.openai.profiles import PROFILES, Abilities

FREE = Abilities()
STRICT = Abilities(alternating=True)
CALL = FunctionCall("2", "c1", "look_up", '{"city": "Paris"}')
OUTPUT = FunctionCallOutput("3", "c1", "look_up", "sunny")


def said(role: Any, text: str) -> Message:
    return Message("1", role, text)


def tool_calls(*calls: FunctionCall) -> list[dict[str, Any]]:
    return [
        {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]


def test_a_conversation_with_a_tool() -> None:
    context = ChatContext(
        [said("system", "Be kind."), said("user", "Weather?"), said("assistant", "Let me look."), CALL, OUTPUT]
    )
    assert messages(context, FREE) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": tool_calls(CALL)},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    assert messages(context, PROFILES["openai"].abilities)[0]["role"] == "developer"


def test_calls_in_a_row_are_one_message_and_outputs_follow_their_calls() -> None:
    other = FunctionCall("4", "c2", "count", "{}")
    late = FunctionCallOutput("5", "c2", "count", "12")
    context = ChatContext([CALL, other, OUTPUT, said("user", "Still there?"), late])
    assert messages(context, FREE) == [
        {"role": "assistant", "content": None, "tool_calls": tool_calls(CALL, other)},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": "12"},
        {"role": "user", "content": "Still there?"},
    ]


def test_a_call_without_an_output_says_so_and_an_output_without_a_call_is_left_out() -> None:
    made = messages(ChatContext([FunctionCallOutput("1", "lost", "x", "?"), CALL]), FREE)
    assert made == [
        {"role": "assistant", "content": None, "tool_calls": tool_calls(CALL)},
        {"role": "tool", "tool_call_id": "c1", "content": PENDING},
    ]


@pytest.mark.parametrize("broken", ["", "{", "[1]", "null", "city=Paris"])
def test_arguments_that_are_none_are_not_sent(broken: str) -> None:
    (made, _) = messages(ChatContext([FunctionCall("1", "c1", "look_up", broken)]), FREE)
    assert made["tool_calls"][0]["function"]["arguments"] == "{}"


def test_messages_without_words_are_left_out() -> None:
    assert messages(ChatContext([said("assistant", " "), said("user", "")]), FREE) == []


def test_where_turns_must_alternate_they_do() -> None:
    context = ChatContext(
        [
            said("system", "Be kind."),
            said("system", "Be brief."),
            said("assistant", "Good day."),
            said("user", "Hello."),
            said("user", "Anybody there?"),
            said("assistant", "Yes."),
            said("system", "Ask for the name."),
        ]
    )
    assert messages(context, STRICT) == [
        {"role": "system", "content": "Be kind.\n\nBe brief."},
        {"role": "user", "content": OPENING},
        {"role": "assistant", "content": "Good day."},
        {"role": "user", "content": "Hello.\n\nAnybody there?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Ask for the name."},
    ]


def test_who_has_not_spoken_yet_is_spoken_for() -> None:
    assert messages(ChatContext([said("system", "Be kind.")]), STRICT) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": OPENING},
    ]
    assert messages(ChatContext(), STRICT) == [{"role": "user", "content": OPENING}]


def test_short_names_of_calls_stay_pairs() -> None:
    made = messages(ChatContext([CALL, OUTPUT]), Abilities(short_call_ids=True))
    name = made[0]["tool_calls"][0]["id"]
    assert made[1]["tool_call_id"] == name
    assert len(name) == 9
    assert name.isalnum()


ITEMS = st.lists(
    st.one_of(
        st.builds(
            Message, st.just("m"), st.sampled_from(("system", "user", "assistant")), st.sampled_from(("", "Words."))
        ),
        st.builds(FunctionCall, st.just("f"), st.sampled_from("abc"), st.just("look"), st.sampled_from(("{}", "{"))),
        st.builds(FunctionCallOutput, st.just("o"), st.sampled_from("abcd"), st.just("look"), st.just("done")),
    ),
    max_size=14,
)


@settings(deadline=None)
@given(ITEMS, st.sampled_from((FREE, STRICT)))
def test_whatever_the_history_the_protocol_is_kept(items: list[ChatItem], abilities: Abilities) -> None:
    made = messages(ChatContext(items), abilities)
    for place, message in enumerate(made):
        if message["role"] == "tool":
            before = next(one for one in reversed(made[:place]) if one["role"] != "tool")
            assert message["tool_call_id"] in [call["id"] for call in before["tool_calls"]]
        called = message.get("tool_calls", ())
        following = made[place + 1 : place + 1 + len(called)]
        assert [call["id"] for call in called] == [one.get("tool_call_id") for one in following]
        assert message["content"] or called
    if abilities is STRICT:
        assert [one["role"] for one in made].count("system") <= 1
        turns = [one["role"] for one in made if one["role"] != "system"]
        assert turns[0] == "user"
        assert ("user", "user") not in pairwise(turns)


def test_tools_as_the_protocol_has_them() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    assert tool_list([ToolSchema("look_up", "Looks up.", schema)]) == [
        {"type": "function", "function": {"name": "look_up", "description": "Looks up.", "parameters": schema}}
    ]
