"""Folds a journal that was broken off into what the next process has to know to go on with the call. Pure.

The dialog is held again on the journal's events; what it commits is the history, as it was. Beside that stand the ends
that were open: words that were heard and not committed yet, tools that had begun, what the user said that nobody has
answered. What cannot be known is told apart from what is: a tool that began and did not return is ``unknown``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from greenroom.dialog import commands as do
from greenroom.dialog import events as ev
from greenroom.dialog import notices as news
from greenroom.dialog.history import ChatItem, FunctionCall, FunctionCallOutput, Message
from greenroom.journal.format import AgentNoted, LeftNoted, Note, Said
from greenroom.journal.reader import Journal
from greenroom.journal.replay import Step, replay
from greenroom.journal.speeches import CutSpeech, Speeches

__all__ = ["CallState", "Carried", "CutSpeech", "Holder", "ToolOutcome", "ToolRun", "carried_over", "fold"]

UNKNOWN = (
    "It is not known whether this was done: the program that did it was cut off. Find out before you do it once more."
)
"""What the model is told that a tool has returned which had begun and did not return."""

ToolOutcome: TypeAlias = Literal["finished", "cancelled", "unknown"]


@dataclass(frozen=True, slots=True)
class ToolRun:
    """A tool that was begun. ``unknown``: it had not returned; it may have done its work, or a part of it.

    ``told``: its result is in the history. ``reply``: the model is to go on with it.
    """

    speech: str
    step: int
    call: ev.RequestedCall
    outcome: ToolOutcome = "unknown"
    output: str = UNKNOWN
    is_error: bool = True
    told: bool = False
    reply: bool = True


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has the conversation, or is about to take it.

    ``name``: as the dialog knew it, empty for the one that the journal begins with. ``agent_class``: ``module:Class``,
    empty where the journal does not say it. ``instructions``: ``None`` where they are the class's own. ``known``: what
    it knows of the conversation; ``None``: all of it.
    """

    name: str = ""
    agent_class: str = ""
    instructions: str | None = None
    known: tuple[ChatItem, ...] | None = None


@dataclass(frozen=True, slots=True)
class CallState:
    """A call as its journal leaves it.

    ``history``: what was brought along and what was committed. ``uncommitted``: what happened and is not in it: heard
    words of ``speech``, results of tools that wait for such words, and of tools that nobody knows the outcome of.
    ``unanswered``: what the user said and is not in it, turn by turn. ``replies``: what the model was to say and nobody
    has heard. ``waiting``: texts that were to be said, in order. ``coming``: who is to take the conversation next.
    ``closed``: why the conversation was over; ``closing``: why it was to be, after what waits. ``untouched``: nobody
    has said anything, or wanted to. ``last``: the time of the last record.
    """

    history: tuple[ChatItem, ...]
    uncommitted: tuple[ChatItem, ...]
    tools: tuple[ToolRun, ...]
    speech: CutSpeech | None
    waiting: tuple[ev.SpeechRequested, ...]
    replies: tuple[ev.SpeechRequested, ...]
    unanswered: tuple[str, ...]
    agent: Holder
    coming: Holder | None
    closed: str
    closing: str
    untouched: bool
    last: float

    @property
    def owed(self) -> bool:
        """The user waits for an answer."""
        return bool(self.unanswered or self.replies)

    @property
    def unknown(self) -> tuple[ToolRun, ...]:
        """Tools that had begun, and that nobody knows the outcome of."""
        return tuple(run for run in self.tools if run.outcome == "unknown")


@dataclass(frozen=True, slots=True)
class Carried:
    """The conversation as the next process takes it over: all of it, and what its agent knows (``None``: all)."""

    history: tuple[ChatItem, ...]
    known: tuple[ChatItem, ...] | None


def fold(journal: Journal, *, until: float | None = None) -> CallState:
    """The state that the journal leaves. ``until``: when the process died, on the loop's clock, if that is known."""
    call = _Call(journal)
    steps = iter(replay(journal))
    for record in journal.records:
        if (note := record.note) is not None:
            call.noted(note, record.now)
        else:
            call.see(next(steps))
    last = journal.records[-1].now if journal.records else journal.header.began
    return call.state(last, max(last, until if until is not None else last))


def carried_over(journal: Journal, state: CallState) -> Carried:
    """What the next process takes over: nothing in it has an id that the next dialog will give."""
    before = {item.id for item in journal.header.history}
    prefix = f"{journal.header.attempt}."

    def renamed(items: Iterable[ChatItem]) -> tuple[ChatItem, ...]:
        return tuple(item if item.id in before else replace(item, id=prefix + item.id) for item in items)

    known = state.agent.known
    return Carried(
        renamed((*state.history, *state.uncommitted)),
        None if known is None else renamed((*known, *state.uncommitted)),
    )


class _Call:
    """Follows a call, record by record."""

    def __init__(self, journal: Journal) -> None:
        self.speeches = Speeches()
        self.agents = _Agents(journal)
        self._history: dict[str, ChatItem] = {item.id: item for item in journal.header.history}
        self._tools: dict[str, ToolRun] = {}
        self._taken: dict[str, str] = {}
        self._committed: dict[str, str] = {}
        self._seen: set[str] = set()
        self._closed = ""
        self._closing = ""
        self._left = LeftNoted()
        self._touched = journal.header.attempt > 1
        self._on: dict[type[Any], list[Callable[[Any], object]]] = {
            ev.ToolFinished: [self._tool_finished, self.agents.tool_finished],
            ev.HookFinished: [self._hook_finished],
            ev.HandOff: [lambda event: self.agents.expected(event.agent)],
            ev.AgentChanged: [lambda event: self.agents.changed(event.agent)],
            ev.TurnCleared: [lambda event: self._taken.clear()],
            do.Commit: [self._commit],
            do.RunTool: [self._run_tool],
            do.CancelTool: [self._cancel_tool],
            do.Close: [self._close],
            ev.CloseAsked: [self._close_asked],
            news.SpeechCreated: [self._touch],
            news.UserTranscribed: [self._touch, self._transcribed],
            news.TurnCommitted: [self._touch, self._turn_committed],
            news.Backchannel: [lambda notice: self._taken.pop(notice.turn, None)],
        }
        for kind, follow in self.speeches.on.items():
            self._on.setdefault(kind, []).append(follow)

    def see(self, step: Step) -> None:
        """An event that was not dropped, and what was commanded for it."""
        drop = type(step.event).__name__
        happened: list[Any] = [step.event]
        for command in step.commands:
            if isinstance(command, do.Drop) and command.event == drop != "Generated":
                happened.pop(0)  # of what a model has made, a part may be dropped
                drop = ""
            happened.append(command.notice if isinstance(command, do.Announce) else command)
        for one in happened:
            for follow in self._on.get(type(one), ()):
                follow(one)

    def noted(self, note: Note, now: float) -> None:
        if isinstance(note, Said):
            self.speeches.said(note, now)
        elif isinstance(note, AgentNoted):
            self.agents.noted(note, self._history)
        elif isinstance(note, LeftNoted):
            self._left = note

    def state(self, last: float, until: float) -> CallState:
        cut = self.speeches.cut(until)
        words: list[ChatItem] = []
        if cut is not None and cut.heard and cut.in_history:
            broken_off = bool(cut.remaining) or not cut.complete
            words = [Message(f"{cut.speech}.{cut.step}", "assistant", cut.heard, interrupted=broken_off)]
        wanted = {call_id: run.reply for call_id, run in self._tools.items() if run.outcome != "unknown"}
        unanswered = (*self._left.unanswered, *self._committed.values(), *self._taken.values())
        texts, replies = self.speeches.ahead(wanted, superseded=bool(unanswered))
        return CallState(
            history=tuple(self._history.values()),
            uncommitted=(*words, *self._untold()),
            tools=tuple(self._tools.values()),
            speech=cut,
            waiting=(*self._left.waiting, *texts),
            replies=(*self._left.replies, *replies),
            unanswered=unanswered,
            agent=self.agents.current,
            coming=self.agents.coming,
            closed=self._closed,
            closing=self._closing,
            untouched=not self._touched,
            last=last,
        )

    def _untold(self) -> list[ChatItem]:
        """Results that no history holds yet."""
        items: list[ChatItem] = []
        for run in self._tools.values():
            if not run.told:
                call, name = run.call, f"{run.speech}.{run.call.call_id}"
                items.append(FunctionCall(name, call.call_id, call.name, call.arguments))
                items.append(FunctionCallOutput(f"{name}.output", call.call_id, call.name, run.output, run.is_error))
        return items

    # --- tools --------------------------------------------------------------------------------------------------------

    def _run_tool(self, command: do.RunTool) -> None:
        self._tools[command.call.call_id] = ToolRun(command.speech, command.step, command.call)

    def _tool_finished(self, event: ev.ToolFinished) -> None:
        result = {"output": event.output, "is_error": event.is_error, "reply": event.reply}
        self._settle(event.call_id, outcome="finished", **result)

    def _cancel_tool(self, command: do.CancelTool) -> None:
        self._settle(command.call_id, outcome="cancelled", output="It was cancelled.", is_error=True, reply=False)

    def _commit(self, command: do.Commit) -> None:
        item = self._history[command.item.id] = command.item
        self.agents.learn(item)
        if isinstance(item, FunctionCallOutput):
            self._settle(item.call_id, told=True, output=item.output, is_error=item.is_error)

    def _settle(self, call_id: str, **changes: Any) -> None:
        if call_id in self._tools:
            self._tools[call_id] = replace(self._tools[call_id], **changes)

    # --- turns --------------------------------------------------------------------------------------------------------

    def _touch(self, event: object) -> None:
        self._touched = True

    def _transcribed(self, notice: news.UserTranscribed) -> None:
        if notice.turn not in self._seen:
            self._taken[notice.turn] = notice.text

    def _turn_committed(self, notice: news.TurnCommitted) -> None:
        self._seen.add(notice.turn)
        self._taken.pop(notice.turn, None)
        if notice.text:
            self._committed[notice.turn] = notice.text

    def _hook_finished(self, event: ev.HookFinished) -> None:
        self._committed.pop(event.turn, None)

    def _close_asked(self, event: ev.CloseAsked) -> None:
        if event.drain:
            self._closing = self._closing or event.reason
        else:
            self._closed = self._closed or self._closing or event.reason

    def _close(self, command: do.Close) -> None:
        self._closed = self._closed or command.reason


class _Agents:
    """Who has the conversation, who is to take it next, and what each of them knows."""

    def __init__(self, journal: Journal) -> None:
        first = Holder(agent_class=journal.header.agent_class)
        self._holders: dict[str, Holder] = {"": first}
        self._known: dict[str, ChatItem] | None = None
        self._current = ""
        self._coming: deque[str] = deque()

    @property
    def current(self) -> Holder:
        known = None if self._known is None else tuple(self._known.values())
        return replace(self._holders[self._current], known=known)

    @property
    def coming(self) -> Holder | None:
        return self._holders.get(self._coming[-1]) if self._coming else None

    def noted(self, note: AgentNoted, history: Mapping[str, ChatItem]) -> None:
        holder = self._holders.get(note.name, Holder(note.name))
        if note.known is not None:
            items = (history.get(one) if isinstance(one, str) else one for one in note.known)
            holder = replace(holder, known=tuple(item for item in items if item is not None))
        if note.instructions is not None:
            holder = replace(holder, instructions=note.instructions)
        self._holders[note.name] = replace(holder, agent_class=note.agent_class or holder.agent_class)
        if note.name == self._current and note.known is not None:
            self._take()

    def tool_finished(self, event: ev.ToolFinished) -> None:
        if event.agent:
            self.expected(event.agent)

    def expected(self, name: str) -> None:
        self._coming.append(name)

    def changed(self, name: str) -> None:
        while self._coming and self._coming.popleft() != name:
            pass  # of several that one speech asked for, the last one counts
        self._holders.setdefault(name, Holder(name))
        self._current = name
        self._take()

    def learn(self, item: ChatItem) -> None:
        if self._known is not None:
            self._known[item.id] = item

    def _take(self) -> None:
        known = self._holders[self._current].known
        self._known = None if known is None else {item.id: item for item in known}
