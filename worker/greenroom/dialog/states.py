"""The states of agent and user, as everybody sees them: they follow from what is played and heard.

``AWAY``: neither has said anything for ``away_after`` seconds; the next word, spoken or typed, brings the user back.
"""

from __future__ import annotations

from greenroom.dialog.commands import Announce, Command
from greenroom.dialog.events import AgentState, UserState
from greenroom.dialog.notices import AgentStateChanged, UserStateChanged

__all__ = ["States"]


class States:
    """A part of ``Dialog``: told what goes on, it announces what has changed. ``away_after``: 0 for never."""

    def __init__(self, away_after: float) -> None:
        self._away_after = away_after
        self._idle_since: float | None = None
        self.agent = AgentState.INITIALIZING
        self.user = UserState.LISTENING

    def deadline(self) -> float | None:
        """When the user will count as away."""
        return self._idle_since + self._away_after if self._idle_since is not None else None

    def follow(self, now: float, *, agent: AgentState, speaking: bool, taking: bool) -> list[Command]:
        """``speaking``: the user is; ``taking``: a turn is being taken, or waits for its hook."""
        user = self._user_state(now, agent, speaking=speaking, taking=taking)
        commands: list[Command] = []
        if user is not self.user:
            commands.append(Announce(UserStateChanged(self.user, user)))
            self.user = user
        if agent is not self.agent:
            commands.append(Announce(AgentStateChanged(self.agent, agent)))
            self.agent = agent
        return commands

    def _user_state(self, now: float, agent: AgentState, *, speaking: bool, taking: bool) -> UserState:
        quiet = not speaking and not taking and agent is AgentState.LISTENING
        if speaking:
            self._idle_since = None
            return UserState.SPEAKING
        if self.user is UserState.AWAY:
            return UserState.LISTENING if taking else UserState.AWAY
        if not quiet or not self._away_after:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now >= self._idle_since + self._away_after:
            self._idle_since = None
            return UserState.AWAY
        return UserState.LISTENING
