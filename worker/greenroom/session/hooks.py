"""Session events for the user's code: what they carry, and who is told.

Handlers are plain functions; one that raises is logged and stops nobody else. The names are LiveKit's.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import structlog

from greenroom.dialog.events import AgentState, DeadAirStep, SpeechSource, UserState
from greenroom.dialog.history import ChatItem, FunctionCall, FunctionCallOutput
from greenroom.providers.resilience.rules import Incident

if TYPE_CHECKING:
    from greenroom.session.agent import Agent
    from greenroom.session.handle import SpeechHandle
    from greenroom.session.metrics import Metrics

__all__ = [
    "AgentFalseInterruptionEvent",
    "AgentHandedOffEvent",
    "AgentStateChangedEvent",
    "AgentTextEvent",
    "CloseEvent",
    "ConversationItemAddedEvent",
    "DeadAirEvent",
    "ErrorEvent",
    "EventName",
    "FunctionToolsExecutedEvent",
    "Hooks",
    "MetricsCollectedEvent",
    "SpeechCreatedEvent",
    "UserInputTranscribedEvent",
    "UserStateChangedEvent",
    "UserTurnExceededEvent",
]

log = structlog.get_logger(__name__)

EventName: TypeAlias = Literal[
    "agent_state_changed",
    "user_state_changed",
    "user_input_transcribed",
    "user_turn_exceeded",
    "agent_text",
    "agent_false_interruption",
    "agent_handed_off",
    "conversation_item_added",
    "dead_air",
    "speech_created",
    "function_tools_executed",
    "metrics_collected",
    "error",
    "close",
]


@dataclass(frozen=True, slots=True)
class AgentStateChangedEvent:
    old_state: AgentState
    new_state: AgentState


@dataclass(frozen=True, slots=True)
class UserStateChangedEvent:
    old_state: UserState
    new_state: UserState


@dataclass(frozen=True, slots=True)
class UserInputTranscribedEvent:
    """The words of a turn so far. ``item_id`` stays the same while the turn grows; empty for one that was typed."""

    transcript: str
    is_final: bool
    item_id: str


@dataclass(frozen=True, slots=True)
class AgentTextEvent:
    """Words of a speech, as their audio is handed to the track.

    ``final``: the segment is over, and ``text`` is all of it that was heard.
    """

    item_id: str
    delta: str
    final: bool
    interrupted: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class AgentFalseInterruptionEvent:
    """A speech that fell silent because the user seemed to speak. ``resumed``: it goes on, no sample lost."""

    speech_handle: SpeechHandle
    resumed: bool


@dataclass(frozen=True, slots=True)
class AgentHandedOffEvent:
    old_agent: Agent
    new_agent: Agent


@dataclass(frozen=True, slots=True)
class UserTurnExceededEvent:
    """The user's turn was longer than it may be, and is answered now. ``lasted``: seconds."""

    item_id: str
    lasted: float


@dataclass(frozen=True, slots=True)
class DeadAirEvent:
    """The user waits, and nothing was audible for ``silent`` seconds; what is done about it."""

    step: DeadAirStep
    silent: float


@dataclass(frozen=True, slots=True)
class ConversationItemAddedEvent:
    item: ChatItem


@dataclass(frozen=True, slots=True)
class SpeechCreatedEvent:
    """``user_initiated``: by ``say`` or ``generate_reply``, not as the answer to a turn."""

    speech_handle: SpeechHandle
    source: SpeechSource
    user_initiated: bool


@dataclass(frozen=True, slots=True)
class FunctionToolsExecutedEvent:
    function_call: FunctionCall
    function_call_output: FunctionCallOutput


@dataclass(frozen=True, slots=True)
class MetricsCollectedEvent:
    """What something took: see ``session.metrics``."""

    metrics: Metrics


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """A provider or a hook failed; the session goes on. ``source``: vad, stt, llm, tts, tool or hook.

    ``incident``: of a provider that another one stands behind, or that is asked again: which one failed, with what, and
    what was done. Its ``action`` is ``gave_up`` where what the provider was asked for has failed.
    """

    error: BaseException
    source: str
    incident: Incident | None = None


@dataclass(frozen=True, slots=True)
class CloseEvent:
    reason: str


class Hooks:
    """Who listens to what."""

    def __init__(self) -> None:
        self._handlers: defaultdict[str, list[Callable[[Any], object]]] = defaultdict(list)

    def on(self, name: EventName, handler: Callable[[Any], object] | None = None) -> Callable[..., Any]:
        """Call ``handler`` at each event of this name; without one, a decorator."""

        def register(function: Callable[[Any], object]) -> Callable[[Any], object]:
            if inspect.iscoroutinefunction(function):
                raise TypeError(f"the handler of {name!r} is a coroutine function; expected a plain function")
            self._handlers[name].append(function)
            return function

        return register(handler) if handler is not None else register

    def off(self, name: EventName, handler: Callable[[Any], object]) -> None:
        """Stop calling ``handler``; nothing happens if it was not registered."""
        if handler in self._handlers[name]:
            self._handlers[name].remove(handler)

    def emit(self, name: EventName, event: object) -> None:
        for handler in tuple(self._handlers[name]):
            try:
                handler(event)
            except Exception:
                log.exception("event handler failed", session_event=name)
