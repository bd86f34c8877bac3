"""When the user is not listened to.

========== ===========================================================================
rule       muted while
========== ===========================================================================
greeting   the first speech of the conversation waits or is heard
tools      a tool runs
speaking   the agent is audible
always     always: an agent for text
========== ===========================================================================

Besides them the program may mute. What was typed is read all the same.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from greenroom.dialog.events import Transcribed, UserStarted, UserStopped

__all__ = ["Mute", "MuteRule"]

MuteRule: TypeAlias = Literal["greeting", "tools", "speaking", "always"]


class Mute:
    """A part of ``Dialog``: keeps aside what is said meanwhile."""

    def __init__(self, rules: tuple[MuteRule, ...]) -> None:
        self._rules = frozenset(rules)
        self._asked = False
        self.on = False
        self._open: UserStarted | None = None
        self._ignored: set[str] = set()

    @property
    def may_change(self) -> bool:
        """There is a reason to judge at all."""
        return bool(self._rules) or self._asked is not self.on

    def ask(self, on: bool) -> None:
        self._asked = on

    def judge(self, *, greeting: bool, tools: bool, speaking: bool) -> bool:
        """Whether it has changed."""
        rules = self._rules
        on = (
            self._asked
            or "always" in rules
            or ("greeting" in rules and greeting)
            or ("tools" in rules and tools)
            or ("speaking" in rules and speaking)
        )
        changed, self.on = on is not self.on, on
        return changed

    def take_open(self) -> UserStarted | None:
        """The utterance that is still being spoken though the mute is over."""
        voice, self._open = self._open, None
        if voice is not None:
            self._ignored.discard(voice.utterance)
        return voice

    def swallows(self, event: UserStarted | UserStopped | Transcribed) -> bool:
        """Whether nothing is to be made of this."""
        if isinstance(event, UserStarted):
            if self.on:
                self._open = event
                self._ignored.add(event.utterance)
            return self.on
        if isinstance(event, Transcribed):
            return event.utterance in self._ignored if event.utterance else self.on
        if self._open is not None and event.utterance == self._open.utterance:
            self._open = None
        return event.utterance in self._ignored
