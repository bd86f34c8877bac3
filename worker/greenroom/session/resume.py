"""What an agent knows of the call that it goes on with, after the process that held it has died."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from greenroom.dialog.events import SpeechRequested
from greenroom.dialog.history import ChatItem, FunctionCall

if TYPE_CHECKING:
    from greenroom.session.agent import Agent

__all__ = ["Continuation", "Resumed"]


@dataclass(frozen=True, slots=True)
class Resumed:
    """A call that was cut off, and goes on here: what ``Agent.on_resume`` is given.

    ``attempt``: which process of the call this is; 2 is the first that comes back. ``reason``: how the one before it
    died. ``away``: seconds since then. ``heard``, ``remaining``: words of what was being said, those that the user
    heard and those that they did not; the first are in the history. ``waiting``: texts that were to be said after it.
    ``unanswered``: what the user said last, turn by turn, and nobody has answered; it is not in the history yet.
    ``owed``: the user waits for an answer, to that or to what the history ends with. ``unknown``: calls of tools that
    had begun; nobody knows what became of them, and the history says so. ``line``: ``recovery.line`` of the settings.
    """

    attempt: int
    reason: str = ""
    away: float = 0.0
    heard: str = ""
    remaining: str = ""
    waiting: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    owed: bool = False
    unknown: tuple[FunctionCall, ...] = ()
    line: str = ""


@dataclass(frozen=True, slots=True)
class Continuation:
    """A conversation to go on with.

    ``history``: all of it; ``known``: what the agent knows, ``None``: all of it. ``instructions``: the agent's, where
    they had become others than its own. ``rest``: what was being said and has not been heard, ``None`` where nothing
    was, or nothing of it is known. ``broken``: an answer was heard whose words are not known to their end. ``waiting``,
    ``replies``: what was to be said next, and what the model was to say. ``coming``: who takes the conversation after
    that. ``closing``: why the conversation is over then; empty: it goes on. ``taken_up``: called once all that has been
    begun with.
    """

    resumed: Resumed
    history: tuple[ChatItem, ...] = ()
    known: tuple[ChatItem, ...] | None = None
    instructions: str | None = None
    rest: SpeechRequested | None = None
    broken: bool = False
    waiting: tuple[SpeechRequested, ...] = ()
    replies: tuple[SpeechRequested, ...] = ()
    coming: Agent | None = None
    closing: str = ""
    taken_up: Callable[[], None] = lambda: None
