"""Makes of a dead process's journal what the next one goes on with.

A journal that is missing or broken is no reason to lose a caller: the call then begins afresh, and the log says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from greenroom.dialog.events import SpeechRequested
from greenroom.dialog.history import ChatItem, FunctionCall
from greenroom.errors import GreenroomError
from greenroom.journal.reader import Journal, read
from greenroom.journal.recovery import CallState, Carried, CutSpeech, Holder, carried_over, fold
from greenroom.redaction import redact
from greenroom.reference import BadReference, resolve
from greenroom.session.agent import Agent
from greenroom.session.resume import Continuation, Resumed

if TYPE_CHECKING:
    from greenroom.jobs.ipc import Resume

__all__ = ["AgentMaker", "Recalled", "Start", "begin", "class_path", "recall", "take_up"]

log = structlog.get_logger(__name__)

ANSWERS = frozenset({"turn", "generate_reply", "tool"})


@dataclass(frozen=True, slots=True)
class AgentMaker:
    """Makes agents. ``first``: the one that calls begin with, of the class ``path``. ``beside``: the settings file."""

    first: Callable[[], Agent]
    path: str
    beside: str

    def again(self, holder: Holder) -> Agent | None:
        """The agent that had the conversation; ``None`` where it cannot be made without arguments, or at all.

        Raises what the first agent's class raises.
        """
        path = holder.agent_class
        if path == self.path or not (path or holder.name):
            return self.first()
        try:
            if not path:
                raise BadReference("the journal does not say its class")
            return resolve(path, kind=Agent, beside=self.beside)()
        except Exception as error:  # noqa: BLE001  # the user's code; the first agent is there still
            reason = redact(str(error)) or type(error).__name__
            log.warning("agent cannot be made again", agent=path or holder.name, reason=reason)
            return None


@dataclass(frozen=True, slots=True)
class Recalled:
    """A journal and the state that it leaves the call in."""

    journal: Journal
    state: CallState
    carried: Carried


@dataclass(frozen=True, slots=True)
class Start:
    """How a process begins its part of a call.

    ``history``: what was said before; ``continuation``: what it goes on with, ``None`` for a conversation that begins
    here. ``follows``: the name of the journal of the process before it. ``held``: seconds that earlier ones have held
    it. ``over``: why the conversation was over already.
    """

    agent: Agent
    continuation: Continuation | None = None
    history: tuple[ChatItem, ...] = ()
    attempt: int = 1
    follows: str = ""
    held: float = 0.0
    over: str = ""


def begin(agent: Agent, *, attempt: int = 1) -> Start:
    """A conversation begins, with what the agent brings along."""
    history = tuple(agent.known.items)
    return Start(agent, history=history, attempt=attempt)


def class_path(cls: type) -> str:
    """A class as ``resolve`` finds it again."""
    return f"{cls.__module__}:{cls.__qualname__}"


def recall(resume: Resume) -> Recalled | None:
    """Read the journal that was left, and fold it; ``None`` when there is none that can be used. Blocks."""
    if not resume.journal:
        log.warning("call begins afresh", reason="its process left no journal", died=resume.died)
        return None
    try:
        journal = read(Path(resume.journal))
        state = fold(journal, until=resume.at or None)
    except GreenroomError as error:
        log.warning("call begins afresh", reason=str(error), died=resume.died)
        return None
    if journal.ending is not None and journal.ending.how == "stopped":
        log.warning("journal ends before the call did", path=resume.journal, reason=journal.ending.why)
    return Recalled(journal, state, carried_over(journal, state))


def take_up(recalled: Recalled, resume: Resume, *, make: AgentMaker, line: str = "") -> Start:
    """Go on with the call. ``line``: ``recovery.line``.

    The agent is made here: raises what its class raises, where it is the first one.
    """
    state, carried = recalled.state, recalled.carried
    agent = make.again(state.agent)
    same = agent is not None
    agent = agent or make.first()
    coming = make.again(state.coming) if state.coming is not None else None
    if coming is not None and state.coming is not None:
        _restore(coming, state.coming)
    continuation = Continuation(
        resumed=_resumed(state, resume, line=line),
        history=carried.history,
        known=carried.known if same else None,
        instructions=state.agent.instructions if same else None,
        rest=_rest(state.speech),
        broken=state.speech is not None and not state.speech.complete and state.speech.source in ANSWERS,
        waiting=state.waiting,
        replies=state.replies,
        coming=coming,
        closing=state.closing,
    )
    journal = recalled.journal
    held = asyncio.get_running_loop().time() - journal.header.began
    return Start(agent, continuation, carried.history, resume.attempt, journal.path.name, held=held, over=state.closed)


def _resumed(state: CallState, resume: Resume, *, line: str) -> Resumed:
    now = asyncio.get_running_loop().time()
    cut = state.speech
    return Resumed(
        attempt=resume.attempt,
        reason=resume.died,
        away=max(now - (resume.at or state.last), 0.0),
        heard=cut.heard if cut is not None else "",
        remaining=cut.remaining if cut is not None else "",
        waiting=tuple(request.text for request in state.waiting),
        unanswered=state.unanswered,
        owed=state.owed,
        unknown=tuple(
            FunctionCall(f"{run.speech}.{run.call.call_id}", run.call.call_id, run.call.name, run.call.arguments)
            for run in state.unknown
        ),
        line=line,
    )


def _rest(cut: CutSpeech | None) -> SpeechRequested | None:
    if cut is None or not cut.remaining or not cut.complete or cut.source == "guard":
        return None
    free = cut.allow_interruptions
    return SpeechRequested(
        "", "say", place="next", allow_interruptions=free, stoppable=free, text=cut.remaining, in_history=cut.in_history
    )


def _restore(agent: Agent, holder: Holder) -> None:
    """One that has not entered yet: what it was given when it was made."""
    known = agent.known.items if holder.known is None else holder.known
    agent.known.restore(known, instructions=holder.instructions)
