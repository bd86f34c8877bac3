"""greenroom: a worker daemon for voice agents on a LiveKit server.

What an agent's author needs is here. Names are resolved when they are first used, so that the daemon, which needs none
of them, does not load what only a job needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from greenroom.version import __version__

if TYPE_CHECKING:
    from greenroom.dialog.history import ChatContext, FunctionCall, FunctionCallOutput, Message
    from greenroom.errors import GreenroomError, ProviderError, SettingsError
    from greenroom.session.agent import Agent
    from greenroom.session.handle import SpeechHandle, UtteranceHandle
    from greenroom.session.session import AgentSession
    from greenroom.session.tools import RunContext, StopResponse, ToolError, function_tool

__all__ = [
    "Agent",
    "AgentSession",
    "ChatContext",
    "FunctionCall",
    "FunctionCallOutput",
    "GreenroomError",
    "Message",
    "ProviderError",
    "RunContext",
    "SettingsError",
    "SpeechHandle",
    "StopResponse",
    "ToolError",
    "UtteranceHandle",
    "__version__",
    "function_tool",
]

_PLACES = {
    "Agent": "greenroom.session.agent",
    "AgentSession": "greenroom.session.session",
    "ChatContext": "greenroom.dialog.history",
    "FunctionCall": "greenroom.dialog.history",
    "FunctionCallOutput": "greenroom.dialog.history",
    "GreenroomError": "greenroom.errors",
    "Message": "greenroom.dialog.history",
    "ProviderError": "greenroom.errors",
    "RunContext": "greenroom.session.tools",
    "SettingsError": "greenroom.errors",
    "SpeechHandle": "greenroom.session.handle",
    "StopResponse": "greenroom.session.tools",
    "ToolError": "greenroom.session.tools",
    "UtteranceHandle": "greenroom.session.handle",
    "function_tool": "greenroom.session.tools",
}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'greenroom' has no attribute {name!r}")
    return getattr(import_module(place), name)


def __dir__() -> list[str]:
    return __all__
