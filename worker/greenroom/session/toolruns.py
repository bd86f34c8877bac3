"""Runs the tools that the dialog commands, each in a task of its own, and cancels those that it gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from greenroom.dialog.commands import CancelTool, RunTool
from greenroom.dialog.events import ToolFinished
from greenroom.dialog.history import FunctionCall, FunctionCallOutput
from greenroom.session.handle import RUNNING_TOOL, SpeechHandle
from greenroom.session.hooks import FunctionToolsExecutedEvent
from greenroom.session.tools import FunctionTool, RunContext, ToolResult

if TYPE_CHECKING:
    from greenroom.session.conversation import Conversation

__all__ = ["ToolRuns"]

log = structlog.get_logger(__name__)


class ToolRuns:
    """``returned`` is told of each call and its output, before the dialog is."""

    def __init__(self, talk: Conversation, returned: Callable[[str, FunctionCall, FunctionCallOutput], None]) -> None:
        self._talk = talk
        self._returned = returned
        self._runs: dict[str, tuple[str, asyncio.Task[None]]] = {}
        """By call: the speech that asked for it, and its task."""

    def running(self, speech: str) -> bool:
        """Whether one that this speech asked for is under way."""
        return any(asking == speech for asking, _ in self._runs.values())

    def run(self, command: RunTool, handle: SpeechHandle) -> None:
        call = command.call
        tool = self._talk.find_tool(call.name)
        requested = FunctionCall(f"{command.speech}.{call.call_id}", call.call_id, call.name, call.arguments)
        task = self._talk.spawn(self._call(command, tool, requested, handle), name=f"tool {call.name}")
        self._runs[call.call_id] = (command.speech, task)

    def cancel(self, command: CancelTool) -> None:
        _, task = self._runs.pop(command.call_id, ("", None))
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def _call(
        self, command: RunTool, tool: FunctionTool | None, requested: FunctionCall, handle: SpeechHandle
    ) -> None:
        call = command.call
        if tool is None:
            result = ToolResult(f"There is no tool named {call.name}.", is_error=True)
        else:
            RUNNING_TOOL.set((handle, command.step))  # this task runs nothing else
            result = await tool.run(call.arguments, RunContext(self._talk.session, handle, requested, command.step))
            if result.error is not None:
                log.warning("tool failed", tool=call.name, call_id=call.call_id, exc_info=result.error)
                self._talk.report(result.error, "tool")
        if self._runs.pop(call.call_id, None) is None:
            return  # given up meanwhile, by the tool itself
        output = FunctionCallOutput(f"{requested.id}.output", call.call_id, call.name, result.output, result.is_error)
        self._returned(command.speech, requested, output)
        self._talk.emit("function_tools_executed", FunctionToolsExecutedEvent(requested, output))
        agent = self._talk.expect_agent(result.agent) if result.agent is not None else ""
        self._talk.feed(ToolFinished(command.speech, call.call_id, result.output, result.is_error, result.reply, agent))
