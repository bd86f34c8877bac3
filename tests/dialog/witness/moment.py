"""What every part of the witness knows of the moment: the event, the commands it led to, and where the talk stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from greenroom.dialog import commands as do
from greenroom.dialog import events as ev
from greenroom.dialog.dialog import DialogRules

__all__ = ["Handlers", "Moment"]

Handlers: TypeAlias = Mapping[type[Any], Callable[[Any], None]]
"""By the type of an event, a command or a notice: what to check."""


@dataclass(slots=True)
class Moment:
    """``version``: of all that the model is told. ``guard``: the step that the dead-air guard takes just now."""

    rules: DialogRules
    event: ev.Event = field(default_factory=ev.Tick)
    commands: list[do.Command] = field(default_factory=list)
    now: float = 0.0
    started: bool = False
    closing: bool = False
    closed: bool = False
    guard: str = ""
    version: int = 0

    def announced(self, kind: type[Any]) -> list[Any]:
        """The notices of this kind that the event led to."""
        return [c.notice for c in self.commands if type(c) is do.Announce and type(c.notice) is kind]
