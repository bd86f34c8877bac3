"""Where the time of an answer went: each turn's wait, cut into segments without gap or overlap.

From the user's last voiced sample to the first sample of the answer that leaves the track:

===========  =====================================================================================================
silence      until it was clear that the turn is over, as far as silence and its judges decide that
transcript   until the words were there that the turn still waited for
hook         until ``on_user_turn_completed`` had returned
model        until the model's first words (or calls of tools)
tools        until the tools had returned that were called before anything was said
answer       until the model's first words on what they returned
sentence     until the voice began with the first sentence of these; none where it does not tell
voice        until the voice's first sound
floor        until the answer might be heard: another speech was, or the user spoke
playout      until its first sample left
===========  =====================================================================================================

What was done before a segment began, by an early answer say, takes none of its time. Segments are whole microseconds,
and add up to the whole exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from greenroom.dialog import commands as do
from greenroom.dialog import events as ev
from greenroom.dialog import notices as news
from greenroom.journal.reader import Journal
from greenroom.journal.replay import Step, replay

__all__ = ["SEGMENTS", "Clock", "Segment", "Turn", "table", "turns"]

SEGMENTS = ("silence", "transcript", "hook", "model", "tools", "answer", "sentence", "voice", "floor", "playout")
MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Segment:
    """``begin`` and ``end``: microseconds since the user's last voiced sample."""

    name: str
    begin: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the user's. ``at``: its last voiced sample, seconds since the call began; of a typed one, its end.

    ``segments``: of the wait for the answer, in order; none when nothing of an answer was heard, and ``outcome`` says
    what became of it: ``answered``, ``no answer wanted``, or why its speech ended.
    """

    id: str
    text: str
    at: float
    outcome: str
    segments: tuple[Segment, ...] = ()

    @property
    def total(self) -> int:
        """Microseconds."""
        return self.segments[-1].end if self.segments else 0

    def length(self, name: str) -> int:
        """Microseconds of the segment of this name; 0 where there is none."""
        return sum(segment.length for segment in self.segments if segment.name == name)


def turns(journal: Journal) -> list[Turn]:
    """The user's turns in the order in which they were over."""
    clock = Clock(journal.header.rules.turns.endpoint.min_delay, began=journal.header.began)
    for step in replay(journal):
        clock.see(step)
    return clock.measured()


def table(measured: Sequence[Turn]) -> str:
    """Milliseconds, for people: rows that add up as they are printed; below them the middle and the worst."""
    answered = [turn for turn in measured if turn.segments]
    names = [name for name in SEGMENTS if any(turn.length(name) for turn in answered)]
    rows = [["turn", "at", *names, "total", "words"]]
    for turn in measured:
        cells = [str(one) for one in _milliseconds(turn, names)] if turn.segments else ["-"] * (len(names) + 1)
        words = turn.text if turn.segments else f"{turn.text} ({turn.outcome})"
        rows.append([turn.id, f"{turn.at:.3f}", *cells, words])
    if answered:
        columns = list(zip(*(_milliseconds(turn, names) for turn in answered), strict=True))
        rows.append(["median", "", *(str(round(median(column))) for column in columns), ""])
        rows.append(["worst", "", *(str(max(column)) for column in columns), ""])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(_row(row, widths) for row in rows)


def _row(row: list[str], widths: list[int]) -> str:
    first, *numbers = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=False))
    )
    return "  ".join([first, *numbers, row[-1]]).rstrip()


def _milliseconds(turn: Turn, names: Sequence[str]) -> list[int]:
    """By name, and the whole. The marks are rounded, not the lengths, so that these still add up."""
    lengths = dict.fromkeys(names, 0)
    for segment in turn.segments:
        if segment.name in lengths:
            lengths[segment.name] += round(segment.end / 1000) - round(segment.begin / 1000)
    return [*lengths.values(), round(turn.total / 1000)]


@dataclass(slots=True)
class _Speech:
    """When what happened first, by step."""

    asked: dict[int, float] = field(default_factory=dict)
    words: dict[int, float] = field(default_factory=dict)
    sentence: dict[int, float] = field(default_factory=dict)
    sound: dict[int, float] = field(default_factory=dict)
    play: dict[int, float] = field(default_factory=dict)
    step: int = 0
    heard: float | None = None
    outcome: str = ""


@dataclass(slots=True)
class _Turn:
    """``quiet``: when silence alone had made it clear that the turn is over."""

    id: str
    text: str
    voiced: float
    quiet: float
    committed: float
    hooked: float | None = None
    wanted: bool = True
    answer: _Speech | None = None

    @property
    def settled(self) -> bool:
        """Its answer was heard, or will never be."""
        if self.answer is None:
            return not self.wanted
        return self.answer.heard is not None or bool(self.answer.outcome)


class Clock:
    """Notes when what happened, in a journal or in a call that goes on. ``min_delay``: by its rules."""

    def __init__(self, min_delay: float, *, began: float) -> None:
        self.turns: dict[str, _Turn] = {}
        self._min_delay = min_delay
        self._began = began
        self._speeches: dict[str, _Speech] = {}
        self._worded: dict[str, float] = {}
        self._noticed: dict[float, float] = {}
        self._asked = float("-inf")

    def see(self, step: Step) -> None:
        now, event = step.now, step.event
        match event:
            case ev.UserStopped():
                self._noticed[event.at] = now
            case ev.TurnEndAsked():
                self._asked = now
            case ev.HookFinished() if event.turn in self.turns:
                self.turns[event.turn].hooked = now
                self.turns[event.turn].wanted = event.go_on
            case ev.Generated() if event.what != "failed":
                self._speech(event.speech).words.setdefault(event.step, now)
            case ev.Synthesised() if event.what == "sentence":
                self._speech(event.speech).sentence.setdefault(event.step, now)
            case ev.Synthesised() if event.what == "first":
                self._speech(event.speech).sound.setdefault(event.step, now)
            case ev.Played() if event.what == "started":
                speech = self._speech(event.speech)
                if speech.heard is None:
                    speech.heard, speech.step = event.at, event.step
            case _:
                pass
        for command in step.commands:
            self._commanded(command, step)

    def measured(self) -> list[Turn]:
        """All turns so far, in the order in which they were over."""
        return [_measured(turn, self._began) for turn in self.turns.values()]

    def take_settled(self) -> list[Turn]:
        """The turns of whose answer all is known, and no earlier ones: they are told once, and then forgotten."""
        settled = [turn for turn in self.turns.values() if turn.settled]
        for turn in settled:
            del self.turns[turn.id]
        return [_measured(turn, self._began) for turn in settled]

    def _commanded(self, command: do.Command, step: Step) -> None:
        match command:
            case do.Generate():
                self._speech(command.speech).asked.setdefault(command.step, step.now)
            case do.Play():
                self._speech(command.speech).play[command.step] = step.now
            case do.Announce():
                self._announced(command.notice, step)
            case _:
                pass

    def _announced(self, notice: news.Notice, step: Step) -> None:
        match notice:
            case news.UserTranscribed():
                self._worded[notice.turn] = step.now
            case news.TurnCommitted():
                self.turns[notice.turn] = self._turn(notice, step)
            case news.SpeechCreated() if notice.source == "turn" and isinstance(step.event, ev.HookFinished):
                self.turns[step.event.turn].answer = self._speech(notice.speech)
            case news.SpeechEnded():
                self._speech(notice.speech).outcome = str(notice.reason)
            case _:
                pass

    def _turn(self, notice: news.TurnCommitted, step: Step) -> _Turn:
        voiced = step.now if notice.typed else min(notice.at, step.now)
        waited = self._worded.get(notice.turn) == step.now or any(
            isinstance(command, do.Announce) and isinstance(command.notice, news.TurnTimedOut)
            for command in step.commands
        )
        quiet = step.now
        if waited:  # silence had decided before: as soon as it was noticed, and had lasted
            noticed = max(self._noticed.get(notice.at, voiced), self._asked if notice.asked else voiced)
            quiet = min(max(noticed, voiced if notice.asked else voiced + self._min_delay), step.now)
        return _Turn(notice.turn, notice.text, voiced, quiet, step.now)

    def _speech(self, speech: str) -> _Speech:
        return self._speeches.setdefault(speech, _Speech())


def _measured(turn: _Turn, began: float) -> Turn:
    answer = turn.answer
    at = turn.voiced - began
    if answer is None:
        return Turn(turn.id, turn.text, at, "not answered yet" if turn.wanted else "no answer wanted")
    if answer.heard is None:
        return Turn(turn.id, turn.text, at, answer.outcome or "not heard yet")
    segments: list[Segment] = []
    end = max(round((answer.heard - turn.voiced) * MICRO), 0)
    begin = 0
    for name, when in _marks(turn, answer):
        until = begin if when is None else min(max(round((when - turn.voiced) * MICRO), begin), end)
        if until > begin:
            segments.append(Segment(name, begin, until))
        begin = until
    segments.append(Segment("playout", begin, end))
    return Turn(turn.id, turn.text, at, "answered", tuple(segments))


def _marks(turn: _Turn, answer: _Speech) -> list[tuple[str, Any]]:
    """The ends of all segments but the last, and when they were; ``None``: the answer did without."""
    step = answer.step
    marks: list[tuple[str, Any]] = [
        ("silence", turn.quiet),
        ("transcript", turn.committed),
        ("hook", turn.hooked),
        ("model", answer.words.get(1)),
    ]
    if step > 1:
        marks += [("tools", answer.asked.get(step)), ("answer", answer.words.get(step))]
    marks += [("sentence", answer.sentence.get(step)), ("voice", answer.sound.get(step))]
    return [*marks, ("floor", answer.play.get(step))]
