"""The memory that is kept here is the one that the server has, whatever is done to it and wherever it breaks off."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from greenroom.dialog.history import ChatContext, FunctionCall, FunctionCallOutput, Message
from greenroom_plugins.openai_realtime.memory import Memory, Part
from greenroom_plugins.openai_realtime.wire import RATE

MS = RATE // 1000


def said(memory: Memory, response: str, text: str, samples: int, *, made: int = 0, item: str = "") -> Part:
    """A message of a response, made and handed on."""
    part = Part("said", response, item or f"server_{response}", text=text, samples=samples, made_text=text)
    part.made, part.sounding = made or samples, samples > 0
    memory.join(part)
    return part


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].rpartition(".")[2] for event in events]


def test_what_is_cut_is_cut_to_the_millisecond_below() -> None:
    memory = Memory()
    said(memory, "r", "one two three", 10 * MS + 5)
    (cut,) = memory.truncate("r", seconds=(7 * MS + 23) / RATE, text="one")
    assert (cut["item_id"], cut["audio_end_ms"], cut["content_index"]) == ("server_r", 7, 0)
    assert memory.truncate("r", seconds=9.0, text="one two three") == []


def test_less_than_a_millisecond_is_nothing() -> None:
    memory = Memory()
    said(memory, "r", "one", 100 * MS)
    assert kinds(memory.truncate("r", seconds=0.0009, text="")) == ["delete"]
    assert memory.truncate("r", seconds=0.0, text="") == []


def test_what_broke_off_stays_as_far_as_it_was_handed_on() -> None:
    memory = Memory()
    said(memory, "r", "one", 30 * MS, made=70 * MS)
    memory.join(Part("told", "r", "call", kept=False))
    assert [(event.get("item_id"), event.get("audio_end_ms")) for event in memory.settle("r")] == [
        ("server_r", 30),
        ("call", None),
    ]
    assert memory.settle("r") == []


def test_another_server_is_told_words_and_hears_what_has_none() -> None:
    memory = Memory()
    memory.add(Message("m1", "system", "The clock is slow."))
    memory.join(Part("heard", "u1", "i1", audio=b"12"))
    memory.join(Part("heard", "u2", "i2", audio=b"34"))
    memory.worded("i1", "what time is it")
    said(memory, "r1", "one two three", 50 * MS)
    memory.join(Part("told", "r1", "i3", item=FunctionCall("i3", "c1", "look_up", "{}")))
    memory.add(FunctionCallOutput("o1", "c1", "look_up", "42"))
    memory.truncate("r1", seconds=0.02, text="one")
    told = list(memory.retell())
    texts = [
        step["item"]["content"][0]["text"] if "content" in step["item"] else step["item"]["type"]
        for step in told
        if not isinstance(step, Part)
    ]
    assert texts == ["The clock is slow.", "what time is it", "one", "function_call", "function_call_output"]
    assert [step.audio for step in told if isinstance(step, Part)] == [b"34"]
    # What is told as text can only be told anew.
    assert kinds(memory.truncate("r1", seconds=0.01, text="on")) == ["create", "delete"]


def test_a_conversation_takes_the_place_of_all() -> None:
    memory = Memory()
    memory.add(Message("m1", "user", "one"))
    said(memory, "r", "two", 50 * MS)
    assert kinds(memory.replace(ChatContext([Message("m2", "user", "three")]))) == ["delete", "delete", "create"]
    assert [part.content() for part in memory] == [Message("m2", "user", "three")]


class Server:
    """A server's memory, which does what it is told and refuses what it cannot do."""

    def __init__(self) -> None:
        self.items: dict[str, list[Any]] = {}
        self.order: list[str] = []

    def obey(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            kind = event["type"]
            if kind == "conversation.item.create":
                given, after = event["item"], event.get("previous_item_id")
                assert given["id"] not in self.items
                place = len(self.order) if after is None else 0 if after == "root" else self.order.index(after) + 1
                self.order.insert(place, given["id"])
                self.items[given["id"]] = [given["content"][0]["text"], None]
            elif kind == "conversation.item.delete":
                del self.items[event["item_id"]]
                self.order.remove(event["item_id"])
            else:
                item = self.items[event["item_id"]]
                assert item[1] is not None, "only what sounds is truncated"
                assert event["audio_end_ms"] * MS <= item[1], "nothing is truncated to more than it has"
                item[1] = event["audio_end_ms"] * MS

    def join(self, item: str, text: str, samples: int) -> None:
        self.order.append(item)
        self.items[item] = [text, samples]


class Conversations(RuleBasedStateMachine):
    """Responses, cuts and lost connections in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.server = Memory(), Server()
        self.count = 0
        self.heard: dict[str, float] = {}

    @rule(text=st.text("ab c", max_size=5))
    def tell(self, text: str) -> None:
        self.count += 1
        self.server.obey(self.memory.add(Message(f"m{self.count}", "user", text)))

    @rule(parts=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), min_size=1, max_size=3))
    def answer(self, parts: list[tuple[int, int]]) -> None:
        """Each part: samples that were handed on, and that were made after that."""
        self.count += 1
        response, total = f"r{self.count}", 0
        for number, (samples, more) in enumerate(parts):
            item = f"{response}_{number}"
            if samples + more == 0:
                continue
            part = said(
                self.memory, response, f"words {number}" * (samples > 0), samples, made=samples + more, item=item
            )
            part.sounding = True
            self.server.join(item, "?", samples + more)
            total += samples
        self.server.obey(self.memory.settle(response))
        self.heard[response] = total / RATE

    @precondition(lambda self: self.heard)
    @rule(data=st.data(), share=st.floats(0, 1))
    def cut(self, data: st.DataObject, share: float) -> None:
        response = data.draw(st.sampled_from(sorted(self.heard)))
        self.heard[response] *= share
        text = "words 0words"[: round(12 * share)]
        self.server.obey(self.memory.truncate(response, seconds=self.heard[response], text=text))

    @rule()
    def reconnect(self) -> None:
        self.server = Server()
        self.server.obey([step for step in self.memory.retell() if not isinstance(step, Part)])

    @rule()
    def replace(self) -> None:
        self.server.obey(self.memory.replace(ChatContext([Message("only", "user", "this")])))
        self.heard.clear()

    @invariant()
    def both_know_the_same(self) -> None:
        assert [part.id for part in self.memory] == self.server.order
        for part in self.memory:
            text, samples = self.server.items[part.id]
            if samples is None:
                assert part.kind == "told" or text == part.text
            else:
                assert samples // MS == part.samples // MS

    @invariant()
    def no_more_than_was_heard(self) -> None:
        for response, seconds in self.heard.items():
            parts = [part for part in self.memory if part.key == response and part.sounding]
            assert sum(part.samples for part in parts) <= round(seconds * RATE)


TestConversations = Conversations.TestCase
TestConversations.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_sound_is_kept_within_bounds(audio: list[bytes]) -> None:
    memory = Memory()
    for number, data in enumerate(audio):
        memory.join(Part("heard", f"u{number}", f"i{number}", audio=data))
    assert [part.audio for part in memory] == audio
    memory.join(Part("heard", "long", "long", audio=bytes(130 * RATE * 2)))
    assert sum(len(part.audio) for part in memory) == 0
