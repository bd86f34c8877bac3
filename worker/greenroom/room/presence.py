"""How the agent shows its state to LiveKit's clients: the participant attribute ``lk.agent.state``."""

from __future__ import annotations

import asyncio
from typing import Literal, TypeAlias

import structlog
from livekit import rtc

__all__ = ["AGENT_STATE", "AgentState", "Presence"]

AGENT_STATE = "lk.agent.state"
SEND_TIMEOUT = 5.0
"""Seconds for one update; a connection that is being rebuilt answers none."""

AgentState: TypeAlias = Literal["initializing", "idle", "listening", "thinking", "speaking"]

log = structlog.get_logger(__name__)


class Presence:
    """Sends the latest state, one update at a time; states that were overtaken meanwhile are never sent."""

    def __init__(self, participant: rtc.LocalParticipant) -> None:
        self._participant = participant
        self._wanted: AgentState | None = None
        self._shown: AgentState | None = None
        self._task: asyncio.Task[None] | None = None
        self._away = False
        self._closed = False

    def set(self, state: AgentState) -> None:
        """Show this state soon; returns at once."""
        self._wanted = state
        if self._task is None and not (self._closed or self._away) and self._wanted != self._shown:
            self._task = asyncio.get_running_loop().create_task(self._send(), name="show agent state")

    def away(self) -> None:
        """The connection is broken: keep what there is to show."""
        self._away = True
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def back(self, participant: rtc.LocalParticipant) -> None:
        """It is whole again, as ``participant``. The state is sent again: what was on its way may be lost."""
        self.away()
        self._participant, self._shown, self._away = participant, None, False
        if self._wanted is not None:
            self.set(self._wanted)

    async def aclose(self) -> None:
        """Send nothing more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _send(self) -> None:
        try:
            while self._wanted is not None and self._wanted != self._shown:
                state = self._wanted
                try:
                    async with asyncio.timeout(SEND_TIMEOUT):
                        await self._participant.set_attributes({AGENT_STATE: state})
                except TimeoutError:
                    log.warning("agent state was not taken", state=state, timeout=SEND_TIMEOUT)
                self._shown = state
        finally:
            if self._task is asyncio.current_task():
                self._task = None
