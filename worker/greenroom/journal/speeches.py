"""Follows the speeches of a journal, to know which of their words were heard and which were still to come.

A part of ``recovery``. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from greenroom.dialog import commands as do
from greenroom.dialog import events as ev
from greenroom.dialog import notices as news
from greenroom.journal.format import Said

__all__ = ["CutSpeech", "Speeches"]

TYPICAL_RATE = 15.0
"""Characters spoken in a second, to estimate how far into its last words a speech had come whose length is unknown."""
ANSWERS = frozenset({"turn", "generate_reply", "tool"})
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class CutSpeech:
    """The speech that was heard when the journal broke off.

    ``heard``: the words of the step that left the track, as far as they are known; ``remaining``: those that did not;
    ``complete``: the step has no more words than these. ``in_history``: it was to join the history.
    ``allow_interruptions``: anybody might interrupt it.
    """

    speech: str
    source: ev.SpeechSource
    step: int
    heard: str
    remaining: str
    complete: bool
    in_history: bool = True
    allow_interruptions: bool = True


@dataclass(slots=True)
class _Speech:
    """``texts``: by step, those that are whole; ``calls``: of tools, likewise; ``rates``: characters a second.
    ``begun``: the last step that is made. ``step``: the one that is heard; of it ``certain`` were heard for sure,
    ``pieces`` have gone to the track since, each at its time, and ``kept`` will when a pause is over.
    """

    asked: ev.SpeechRequested
    given: str = ""
    texts: dict[int, str] = field(default_factory=dict)
    calls: dict[int, tuple[str, ...]] = field(default_factory=dict)
    rates: dict[int, float] = field(default_factory=dict)
    begun: int = 1
    step: int = 0
    over: int = 0
    sounds: bool = False
    certain: str = ""
    pieces: list[tuple[float, str]] = field(default_factory=list)
    kept: str = ""

    def start(self, step: int) -> None:
        self.step, self.sounds = step, True
        self.certain, self.pieces, self.kept = "", [], ""

    def pause(self, heard: str) -> None:
        told = self.certain + "".join(text for _, text in self.pieces)
        self.kept = told[len(heard) :] if told.startswith(heard) else ""
        self.certain, self.pieces = heard, []

    def resume(self, now: float) -> None:
        self.pieces, self.kept = [(now, self.kept)], ""

    def heard(self, until: float) -> str:
        """The words that left the track: of the last ones that were on their way, those there was time for."""
        if not self.pieces:
            return self.certain.strip()
        began, last = self.pieces[-1]
        letters = max(int((until - began) * self.rates.get(self.step, TYPICAL_RATE)), 0)
        if letters < len(last.rstrip()):
            last = last[: max(last.rfind(" ", 0, letters + 1), 0)]
        return (self.certain + "".join(text for _, text in self.pieces[:-1]) + last).strip()

    def cut(self, until: float) -> CutSpeech:
        whole = self.texts.get(self.step)
        heard = self.heard(until)
        remaining = _after(whole if whole is not None else self.given, heard)
        complete = whole is not None or bool(self.given)
        asked = self.asked
        return CutSpeech(
            asked.speech,
            asked.source,
            self.step,
            heard,
            remaining,
            complete,
            asked.in_history,
            asked.allow_interruptions,
        )

    def unheard_end(self) -> str | None:
        """The whole text that is still to be said, where nothing else has to be made for it; ``None`` where it has."""
        last = self.over + 1
        return None if last != self.begun or last not in self.texts or self.calls[last] else self.texts[last].strip()

    def goes_on(self, wanted: Mapping[str, bool]) -> bool:
        """After the step that is heard, the model has something to say. ``wanted``: of tool calls, by id."""
        return self.begun > self.step or any(wanted.get(call, True) for call in self.calls.get(self.step, ()))


class Speeches:
    """All that are not over. ``on``: what to call with each event, command and notice of a class."""

    def __init__(self) -> None:
        self._speeches: dict[str, _Speech] = {}
        self._early: dict[str, _Speech] = {}
        self.on: dict[type[Any], Callable[[Any], object]] = {
            ev.SpeechRequested: self._requested,
            ev.ProtectionChanged: self._protection_changed,
            ev.Generated: self._generated,
            ev.Synthesised: self._synthesised,
            ev.Played: self._played,
            do.Generate: self._generate,
            news.SpeechCreated: self._created,
            news.SpeechEnded: lambda notice: self._speeches.pop(notice.speech, None),
            news.EarlyReplyDiscarded: lambda notice: self._early.pop(notice.speech, None),
        }

    def said(self, said: Said, now: float) -> None:
        speech = self._speeches.get(said.speech)
        if speech is not None and said.step == speech.step and speech.sounds:
            speech.pieces.append((now, said.text))

    def cut(self, until: float) -> CutSpeech | None:
        """The one that is heard."""
        return next((speech.cut(until) for speech in self._speeches.values() if speech.sounds), None)

    def ahead(
        self, wanted: Mapping[str, bool], *, superseded: bool
    ) -> tuple[list[ev.SpeechRequested], list[ev.SpeechRequested]]:
        """What was to be said next: texts that are known, and replies that a model has to make; in their order.

        ``wanted``: of the tool calls that have ended, whether the model is to go on with them. ``superseded``: the user
        has said more, and the answer to that is to be the answer to what came before it too.
        """
        texts: list[ev.SpeechRequested] = []
        replies: list[ev.SpeechRequested] = []
        for speech in self._speeches.values():
            asked = speech.asked
            if asked.source == "guard":
                continue  # it spoke into a silence that is over
            if superseded and asked.source == "turn" and asked.allow_interruptions:
                continue
            if speech.sounds:
                if asked.source in ANSWERS and speech.goes_on(wanted):
                    replies.append(asked)
            elif asked.source == "say":
                if speech.given and not speech.over:
                    texts.append(asked)
            elif (rest := speech.unheard_end()) is None:
                replies.append(asked)
            elif rest:
                texts.append(_said_as(asked, rest))
        return texts, replies

    def _requested(self, event: ev.SpeechRequested) -> None:
        self._speeches[event.speech] = _Speech(event, event.text)

    def _protection_changed(self, event: ev.ProtectionChanged) -> None:
        if (speech := self._speeches.get(event.speech)) is not None:
            speech.asked = replace(speech.asked, allow_interruptions=event.allow_interruptions)

    def _generate(self, command: do.Generate) -> None:
        speech = self._find(command.speech)
        if speech is None:
            speech = self._early[command.speech] = _Speech(_answer(command.speech, "turn"))
        speech.begun = command.step

    def _created(self, notice: news.SpeechCreated) -> None:
        speech = self._early.pop(notice.speech, None) or self._speeches.get(notice.speech)
        speech = speech or _Speech(_answer(notice.speech, notice.source))
        speech.given = speech.given or notice.text
        self._speeches[notice.speech] = speech

    def _generated(self, event: ev.Generated) -> None:
        speech = self._find(event.speech)
        if speech is not None and event.what == "end":
            speech.texts.setdefault(event.step, event.text)
            speech.calls.setdefault(event.step, tuple(call.call_id for call in event.calls))

    def _synthesised(self, event: ev.Synthesised) -> None:
        speech = self._find(event.speech)
        text = speech.texts.get(event.step, "") if speech is not None else ""
        if speech is not None and event.what == "end" and event.seconds > 0 and text:
            speech.rates[event.step] = len(text) / event.seconds

    def _played(self, event: ev.Played) -> None:
        speech = self._speeches.get(event.speech)
        if speech is None:
            return
        match event.what:
            case "started":
                speech.start(event.step)
            case "paused":
                speech.pause(event.text)
            case "resumed":
                speech.resume(event.at)
            case _:
                speech.sounds, speech.over = False, event.step

    def _find(self, speech: str) -> _Speech | None:
        return self._speeches.get(speech) or self._early.get(speech)


def _answer(speech: str, source: ev.SpeechSource) -> ev.SpeechRequested:
    """What the dialog itself has asked for, which no event tells."""
    return ev.SpeechRequested(speech, source, place="next")


def _said_as(asked: ev.SpeechRequested, text: str) -> ev.SpeechRequested:
    """What a model was asked for and has made: to be said as it is."""
    return replace(asked, source="say", text=text, user_input="", instructions="")


def _after(text: str, heard: str) -> str:
    """What follows the heard words in a text, word by word: a voice may space and pronounce them in its own way."""
    words = list(_WORD.finditer(text))
    count = len(_WORD.findall(heard))
    return text[words[count].start() :].strip() if count < len(words) else ""
