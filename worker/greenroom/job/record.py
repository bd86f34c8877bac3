"""A call's journal as the job keeps it: the dialog's events, and between them what else a recovery has to know."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from greenroom.dialog.events import AgentChanged, ContextChanged, Event, HandOff, ToolFinished
from greenroom.dialog.history import ChatItem
from greenroom.job.resume import Start, class_path
from greenroom.journal.format import AgentNoted, Header, LeftNoted, PreconnectNoted
from greenroom.journal.writer import JournalWriter
from greenroom.session.agent import Agent
from greenroom.session.resume import Continuation
from greenroom.session.resuming import BROKEN_OFF

if TYPE_CHECKING:
    from greenroom.room.room import PreconnectReport
    from greenroom.session.session import AgentSession
    from greenroom.settings import JournalSettings

__all__ = ["CallRecord"]


class CallRecord:
    """Written from the call's beginning; who has the conversation, ``follow`` says."""

    def __init__(self, folder: Path, header: Header, *, settings: JournalSettings) -> None:
        self._journal = JournalWriter(folder, header, settings=settings)
        self._session: AgentSession | None = None
        self._name = ""
        self._revision = 0
        self._instructions = ""

    @property
    def path(self) -> str:
        """Empty where there could be none."""
        return str(self._journal.path or "")

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._journal.size

    @property
    def stopped(self) -> bool:
        """It ended before the call did."""
        return self._journal.stopped

    def follow(self, session: AgentSession, start: Start) -> None:
        """The conversation is about to begin."""
        agent, continuation = start.agent, start.continuation
        self._session = session
        self._revision, self._instructions = agent.known.revision, agent.instructions
        if continuation is None:
            return
        if continuation.instructions is not None:
            self._instructions = continuation.instructions
        self._journal.note(_left(continuation), _now())
        if continuation.known is not None or continuation.instructions is not None:
            known = None if continuation.known is None else _by_id(continuation.known, start.history)
            self._journal.note(AgentNoted(instructions=continuation.instructions, known=known), _now())

    def event(self, event: Event, now: float) -> None:
        """Told before the event is handled."""
        note: AgentNoted | None = None
        if isinstance(event, AgentChanged):
            note = self._entered(event.agent)
        elif isinstance(event, ContextChanged):
            note = self._changed()
        elif isinstance(event, HandOff | ToolFinished) and event.agent:
            note = self._expected(event.agent)
        if note is not None:
            self._journal.note(note, now)
        self._journal.write(event, now)

    def taken_up(self) -> None:
        """What was left to do has been begun with: the events tell of it now."""
        self._journal.note(LeftNoted(), _now())

    def said(self, item_id: str, text: str) -> None:
        """Words of a speech's step on their way to the track."""
        speech, _, step = item_id.rpartition(".")
        self._journal.said(speech, int(step), text=text, now=_now())

    def preconnect(self, report: PreconnectReport) -> None:
        noted = {name: getattr(report, name) for name in PreconnectNoted.__dataclass_fields__}
        self._journal.note(PreconnectNoted(**noted), _now())

    def close(self) -> None:
        self._journal.close()

    def _expected(self, name: str) -> AgentNoted | None:
        agent = self._session.expected_agent(name) if self._session is not None else None
        return self._described(name, agent) if agent is not None else None

    def _entered(self, name: str) -> AgentNoted | None:
        if self._session is None:
            return None
        agent = self._session.current_agent
        self._name, self._revision, self._instructions = name, agent.known.revision, agent.instructions
        return self._described(name, agent)

    def _changed(self) -> AgentNoted | None:
        """Of the one who has the conversation: tools, which are the class's own, or what is told here."""
        if self._session is None:
            return None
        agent = self._session.current_agent
        told = agent.instructions if agent.instructions != self._instructions else None
        revision = agent.known.revision
        known = _by_id(agent.known.items, self._session.history) if revision != self._revision else None
        self._revision, self._instructions = revision, agent.instructions
        if told is None and known is None:
            return None
        return AgentNoted(self._name, instructions=told, known=known)

    def _described(self, name: str, agent: Agent) -> AgentNoted:
        known = _by_id(agent.known.items, self._session.history) if self._session is not None else None
        return AgentNoted(name, class_path(type(agent)), agent.instructions, known)


def _left(continuation: Continuation) -> LeftNoted:
    rest = () if continuation.rest is None else (continuation.rest,)
    broken = (BROKEN_OFF,) if continuation.broken else ()
    return LeftNoted(
        waiting=(*rest, *continuation.waiting),
        replies=(*broken, *continuation.replies),
        unanswered=continuation.resumed.unanswered,
    )


def _by_id(items: Iterable[ChatItem], history: Iterable[ChatItem]) -> tuple[str | ChatItem, ...]:
    """Those that stand in the history just so, by their ids alone."""
    there = {item.id: item for item in history}
    return tuple(item.id if there.get(item.id) == item else item for item in items)


def _now() -> float:
    return asyncio.get_running_loop().time()
