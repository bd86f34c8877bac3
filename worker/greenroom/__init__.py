"""greenroom: a worker daemon for voice agents on a LiveKit server.

What an agent's author needs is here. Names are resolved when they are first used, so that the daemon, which needs none
of them, does not load what only a job needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from greenroom.version import __version__

if TYPE_CHECKING:
    from greenroom.background.clips import BuiltinAudioClip
    from greenroom.background.config import AudioConfig
    from greenroom.background.player import BackgroundAudioPlayer, PlayHandle
    from greenroom.dialog.history import ChatContext, FunctionCall, FunctionCallOutput, Message
    from greenroom.errors import GreenroomError, ProviderError, SettingsError
    from greenroom.job.context import JobContext, get_job_context
    from greenroom.session.agent import Agent
    from greenroom.session.conversation import SessionOptions
    from greenroom.session.handle import SpeechHandle, UtteranceHandle
    from greenroom.session.mcp import MCPServerHTTP, MCPServerStdio
    from greenroom.session.nodes import ModelSettings
    from greenroom.session.requests import Accept, JobRequest, Refuse
    from greenroom.session.resume import Resumed
    from greenroom.session.session import AgentSession
    from greenroom.session.tools import FunctionTool, RunContext, StopResponse, ToolError, function_tool

__all__ = [
    "Accept",
    "Agent",
    "AgentSession",
    "AudioConfig",
    "BackgroundAudioPlayer",
    "BuiltinAudioClip",
    "ChatContext",
    "FunctionCall",
    "FunctionCallOutput",
    "FunctionTool",
    "GreenroomError",
    "JobContext",
    "JobRequest",
    "MCPServerHTTP",
    "MCPServerStdio",
    "Message",
    "ModelSettings",
    "PlayHandle",
    "ProviderError",
    "Refuse",
    "Resumed",
    "RunContext",
    "SessionOptions",
    "SettingsError",
    "SpeechHandle",
    "StopResponse",
    "ToolError",
    "UtteranceHandle",
    "__version__",
    "function_tool",
    "get_job_context",
]

_PLACES = {
    "Accept": "greenroom.session.requests",
    "Agent": "greenroom.session.agent",
    "AgentSession": "greenroom.session.session",
    "AudioConfig": "greenroom.background.config",
    "BackgroundAudioPlayer": "greenroom.background.player",
    "BuiltinAudioClip": "greenroom.background.clips",
    "ChatContext": "greenroom.dialog.history",
    "FunctionCall": "greenroom.dialog.history",
    "FunctionCallOutput": "greenroom.dialog.history",
    "FunctionTool": "greenroom.session.tools",
    "GreenroomError": "greenroom.errors",
    "JobContext": "greenroom.job.context",
    "JobRequest": "greenroom.session.requests",
    "MCPServerHTTP": "greenroom.session.mcp",
    "MCPServerStdio": "greenroom.session.mcp",
    "Message": "greenroom.dialog.history",
    "ModelSettings": "greenroom.session.nodes",
    "PlayHandle": "greenroom.background.player",
    "ProviderError": "greenroom.errors",
    "Refuse": "greenroom.session.requests",
    "Resumed": "greenroom.session.resume",
    "RunContext": "greenroom.session.tools",
    "SessionOptions": "greenroom.session.conversation",
    "SettingsError": "greenroom.errors",
    "SpeechHandle": "greenroom.session.handle",
    "StopResponse": "greenroom.session.tools",
    "ToolError": "greenroom.session.tools",
    "UtteranceHandle": "greenroom.session.handle",
    "function_tool": "greenroom.session.tools",
    "get_job_context": "greenroom.job.context",
}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'greenroom' has no attribute {name!r}")
    return getattr(import_module(place), name)


def __dir__() -> list[str]:
    return __all__
