"""Calls to write down: one with everything in it, told by hand, and random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import (
    Aired,
    CloseAsked,
    Event,
    Generated,
    HookFinished,
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
)
from greenroom.journal.format import Header
from greenroom.journal.reader import Journal, read
from greenroom.journal.writer import JournalWriter, header
from greenroom.settings import JournalSettings
from tests.dialog.conversation import Conversation

__all__ = ["BEGAN", "CALL", "RULES", "SAID", "call_header", "journal_of", "path_of", "write", "write_talk"]

BEGAN = 100.0
RULES = DialogRules()
WEATHER = RequestedCall("call_1", "weather", '{"city": "Paris"}')
ANSWER = "In Paris it is sunny, and warm for the time of year."

CALL: list[tuple[float, Event]] = [
    (100.0, Started()),
    (100.0, SpeechRequested("speech_1", "say", text="Good day.")),
    (100.01, Generated("speech_1", 1, "end", "Good day.")),
    (100.2, Synthesised("speech_1", 1, "first")),
    (100.21, Played("speech_1", 1, "started", 100.25)),
    (100.25, Aired(True, 100.25)),
    (101.0, Played("speech_1", 1, "finished", 101.0, 18000, "Good day.", True)),
    (101.0, Aired(False, 101.0)),
    (102.06, UserStarted("utterance_1", 102.0)),
    (103.25, UserStopped("utterance_1", 103.0)),
    (103.7, Transcribed("utterance_1", "What is the weather in Paris?", language="en")),
    (103.8, HookFinished("turn_1", True, "What is the weather in Paris?")),
    (104.0, Generated("reply_turn_1", 1, "end", "", (WEATHER,))),
    (104.05, Played("reply_turn_1", 1, "finished", 104.05)),
    (104.4, ToolFinished("reply_turn_1", "call_1", "sunny, 21 C")),
    (104.65, Generated("reply_turn_1", 2, "first")),
    (104.9, Synthesised("reply_turn_1", 2, "first")),
    (104.92, Played("reply_turn_1", 2, "started", 104.95)),
    (104.95, Aired(True, 104.95)),
    (105.1, Generated("reply_turn_1", 2, "end", ANSWER)),
    (106.56, UserStarted("utterance_2", 106.5)),
    (106.57, Played("reply_turn_1", 2, "paused", 106.57, 38880, "In Paris it is sunny,", True)),
    (106.57, Aired(False, 106.57)),
    (107.15, UserStopped("utterance_2", 106.9)),
    (107.3, Transcribed("utterance_2", "Thank you, goodbye.")),
    (107.3, Played("reply_turn_1", 2, "stopped", 107.3, 38880, "In Paris it is sunny,", True)),
    (107.4, Tick()),
    (107.4, HookFinished("turn_2", True, "Thank you, goodbye.")),
    (107.6, Generated("reply_turn_2", 1, "failed", "", error="model: overloaded")),
    (107.7, CloseAsked("the user hung up")),
    (107.71, Played("reply_turn_2", 1, "stopped", 107.71)),
]
"""A greeting; a question that comes late from the transcriber and takes a tool; an interruption; a model that fails."""
SAID = [
    (100.22, "speech_1", 1, "Good day."),
    (104.93, "reply_turn_1", 2, "In Paris it is sunny, "),
    (106.4, "reply_turn_1", 2, "and warm for the time of year."),
]


def call_header(**facts: Any) -> Header:
    given = {"job": "AJ_x", "room": "hall", "agent": "demo", "rules": RULES, "began": BEGAN, **facts}
    return header(**given)


def write(
    folder: Path,
    *,
    events: list[tuple[float, Event]] | None = None,
    until: float = 1e9,
    settings: JournalSettings | None = None,
    close: bool = True,
    **facts: Any,
) -> JournalWriter:
    """Write the call down, as far as ``until``."""
    writer = JournalWriter(folder, call_header(**facts), settings=settings)
    said = [] if events is not None else SAID
    told = [(now, event) for now, event in (CALL if events is None else events) if now <= until]
    spoken = [entry for entry in said if entry[0] <= until]
    for now, event in told:
        while spoken and spoken[0][0] < now:
            _say(writer, *spoken.pop(0))
        writer.write(event, now)
    for entry in spoken:
        _say(writer, *entry)
    if close:
        writer.close()
    return writer


def path_of(writer: JournalWriter) -> Path:
    assert writer.path is not None
    return writer.path


def journal_of(folder: Path, **options: Any) -> Journal:
    return read(path_of(write(folder, **options)))


def write_talk(folder: Path, talk: Conversation, *, settings: JournalSettings | None = None, job: str = "j") -> Path:
    """Write a random conversation down."""
    writer = write(folder, events=talk.events, settings=settings, job=job, rules=talk.circumstances.rules, began=0.0)
    return path_of(writer)


def _say(writer: JournalWriter, now: float, speech: str, step: int, text: str) -> None:
    writer.said(speech, step, text=text, now=now)
