"""Counts what conversations came across, and how much of the machine's tables that was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, get_args
from unittest.mock import patch

from greenroom.dialog import commands as do
from greenroom.dialog import events as ev
from greenroom.dialog import notices as news
from greenroom.dialog.deadair import GUARDING, DeadAirGuard
from greenroom.dialog.speech import MAKING, SOUNDING, Speech
from greenroom.dialog.turns import TAKING, TurnTaker

from .conversation import Conversation

__all__ = ["Tally"]

TABLES: dict[str, Mapping[Any, frozenset[Any]]] = {
    "taking": TAKING,
    "making": MAKING,
    "sounding": SOUNDING,
    "guarding": GUARDING,
}


@dataclass
class Tally:
    conversations: int = 0
    events: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    transitions: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        self.conversations += other.conversations
        self.events += other.events
        self.commands += other.commands
        self.notices += other.notices
        self.reasons += other.reasons
        self.transitions += other.transitions

    def count(self, talk: Conversation) -> None:
        self.conversations += 1
        self.events.update(type(event).__name__ for _, event in talk.events)
        for commands in talk.commands:
            for command in commands:
                self.commands[type(command).__name__] += 1
                if isinstance(command, do.Announce):
                    self.notices[type(command.notice).__name__] += 1
                    if isinstance(command.notice, news.SpeechEnded):
                        self.reasons[command.notice.reason] += 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count the transitions of all dialogs meanwhile, and let none go where its table does not."""
        with (
            patch.object(TurnTaker, "state", _State("taking", self), create=True),
            patch.object(DeadAirGuard, "state", _State("guarding", self), create=True),
            patch.object(Speech, "make", self._counted("making", Speech.make)),
            patch.object(Speech, "sound", self._counted("sounding", Speech.sound)),
        ):
            yield

    def _counted(self, table: str, change: Any) -> Any:
        def changed(speech: Speech, state: StrEnum) -> None:
            self.transitions[table, getattr(speech, table), state] += 1
            change(speech, state)

        return changed

    def report(self) -> list[str]:
        """Lines: what was met, and what never was."""
        events, commands = self.events.total(), self.commands.total()
        lines = [f"{self.conversations:,} conversations: {events:,} events, {commands:,} commands"]
        kinds = {
            "events": (self.events, [kind.__name__ for kind in get_args(ev.Event)]),
            "commands": (self.commands, [kind.__name__ for kind in get_args(do.Command)]),
            "notices": (self.notices, [kind.__name__ for kind in get_args(news.Notice)]),
            "reasons": (self.reasons, [str(reason) for reason in ev.EndReason]),
        }
        for what, (met, known) in kinds.items():
            lines.append(_line(what, [name for name in known if not met[name]], len(known)))
        for what, table in TABLES.items():
            edges = [(what, state, target) for state, targets in table.items() for target in targets]
            never = [f"{state} -> {target}" for _, state, target in edges if not self.transitions[what, state, target]]
            lines.append(_line(f"{what} transitions", never, len(edges)))
        lines.append("ends: " + ", ".join(f"{reason} {count:,}" for reason, count in self.reasons.most_common()))
        return lines


def _line(what: str, never: list[str], known: int) -> str:
    return f"{what}: {known - len(never)} of {known}" + (f"; never {', '.join(sorted(never))}" if never else "")


class _State:
    """Stands in for an attribute ``state``."""

    def __init__(self, table: str, tally: Tally) -> None:
        self._table = table
        self._tally = tally

    def __get__(self, part: Any, kind: type[Any]) -> Any:
        return part.__dict__["state"]

    def __set__(self, part: Any, state: Any) -> None:
        old = part.__dict__.get("state", state)
        part.__dict__["state"] = state
        if state is not old:
            assert state in TABLES[self._table][old], f"{self._table} cannot go from {old} to {state}"
            self._tally.transitions[self._table, old, state] += 1
