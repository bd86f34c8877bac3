"""A journal as people read it: who said what when, what was heard of it, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from greenroom.dialog import commands as do
from greenroom.dialog import events as ev
from greenroom.dialog import notices as news
from greenroom.journal.reader import Journal
from greenroom.journal.replay import Step, replay

__all__ = ["Entry", "Kind", "as_json", "as_text", "transcript"]

Kind: TypeAlias = Literal["user", "agent", "tool", "error", "note", "end"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened. ``at`` and ``until``: seconds since the call began, of what can be heard its sound.

    ``text``: what was said, by the agent what was heard of it; ``unheard``: what it was about to say when it was cut
    off. ``what``: what kind of a note, a tool's call, or whom something befell. ``id``: of the turn, speech or call.
    """

    at: float
    kind: Kind
    text: str = ""
    what: str = ""
    id: str = ""
    until: float | None = None
    unheard: str = ""
    interrupted: bool = False


def transcript(journal: Journal) -> list[Entry]:
    """What happened, in the order in which it began. Held by today's dialog on the journal's events."""
    teller = _Teller(journal.header.began)
    differs = False
    for step in replay(journal):
        if step.differs and not differs:
            differs = True
            teller.note(step.now, "replay", f"from here on (line {step.line}) today's greenroom decides otherwise")
        teller.see(step)
    teller.finish()
    return sorted(teller.entries, key=lambda entry: entry.at)


def as_json(entries: Iterable[Entry]) -> str:
    """One object a line."""
    return "\n".join(msgspec.json.encode(entry).decode() for entry in entries)


def as_text(journal: Journal, entries: Iterable[Entry]) -> str:
    """Lines with times since the beginning, after a few on what this is."""
    header = journal.header
    facts = {
        "job": header.job,
        "room": header.room,
        "agent": " ".join(
            part for part in (header.agent, f"({header.agent_class})" if header.agent_class else "") if part
        ),
        "began": header.started,
        "greenroom": header.greenroom,
        "follows": f"{header.follows}, attempt {header.attempt}" if header.follows else "",
    }
    lines = [f"{name:<9}  {_one_line(value)}" for name, value in facts.items() if value]
    return "\n".join([*lines, "", *(_line(entry) for entry in entries), *_epilog(journal)])


def _epilog(journal: Journal) -> list[str]:
    ending = journal.ending
    if ending is None:
        return ["", "The journal was broken off here: its process was killed, or goes on."]
    return ["", f"The journal was stopped here: {ending.why}"] if ending.how == "stopped" else []


def _line(entry: Entry) -> str:
    text = _one_line(entry.text)
    if entry.kind == "agent":
        text += f" — cut off, unheard: {_one_line(entry.unheard) or '?'}" if entry.interrupted else ""
    elif entry.what:
        text = f"{entry.what}: {text}" if text else entry.what
    who = "" if entry.kind == "note" else entry.kind
    return f"{_clock(entry.at):>10}  {who:<6} {text}".rstrip()


def _clock(seconds: float) -> str:
    sign = "-" if seconds < 0 else ""
    milliseconds = abs(round(seconds * 1000))
    return f"{sign}{milliseconds // 60_000}:{milliseconds // 1000 % 60:02}.{milliseconds % 1000:03}"


def _one_line(text: str) -> str:
    """Without line ends, and without what would move a terminal's cursor."""
    return "".join(character if character.isprintable() else " " for character in text)


@dataclass(slots=True)
class _Speech:
    """``given``: its words, if they were known beforehand; ``texts``: by step. ``began``: the step's first sample."""

    source: ev.SpeechSource
    given: str = ""
    texts: dict[int, str] = field(default_factory=dict)
    began: float | None = None
    step: int = 0
    heard: bool = False


@dataclass(slots=True)
class _Tool:
    began: float
    call: ev.RequestedCall


class _Teller:
    """Turns events and commands into entries."""

    def __init__(self, began: float) -> None:
        self.entries: list[Entry] = []
        self._began = began
        self._speeches: dict[str, _Speech] = {}
        self._tools: dict[str, _Tool] = {}
        self._voices: dict[str, float] = {}
        self._voice: float | None = None

    def see(self, step: Step) -> None:
        self._event(step.event, step)
        for command in step.commands:
            self._command(command, step.now)

    def note(self, now: float, what: str, text: str = "", *, kind: Kind = "note", of: str = "") -> None:
        self.entries.append(Entry(now - self._began, kind, text, what, of))

    def finish(self) -> None:
        """What had not ended when the journal did."""
        for name, speech in self._speeches.items():
            if speech.began is not None:
                text = f"{speech.texts.get(speech.step, speech.given)} — when the journal broke off"
                self.note(speech.began, speech.source, text, kind="agent", of=name)
        for call_id, tool in self._tools.items():
            self.note(tool.began, _call(tool.call), "has not returned", kind="tool", of=call_id)

    # --- events -------------------------------------------------------------------------------------------------------

    def _event(self, event: ev.Event, step: Step) -> None:
        now = step.now
        match event:
            case ev.UserStarted():
                self._voice = event.at if self._voice is None else self._voice
            case ev.SpeechRequested():
                self._speeches.setdefault(event.speech, _Speech(event.source, event.text))
            case ev.Generated():
                self._generated(event, now)
            case ev.Synthesised() if event.what == "failed":
                self.note(now, event.speech, event.error or "the voice failed", kind="error", of=event.speech)
            case ev.Played() if not _dropped(step):
                self._played(event)
            case ev.ToolFinished() if event.call_id in self._tools:
                self._tool_ended(event.call_id, now, event.output, is_error=event.is_error)
            case ev.AgentChanged() if not _dropped(step):
                self.note(now, "hand-off", event.agent)
            case ev.ListenerChanged():
                self.note(now, "somebody is there to hear" if event.present else "nobody is there to hear")
            case _:
                pass

    def _generated(self, event: ev.Generated, now: float) -> None:
        if event.what == "failed":
            self.note(now, event.speech, event.error or "the model failed", kind="error", of=event.speech)
        elif event.what == "end":
            self._speech(event.speech).texts[event.step] = event.text

    def _played(self, event: ev.Played) -> None:
        speech = self._speech(event.speech)
        if event.what == "started":
            speech.began, speech.step, speech.heard = event.at, event.step, True
        elif event.what in ("finished", "stopped") and speech.began is not None:
            began, speech.began = speech.began, None
            text, whole = event.text.strip(), speech.texts.get(event.step, speech.given)
            cut = event.what == "stopped"
            unheard = " ".join(whole.split()[len(text.split()) :]) if cut else ""
            at, until = began - self._began, event.at - self._began
            self.entries.append(Entry(at, "agent", text, speech.source, event.speech, until, unheard, cut))

    def _tool_ended(self, call_id: str, now: float, output: str, *, is_error: bool = False) -> None:
        tool = self._tools.pop(call_id)
        at, text = tool.began - self._began, f"{'error: ' if is_error else ''}{output or 'nothing'}"
        lasted = f" ({now - tool.began:.2f} s)"
        self.entries.append(Entry(at, "tool", text + lasted, _call(tool.call), call_id, now - self._began))

    # --- commands -----------------------------------------------------------------------------------------------------

    def _command(self, command: do.Command, now: float) -> None:
        match command:
            case do.RunTool():
                self._tools[command.call.call_id] = _Tool(now, command.call)
            case do.CancelTool() if command.call_id in self._tools:
                self._tool_ended(command.call_id, now, "cancelled", is_error=True)
            case do.Close():
                self.note(now, "", command.reason, kind="end")
            case do.Announce():
                self._notice(command.notice, now)
            case _:
                pass

    def _notice(self, notice: news.Notice, now: float) -> None:
        match notice:
            case news.UserTranscribed() if self._voice is not None:
                self._voices.setdefault(notice.turn, self._voice)
            case news.TurnCommitted():
                self._turn(notice, now)
            case news.SpeechCreated():
                self._speech(notice.speech, notice.source).given = self._speech(notice.speech).given or notice.text
            case news.SpeechEnded():
                self._ended(notice, now)
            case news.Backchannel():
                self._voice = None
                self.note(self._voices.pop(notice.turn, now), "puts in", notice.text, kind="user", of=notice.turn)
            case news.FalseInterruption():
                self.note(now, "goes on after a false alarm", of=notice.speech)
            case news.DeadAir():
                self.note(
                    now, "dead air", f"nothing was audible for {notice.silent:.1f} s: {notice.step}", kind="error"
                )
            case news.TurnTimedOut():
                text = f"no words came for {', '.join(notice.utterances)}"
                self.note(now, "transcriber", text, kind="error", of=notice.turn)
            case news.TurnExceeded():
                self.note(now, "turn too long", f"{notice.lasted:.1f} s", of=notice.turn)
            case news.UserMuted():
                self.note(now, "the user is muted" if notice.on else "the user is listened to")
            case news.UserStateChanged() if ev.UserState.AWAY in (notice.old, notice.new):
                self.note(now, "the user is away" if notice.new is ev.UserState.AWAY else "the user is back")
            case news.EarlyReplyDiscarded():
                self._speeches.pop(notice.speech, None)
                self.note(now, "an answer that was begun early is dropped", of=notice.speech)
            case _:
                pass

    def _turn(self, notice: news.TurnCommitted, now: float) -> None:
        began = now if notice.typed else self._voices.pop(notice.turn, notice.at)
        what = "types" if notice.typed else ""
        at, until = began - self._began, None if notice.typed else notice.at - self._began
        self.entries.append(Entry(at, "user", notice.text, what, notice.turn, until))
        if not notice.typed:
            self._voice = None

    def _ended(self, notice: news.SpeechEnded, now: float) -> None:
        speech = self._speeches.pop(notice.speech, None)
        if notice.reason is ev.EndReason.FAILED:
            self.note(now, notice.speech, f"the speech failed: {notice.error}", kind="error", of=notice.speech)
        elif speech is not None and not speech.heard:
            words = " ".join(speech.texts.values()) or speech.given
            self.note(now, f"never heard, {notice.reason}", words, of=notice.speech)

    def _speech(self, speech: str, source: ev.SpeechSource = "turn") -> _Speech:
        return self._speeches.setdefault(speech, _Speech(source))


def _dropped(step: Step) -> bool:
    name = type(step.event).__name__
    return any(isinstance(command, do.Drop) and command.event == name for command in step.commands)


def _call(call: ev.RequestedCall) -> str:
    return f"{call.name}({call.arguments})"
