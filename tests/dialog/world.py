"""A world around the dialog, with explicit times: feeds events, ticks at deadlines, keeps what was commanded."""

from __future__ import annotations

from greenroom.dialog.commands import Announce, Command, Commit, Play, RunHook, Stop
from greenroom.dialog.dialog import Dialog, DialogRules
from greenroom.dialog.events import (
    Event,
    Generated,
    HookFinished,
    Played,
    RequestedCall,
    SpeechRequested,
    Started,
    Tick,
    Transcribed,
    UserStarted,
    UserStopped,
)
from greenroom.dialog.notices import SpeechEnded

__all__ = ["World"]


class World:
    """``at`` moves the time on, ticking whenever the dialog wanted one before; commands gather in ``log``."""

    def __init__(self, rules: DialogRules | None = None, *, hooks: bool = True, resumed: bool = False) -> None:
        self.dialog = Dialog(rules or DialogRules())
        self.now = 0.0
        self.log: list[tuple[float, Command]] = []
        self._hooks = hooks
        self.feed(Started(resumed))

    def at(self, when: float) -> World:
        while (deadline := self.dialog.deadline()) is not None and deadline <= when:
            assert deadline >= self.now, "a deadline in the past"
            self.now = deadline
            self.feed(Tick())
            assert self.dialog.deadline() != deadline, "a tick that changes nothing"
        self.now = when
        return self

    def feed(self, *events: Event) -> list[Command]:
        commands: list[Command] = []
        for event in events:
            for command in self.dialog.handle(event, self.now):
                commands.append(command)
                self.log.append((self.now, command))
                if self._hooks and isinstance(command, RunHook):
                    commands += self.feed(HookFinished(command.turn, True, command.text))
        return commands

    def take(self) -> list[Command]:
        """What was commanded since the last take, without announcements."""
        commands: list[Command] = [command for _, command in self.log if not isinstance(command, Announce)]
        self.log.clear()
        return commands

    def announced(self, kind: type) -> list[object]:
        return [c.notice for _, c in self.log if isinstance(c, Announce) and isinstance(c.notice, kind)]

    def when(self, kind: type) -> list[float]:
        return [time for time, command in self.log if isinstance(command, kind)]

    # --- what happens in a call ---------------------------------------------------------------------------------

    def user_says(self, utterance: str, text: str, *, begin: float, end: float, words_after: float = 0.3) -> World:
        """Voice from ``begin`` to ``end``, noticed 60 and 250 ms later; its words come ``words_after`` the end."""
        self.at(begin + 0.06).feed(UserStarted(utterance, begin))
        self.at(end + 0.25).feed(UserStopped(utterance, end))
        self.at(end + max(words_after, 0.25)).feed(Transcribed(utterance, text))
        return self

    def say(self, speech: str, text: str = "hello", **options: object) -> list[Command]:
        request = SpeechRequested(speech, "say", text=text, **options)  # type: ignore[arg-type]
        return self.feed(request, Generated(speech, 1, "end", text))

    def made(self, speech: str, text: str, *, step: int = 1, calls: tuple[RequestedCall, ...] = ()) -> list[Command]:
        return self.feed(Generated(speech, step, "first"), Generated(speech, step, "end", text, calls))

    def starts(self, speech: str, *, step: int = 1) -> list[Command]:
        return self.feed(Played(speech, step, "started", self.now))

    def finishes(self, speech: str, text: str = "hello", *, step: int = 1) -> list[Command]:
        return self.feed(Played(speech, step, "finished", self.now, 1000, text))

    def stops(self, speech: str, text: str = "", *, step: int = 1) -> list[Command]:
        return self.feed(Played(speech, step, "stopped", self.now, 500, text))

    # --- what is looked for ----------------------------------------------------------------------------------------

    def plays(self) -> list[str]:
        return [command.speech for _, command in self.log if isinstance(command, Play)]

    def stopped(self) -> list[str]:
        return [command.speech for _, command in self.log if isinstance(command, Stop)]

    def ended(self) -> dict[str, str]:
        return {n.speech: str(n.reason) for n in self.announced(SpeechEnded) if isinstance(n, SpeechEnded)}

    def history(self) -> list[tuple[str, str]]:
        rows: list[tuple[str, str]] = []
        for _, command in self.log:
            if isinstance(command, Commit):
                item = command.item
                rows.append((getattr(item, "role", type(item).__name__), getattr(item, "text", "")))
        return rows
