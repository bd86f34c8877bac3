"""Feeds a journal to today's dialog, and finds where it decides otherwise than was decided in the call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from greenroom.dialog.commands import Command
from greenroom.dialog.dialog import Dialog, DialogRules
from greenroom.dialog.events import Event
from greenroom.journal.format import summary
from greenroom.journal.reader import Journal

__all__ = ["Difference", "Step", "compare", "replay"]


@dataclass(frozen=True, slots=True)
class Step:
    """One event and what is commanded for it today.

    ``line``: of the file. ``decided``: what was commanded in the call, in short; ``None``: not known. ``error``: how
    today's code failed on it; for the events after it nothing is decided.
    """

    line: int
    now: float
    event: Event
    decided: str | None
    commands: tuple[Command, ...] = ()
    error: str = ""

    @property
    def differs(self) -> bool:
        return bool(self.error) or (self.decided is not None and self.decided != summary(self.commands))


@dataclass(frozen=True, slots=True)
class Difference:
    """The first event for which something else is decided. ``at``: seconds since the beginning of the call."""

    journal: Journal
    step: Step

    @property
    def at(self) -> float:
        return self.step.now - self.journal.header.began

    def __str__(self) -> str:
        """Lines for people: the event, the names of what was commanded then, and all that is today."""
        step = self.step
        then = "not known" if step.decided is None else _names(step.decided) or "nothing"
        today = step.error or _names(summary(step.commands)) or "nothing"
        if not step.error and then == today:
            today = "the same commands, with something else in them"
        lines = [
            f"{self.journal.path}:{step.line}: at {self.at:.3f} s: {step.event}",
            f"  then:  {then}",
            f"  today: {today}",
            *(f"    {command}" for command in step.commands),
        ]
        return "\n".join(lines)


def replay(journal: Journal, rules: DialogRules | None = None) -> Iterator[Step]:
    """Every event with what is commanded for it today, under the call's rules or under others."""
    dialog: Dialog | None = Dialog(rules or journal.header.rules)
    for line, record in enumerate(journal.records, start=2):
        event = record.event
        if event is None:
            continue
        commands: tuple[Command, ...] = ()
        error = ""
        if dialog is not None:
            try:
                commands = tuple(dialog.handle(event, record.now))
            except Exception as failure:  # noqa: BLE001  # whatever is wrong with today's code, that is the finding
                error = f"{type(failure).__name__}: {failure}"
                dialog = None
        yield Step(line, record.now, event, record.decided, commands, error)


def compare(journal: Journal, rules: DialogRules | None = None) -> Difference | None:
    """The first decision that differs from the one in the call; ``None`` when none does."""
    for step in replay(journal, rules):
        if step.differs:
            return Difference(journal, step)
    return None


def _names(decided: str) -> str:
    """A summary without its digest."""
    return decided.rpartition(" ")[0]
