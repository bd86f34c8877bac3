"""What is not to be told is not in the file, and the rest is decided as before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom import redaction
from greenroom.dialog.events import (
    Event,
    Generated,
    HookFinished,
    InterruptAsked,
    Played,
    RequestedCall,
    SpeechRequested,
    Started,
    ToolFinished,
    Transcribed,
    UserTyped,
)
from greenroom.dialog.history import ChatItem, FunctionCall, FunctionCallOutput, Message
from greenroom.journal.format import AgentNoted, LeftNoted, Said
from greenroom.journal.masking import NAMES, TEXTS, Mask
from greenroom.journal.reader import read
from greenroom.journal.recovery import fold
from greenroom.journal.replay import compare
from greenroom.settings import JournalSettings
from tests.dialog.moves import Script, converse, scripts

from .calls import path_of, write, write_talk

CARD = r"\b\d(?:[ -]?\d){11,18}\b"
MAIL = r"[\w.]+@[\w.]+"
OURS = {"speech", "turn", "utterance", "id"}
"""Ids that greenroom makes itself."""


@pytest.fixture
def secret() -> Iterator[str]:
    """One that this process knows of."""
    hidden, pattern = set(redaction._hidden), redaction._hidden_pattern
    redaction.hide("hunter22")
    yield "hunter22"
    redaction._hidden.clear()
    redaction._hidden.update(hidden)
    redaction._hidden_pattern = pattern


def test_every_text_is_looked_through() -> None:
    for cls in (*get_args(Event), RequestedCall, *get_args(ChatItem)):
        free = {field.name for field in fields(cls) if field.type == "str"} - OURS
        seen = {*TEXTS.get(cls, ()), *NAMES.get(cls, ())} | ({"arguments"} & free)
        assert seen == free, cls.__name__


def test_a_secret_is_in_no_field(tmp_path: Path, secret: str) -> None:
    secrets = ["4111 1111 1111 1111", "eve@example.com", secret]
    text = f"it is {', '.join(secrets)}."
    events: list[tuple[float, Event]] = [(100.0, Started())]
    for cls in get_args(Event):
        values: dict[str, Any] = {
            field.name: text if field.type == "str" and field.name not in OURS else _some(field.name, str(field.type))
            for field in fields(cls)
        }
        if cls is Played:
            values["what"] = "finished"
        if cls is Generated:
            values["calls"] = (RequestedCall(text, text, f'{{"x": "{text}"}}'),)
        events.append((101.0 + len(events), cls(**values)))
    history = (
        Message("a", "user", text),
        FunctionCall("b", text, text, text),
        FunctionCallOutput("c", text, text, text),
    )
    writer = write(tmp_path, events=events, history=history, room=text, settings=JournalSettings(redact=(CARD, MAIL)))
    content = path_of(writer).read_text()
    for secret in (*secrets, "4111", "eve@"):
        assert secret not in content
    journal = read(path_of(writer))
    assert len(journal.events) == len(events)
    assert compare(journal) is None
    assert journal.header.room == "it is xxx xxx xxx xxx, xxx@xxx.xxx, xxx."


def _some(name: str, kind: str) -> Any:
    given = {"source": "say", "place": "queue", "what": "end", "ttl": 5.0, "confidence": 0.5, "calls": ()}
    return given.get(name, {"float": 1.0, "int": 1, "bool": True}.get(kind, "some"))


def test_nothing_to_hide_is_nothing_changed() -> None:
    mask = Mask([CARD])
    event = Transcribed("u", "What is 12 by 12?")
    assert mask.event(event) is event


def test_a_mask_has_as_many_words(tmp_path: Path) -> None:
    mask = Mask([CARD, "[!?]+", "secret word"])
    assert mask.text("my card is 4111-1111 1111-1111, ok") == "my card is xxx-xxx xxx-xxx, ok"
    assert mask.text("the Secret word, a secret word?!") == "the Secret word, a xxx xxx***"


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab1 .,'_@-é日"), st.sampled_from([r"\d+", r"a[ab]*", r"b.a", "[日é]"]))
def test_words_are_kept_in_number_and_nothing_that_was_found_is_left(text: str, pattern: str) -> None:
    masked = Mask([pattern]).text(text)
    outside = masked.replace("xxx", "\n").replace("***", "\n")
    assert pattern == "b.a" or re.search(pattern, outside) is None
    words = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
    assert len(words.findall(masked)) == len(words.findall(text))


def test_names_that_are_masked_are_told_apart() -> None:
    mask = Mask([r"\d{4,}"])
    first = mask.event(SpeechRequested("s1", "say", key="remind 12345", group="g"))
    second = mask.event(SpeechRequested("s2", "say", key="remind 67890"))
    third = mask.event(SpeechRequested("s3", "say", key="remind 12345", group="12345"))
    keys = [event.key for event in (first, second, third) if isinstance(event, SpeechRequested)]
    assert keys == ["***1", "***2", "***1"]
    assert mask.event(InterruptAsked(group="12345")) == InterruptAsked(group="***3")
    made = mask.event(Generated("s", 1, "end", calls=(RequestedCall("call_98765", "look_up", "{}"),)))
    done = mask.event(ToolFinished("s", "call_98765", "fine"))
    assert isinstance(made, Generated)
    assert isinstance(done, ToolFinished)
    assert made.calls[0].call_id == done.call_id == "***4"
    assert mask.event(Transcribed("utterance_12345", "hi")) == Transcribed("utterance_12345", "hi")


@pytest.mark.parametrize(
    ("arguments", "masked"),
    [
        ('{"card": "4111 1111 1111"}', '{"card": "xxx xxx xxx"}'),
        ('{"card": 411111111111}', '{"redacted": "{\\"card\\": xxx}"}'),
        ('{"card": 411111111111', '{"card": xxx'),
    ],
)
def test_arguments_of_a_tool_stay_what_a_model_can_read(arguments: str, masked: str) -> None:
    event = Mask([CARD]).event(Generated("s", 1, "end", calls=(RequestedCall("c", "pay", arguments),)))
    assert isinstance(event, Generated)
    assert event.calls[0].arguments == masked


def test_words_that_come_in_pieces_are_seen_together(tmp_path: Path) -> None:
    text = "Your card is 4111 1111 1111 1111, is that right? I shall charge it now, if you do not mind, dear caller."
    writer = write(tmp_path, events=[(100.0, Started())], close=False, settings=JournalSettings(redact=(CARD,)))
    for number, word in enumerate(text.split(" ")):
        writer.said("s", 1, text=f"{word} ", now=101.0 + number)
    writer.write(Played("s", 1, "finished", 150.0, 1, text), 150.0)
    writer.said("s", 1, text="Again.", now=151.0)
    writer.close()
    content = path_of(writer).read_text()
    assert "4111" not in content
    told = "".join(record.what.text for record in read(path_of(writer)).records if isinstance(record.what, Said))
    assert "Your card is xxx xxx xxx xxx, is that right? I sh".startswith(told[:40])
    assert len(told) > 20


def test_a_transcript_that_looks_like_a_credential_keeps_its_words() -> None:
    assert Mask().text("my basic instructions, please") == "my basic xxx, please"
    assert Mask().text("Authorization: Bearer abcdef") == "Authorization: Bearer xxx"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts(), st.sampled_from([r"\d+", r"is one two", r"w\d", "[a-z]+"]))
def test_a_masked_conversation_replays_and_folds(
    tmp_path_factory: pytest.TempPathFactory, script: Script, pattern: str
) -> None:
    talk = converse(script)
    path = write_talk(tmp_path_factory.mktemp("j"), talk, settings=JournalSettings(redact=(pattern,)))
    journal = read(path)
    assert compare(journal) is None
    texts = [event.text for _, event in journal.events if isinstance(event, Transcribed | UserTyped | HookFinished)]
    assert [text for text in texts if re.search(pattern, text.replace("xxx", "\n"))] == []
    committed = any("Commit" in (record.decided or "").split() for record in journal.records)
    assert bool(fold(journal).history) is committed
    path.unlink()


def test_notes_are_masked_as_events_are() -> None:
    mask = Mask(["secret"])
    agent = AgentNoted("secret_1", "house:Billing", "Tell the secret.", ("item_1", Message("m", "user", "a secret")))
    assert mask.note(agent) == AgentNoted(
        "***1", "house:Billing", "Tell the xxx.", ("item_1", Message("m", "user", "a xxx"))
    )
    left = LeftNoted((SpeechRequested("s", "say", text="the secret"),), (), ("secret?",))
    assert mask.note(left) == LeftNoted((SpeechRequested("s", "say", text="the xxx"),), (), ("xxx?",))
    said = Said("s", 1, "x")
    assert mask.note(said) is said
