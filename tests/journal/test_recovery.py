"""What the next process knows of a call whose process died, wherever that was."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom.dialog import commands as do
from greenroom.dialog.deadair import DeadAirRules
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import (
    AgentChanged,
    CloseAsked,
    Event,
    Generated,
    HandOff,
    HookFinished,
    InterruptAsked,
    Played,
    RequestedCall,
    SpeechRequested,
    Started,
    Synthesised,
    Tick,
    ToolFinished,
    Transcribed,
    UserStarted,
    UserStopped,
    UserTyped,
)
from greenroom.dialog.history import ChatItem, FunctionCall, FunctionCallOutput, Message
from greenroom.journal.format import AgentNoted, LeftNoted
from greenroom.journal.reader import read
from greenroom.journal.recovery import UNKNOWN, CallState, CutSpeech, Holder, carried_over, fold
from greenroom.journal.writer import JournalWriter
from tests.dialog.conversation import Conversation
from tests.dialog.moves import Script, converse, scripts

from .calls import ANSWER, WEATHER, journal_of, path_of, write, write_talk

QUESTION = "What is the weather in Paris?"


def left(folder: Path, *, died: float, known: bool = True) -> CallState:
    """What is left of the call when its process died at that time."""
    return fold(journal_of(folder, until=died, close=False), until=died if known else None)


def texts(items: tuple[ChatItem, ...]) -> list[str]:
    return [item.text if isinstance(item, Message) else type(item).__name__ for item in items]


def test_a_call_that_ended_is_over(tmp_path: Path) -> None:
    state = fold(journal_of(tmp_path))
    assert texts(state.history) == [
        "Good day.",
        QUESTION,
        "FunctionCall",
        "FunctionCallOutput",
        "In Paris it is sunny,",
        "Thank you, goodbye.",
    ]
    assert (state.uncommitted, state.speech, state.unanswered, state.unknown) == ((), None, (), ())
    assert (state.closed, state.last) == ("the user hung up", 107.71)


def test_in_silence_nothing_is_owed(tmp_path: Path) -> None:
    state = left(tmp_path, died=101.5)
    assert texts(state.history) == ["Good day."]
    assert (state.owed, state.speech, state.waiting, state.closed) == (False, None, (), "")


def test_words_that_were_not_committed_are_unanswered(tmp_path: Path) -> None:
    """The turn was over, and its hook ran: it would have joined the history when that had returned."""
    state = left(tmp_path, died=103.75)
    assert (state.unanswered, state.owed) == ((QUESTION,), True)
    assert texts(state.history) == ["Good day."]


def test_words_of_a_turn_that_was_being_taken_are_unanswered(tmp_path: Path) -> None:
    state = left(tmp_path, died=107.35)
    assert (state.unanswered, state.owed) == (("Thank you, goodbye.",), True)


def test_an_answer_that_was_being_made_is_owed(tmp_path: Path) -> None:
    state = left(tmp_path, died=103.9)
    assert texts(state.history) == ["Good day.", QUESTION]
    assert (state.unanswered, state.owed, state.speech) == ((), True, None)


def test_a_tool_that_had_begun_is_unknown(tmp_path: Path) -> None:
    state = left(tmp_path, died=104.2)
    (run,) = state.unknown
    assert (run.call, run.speech, run.step, run.told) == (WEATHER, "reply_turn_1", 1, False)
    assert state.uncommitted == (
        FunctionCall("reply_turn_1.call_1", "call_1", "weather", '{"city": "Paris"}'),
        FunctionCallOutput("reply_turn_1.call_1.output", "call_1", "weather", UNKNOWN, is_error=True),
    )
    assert [reply.source for reply in state.replies] == ["turn"]


def test_a_tool_that_had_finished_is_known(tmp_path: Path) -> None:
    state = left(tmp_path, died=104.6)
    (run,) = state.tools
    assert (run.outcome, run.output, run.is_error, run.told) == ("finished", "sunny, 21 C", False, True)
    assert state.unknown == ()
    assert state.owed


@pytest.mark.parametrize(
    ("died", "heard", "remaining"),
    [
        (105.5, "In Paris", "it is sunny, and warm for the time of year."),
        (106.45, "In Paris it is sunny,", "and warm for the time of year."),
        (106.8, "In Paris it is sunny,", "and warm for the time of year."),  # it was paused
    ],
)
def test_in_the_middle_of_a_sentence(tmp_path: Path, died: float, heard: str, remaining: str) -> None:
    state = left(tmp_path, died=died)
    assert state.speech == CutSpeech("reply_turn_1", "turn", 2, heard, remaining, complete=True)
    assert state.uncommitted == (Message("reply_turn_1.2", "assistant", heard, interrupted=True),)
    assert not state.owed


def test_without_a_time_of_death_no_more_is_taken_for_heard_than_there_was_time_for(tmp_path: Path) -> None:
    state = left(tmp_path, died=105.5, known=False)
    assert state.speech is not None
    assert state.speech.heard == "In"
    assert state.last == 105.1


def test_a_speech_whose_text_was_still_being_made(tmp_path: Path) -> None:
    """Of what the model had written, only what went to the track is known."""
    state = left(tmp_path, died=105.05)
    assert state.speech == CutSpeech("reply_turn_1", "turn", 2, "", "", complete=False)
    state = fold(journal_of(tmp_path, until=105.05, close=False), until=107.0)
    assert state.speech == CutSpeech("reply_turn_1", "turn", 2, "In Paris it is sunny,", "", complete=False)


def test_a_speech_that_was_heard_to_its_end(tmp_path: Path) -> None:
    state = fold(journal_of(tmp_path, until=106.5, close=False), until=200.0)
    assert state.speech == CutSpeech("reply_turn_1", "turn", 2, ANSWER, "", complete=True)
    assert state.uncommitted == (Message("reply_turn_1.2", "assistant", ANSWER),)


def told(folder: Path, *events: Event, said: str = "", until: float = 160.0) -> CallState:
    """The state after these events, one each second; ``said``: words on their way after the last one."""
    timed = [(100.0 + number, event) for number, event in enumerate((Started(), *events))]
    writer = write(folder, events=timed, close=False)
    if said:
        writer.said("s", 1, text=said, now=timed[-1][0])
    return fold(read(path_of(writer)), until=until)


def test_a_speech_that_went_on_after_a_pause(tmp_path: Path) -> None:
    events = [
        (100.0, Started()),
        (100.0, SpeechRequested("s", "say", text="One two three four five six.")),
        (100.0, Generated("s", 1, "end", "One two three four five six.")),
        (100.1, Played("s", 1, "started", 100.1)),
        (100.9, UserStarted("u", 100.8)),
        (100.95, Played("s", 1, "paused", 100.95, 20000, "One two")),
        (101.2, UserStopped("u", 101.0)),
        (101.5, Transcribed("u", "")),
        (101.6, Played("s", 1, "resumed", 101.6, 20000, "One two")),
    ]
    writer = write(tmp_path, events=events[:4], close=False)  # type: ignore[arg-type]
    writer.said("s", 1, text="One two three four five six.", now=100.1)
    for now, event in events[4:]:
        writer.write(event, now)  # type: ignore[arg-type]
    journal = read(path_of(writer))
    heard = [state.speech.heard for when in (101.6, 102.2, 110.0) if (state := fold(journal, until=when)).speech]
    assert heard == ["One two", "One two three", "One two three four five six."]


def test_speeches_that_waited(tmp_path: Path) -> None:
    state = told(
        tmp_path,
        SpeechRequested("s", "say", text="One two."),
        Played("s", 1, "started", 101.0),
        SpeechRequested("t", "say", text="Later."),
        SpeechRequested("v", "say", text="Latest."),
        said="One ",
    )
    assert [request.text for request in state.waiting] == ["Later.", "Latest."]
    assert state.speech == CutSpeech("s", "say", 1, "One", "two.", complete=True)


def test_what_is_not_to_join_the_history_does_not(tmp_path: Path) -> None:
    state = told(
        tmp_path,
        SpeechRequested("s", "say", text="Psst.", in_history=False),
        Played("s", 1, "started", 101.0),
        said="Psst.",
    )
    assert (state.uncommitted, state.history) == ((), ())
    assert state.speech is not None
    assert state.speech.heard == "Psst."


def test_a_result_that_waits_for_the_words_before_it(tmp_path: Path) -> None:
    """The tool returned while the agent still spoke: it is not in the history, and must not be run again."""
    state = told(
        tmp_path,
        SpeechRequested("s", "generate_reply"),
        Generated("s", 1, "end", "Let me see.", (WEATHER, RequestedCall("call_2", "sleep", "{}"))),
        Played("s", 1, "started", 102.0),
        ToolFinished("s", "call_1", "sunny"),
        said="Let me see.",
    )
    assert state.uncommitted == (
        Message("s.1", "assistant", "Let me see."),
        FunctionCall("s.call_1", "call_1", "weather", '{"city": "Paris"}'),
        FunctionCallOutput("s.call_1.output", "call_1", "weather", "sunny"),
        FunctionCall("s.call_2", "call_2", "sleep", "{}"),
        FunctionCallOutput("s.call_2.output", "call_2", "sleep", UNKNOWN, is_error=True),
    )
    assert [reply.speech for reply in state.replies] == ["s"], "what the tools bring is to be told"
    assert [(run.call.call_id, run.outcome, run.told) for run in state.tools] == [
        ("call_1", "finished", False),
        ("call_2", "unknown", False),
    ]


def test_a_tool_that_was_cancelled(tmp_path: Path) -> None:
    """Its speech was being silenced when the process died: that it is cancelled was not in the history yet."""
    call = RequestedCall("c", "search", "{}", on_interrupt="cancel")
    state = told(
        tmp_path,
        SpeechRequested("s", "generate_reply"),
        Generated("s", 1, "end", "Let me see.", (call,)),
        Played("s", 1, "started", 102.0),
        InterruptAsked("s"),
    )
    (run,) = state.tools
    assert (run.outcome, run.told, run.is_error) == ("cancelled", False, True)
    assert texts(state.uncommitted) == ["FunctionCall", "FunctionCallOutput"]


def test_who_has_the_conversation(tmp_path: Path) -> None:
    assert told(tmp_path, HandOff("Billing_1")).agent.name == ""
    assert told(tmp_path, HandOff("Billing_1"), AgentChanged("Billing_1")).agent.name == "Billing_1"
    assert told(tmp_path, AgentChanged("Nobody_1")).agent.name == ""


def test_what_the_one_who_has_the_conversation_knows(tmp_path: Path) -> None:
    """An agent that came later, and was told nothing but what it was given; then it forgets a part of that."""
    writer = write(tmp_path, events=[(100.0, Started())], close=False, agent_class="house:Butler")
    early = say(writer, "s", "Good day.", at=101.0)
    writer.write(HandOff("Billing_1"), 104.0)
    given = Message("added_1", "system", "They owe ten euros.")
    writer.note(AgentNoted("Billing_1", "house:Billing", "Be strict.", (early, given)), 104.0)
    writer.write(AgentChanged("Billing_1"), 104.1)
    later = say(writer, "t", "You owe ten euros.", at=105.0)
    journal = read(path_of(writer))
    state = fold(journal)
    spoken = (Message(early, "assistant", "Good day."), Message(later, "assistant", "You owe ten euros."))
    assert state.agent == Holder("Billing_1", "house:Billing", "Be strict.", (spoken[0], given, spoken[1]))
    assert (state.history, state.coming) == (spoken, None)
    carried = carried_over(journal, state)
    assert carried.known is not None
    assert [item.id for item in carried.known] == ["1.item_1", "1.added_1", "1.item_2"]
    writer.note(AgentNoted("Billing_1", known=(later,)), 108.0)
    assert fold(read(path_of(writer))).agent == Holder("Billing_1", "house:Billing", "Be strict.", (spoken[1],))


def test_who_was_about_to_take_the_conversation(tmp_path: Path) -> None:
    call = RequestedCall("c", "transfer", "{}")
    writer = write(tmp_path, events=[(100.0, Started())], close=False, agent_class="house:Butler")
    writer.write(SpeechRequested("s", "generate_reply"), 101.0)
    writer.write(Generated("s", 1, "end", "I put you through.", (call,)), 101.1)
    writer.write(Played("s", 1, "started", 101.2), 101.2)
    writer.note(AgentNoted("Billing_1", "house:Billing"), 101.3)
    writer.write(ToolFinished("s", "c", "", reply=False, agent="Billing_1"), 101.3)
    state = fold(read(path_of(writer)), until=101.3)
    assert (state.agent.agent_class, state.coming) == ("house:Butler", Holder("Billing_1", "house:Billing"))
    assert state.speech is not None
    assert (state.speech.remaining, state.replies) == ("I put you through.", ()), "the tool wants no reply"


def say(writer: JournalWriter, speech: str, text: str, *, at: float) -> str:
    """Have it said, to its end; the id of its item."""
    count = sum(b'"finished"' in line for line in path_of(writer).read_bytes().splitlines())
    writer.write(SpeechRequested(speech, "say", text=text), at)
    writer.write(Generated(speech, 1, "end", text), at)
    writer.write(Played(speech, 1, "started", at), at)
    writer.write(Played(speech, 1, "finished", at + 1, 24000, text), at + 1)
    return f"item_{count + 1}"


def test_an_answer_that_was_made_and_not_heard_is_not_made_again(tmp_path: Path) -> None:
    request = SpeechRequested("s", "generate_reply", priority=7, user_input="Well?", instructions="Be kind.")
    state = told(tmp_path, request, Generated("s", 1, "end", "All is well."))
    assert state.waiting == (SpeechRequested("s", "say", priority=7, text="All is well."),)
    assert (state.replies, state.owed) == ((), False)


def test_a_reply_that_was_asked_for_is_asked_for_again_as_it_was(tmp_path: Path) -> None:
    request = SpeechRequested("s", "generate_reply", instructions="Be kind.")
    assert told(tmp_path, request, Generated("s", 1, "first")).replies == (request,)


def test_how_far_a_speech_came_is_told_by_its_length_once_that_is_known(tmp_path: Path) -> None:
    text = "one two three four five six seven"
    events: list[Event] = [
        SpeechRequested("s", "say", text=text),
        Generated("s", 1, "end", text),
        Played("s", 1, "started", 103.0),
    ]
    slow = told(tmp_path, *events, Synthesised("s", 1, "end", 33.0), said=text, until=112.0)
    assert slow.speech is not None
    assert slow.speech.heard == "one two", "eight seconds of thirty-three"
    quick = told(tmp_path, *events, said=text, until=112.0)
    assert quick.speech is not None
    assert quick.speech.heard == text


def test_a_conversation_that_was_about_to_end(tmp_path: Path) -> None:
    events: list[Event] = [SpeechRequested("s", "say", text="Goodbye."), CloseAsked("all was said", drain=True)]
    state = told(tmp_path, *events)
    assert (state.closing, state.closed, [request.text for request in state.waiting]) == (
        "all was said",
        "",
        ["Goodbye."],
    )
    assert told(tmp_path, *events[1:]).closed == "all was said"


def test_what_was_left_and_not_taken_up_is_left_still(tmp_path: Path) -> None:
    """The process that came back died before it had begun with it; then it had begun."""
    rest, reply = SpeechRequested("", "say", text="and warm."), SpeechRequested("", "turn", place="next")
    writer = write(tmp_path, events=[(100.0, Started(resumed=True))], close=False, attempt=2)
    writer.note(LeftNoted((rest,), (reply,), ("And tomorrow?",)), 100.0)
    writer.write(SpeechRequested("s", "say", text="Here I am."), 100.1)
    state = fold(read(path_of(writer)))
    assert [request.text for request in state.waiting] == ["and warm.", "Here I am."]
    assert (state.replies, state.unanswered, state.untouched) == ((reply,), ("And tomorrow?",), False)
    writer.note(LeftNoted(), 100.2)
    state = fold(read(path_of(writer)))
    assert [request.text for request in state.waiting] == ["Here I am."]
    assert (state.replies, state.unanswered) == ((), ())


def test_a_call_in_which_nobody_has_said_anything_is_untouched(tmp_path: Path) -> None:
    assert told(tmp_path).untouched
    assert told(tmp_path, Transcribed("", "hello", final=False)).untouched is False
    assert told(tmp_path, UserTyped("hello")).untouched is False
    assert told(tmp_path, SpeechRequested("s", "say", text="Hello.")).untouched is False


def test_a_phrase_into_a_silence_is_not_said_again(tmp_path: Path) -> None:
    rules = DialogRules(dead_air=DeadAirRules(enabled=True, hold_phrase="One moment."))
    events: list[Event] = [Started(), UserTyped("Well?"), HookFinished("turn_1", True, "Well?"), Tick()]
    timed = list(zip((100.0, 101.0, 101.0, 120.0), events, strict=True))
    state = fold(read(path_of(write(tmp_path, events=timed, close=False, rules=rules))))
    assert (state.waiting, [reply.source for reply in state.replies]) == ((), ["turn"])


HISTORY = (Message("1.item_1", "user", "before"), Message("added_1", "system", "be kind"))


def test_a_conversation_is_carried_over_without_ids_that_come_again(tmp_path: Path) -> None:
    """The next dialog counts its items from one too."""
    journal = journal_of(tmp_path, until=105.5, close=False, history=HISTORY)
    state = fold(journal, until=105.5)
    assert state.history[:2] == HISTORY
    carried = carried_over(journal, state).history
    assert texts(carried) == [
        "before",
        "be kind",
        "Good day.",
        QUESTION,
        "FunctionCall",
        "FunctionCallOutput",
        "In Paris",
    ]
    ids = [item.id for item in carried]
    assert ids == ["1.item_1", "added_1", "1.item_1", "1.item_2", "1.item_3", "1.item_4", "1.reply_turn_1.2"]


def committed(talk: Conversation) -> tuple[ChatItem, ...]:
    """The history as a session keeps it: an item that comes again takes its place."""
    history: dict[str, ChatItem] = {}
    for commands in talk.commands:
        history |= {command.item.id: command.item for command in commands if isinstance(command, do.Commit)}
    return tuple(history.values())


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts(), st.data())
def test_random_conversations_fold_to_their_history(
    tmp_path_factory: pytest.TempPathFactory, script: Script, data: st.DataObject
) -> None:
    talk = converse(script)
    journal = read(write_talk(tmp_path_factory.mktemp("j"), talk))
    state = fold(journal)
    assert state.history == committed(talk)
    assert (state.speech, state.waiting, state.closed != "") == (None, (), True)
    assert all(run.outcome != "finished" or run.told for run in state.tools)
    # And at any moment before.
    talk.events = talk.events[: data.draw(st.integers(0, len(talk.events)))]
    talk.commands = talk.commands[: len(talk.events)]
    partial = fold(read(write_talk(tmp_path_factory.mktemp("j"), talk)), until=data.draw(st.floats(0, 1e4)))
    assert partial.history == committed(talk)
    ran = [c.call.call_id for commands in talk.commands for c in commands if isinstance(c, do.RunTool)]
    assert [run.call.call_id for run in partial.tools] == ran
    if partial.speech is not None:
        assert partial.speech.heard == "" or talk.texts
    journal.path.unlink()
