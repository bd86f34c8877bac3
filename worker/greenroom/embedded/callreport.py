"""What a simulated call came to: the lines printed while it goes on, and the JSON document at its end."""

from __future__ import annotations

import time
from enum import IntEnum

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.text import Text

__all__ = ["CallExit", "CallReport", "Narrator", "Turn"]


class CallExit(IntEnum):
    """Exit codes of ``greenroom call``."""

    OK = 0
    """Every turn was answered."""
    UNANSWERED = 1
    """An agent came, but a turn had no audible answer in time."""
    SETTINGS = 2
    """A file or an option is wrong."""
    UNREACHABLE = 3
    """The media server does not answer, refused the caller, or ended the call."""
    NO_AGENT = 4
    """No agent came to the room."""
    NOT_STARTED = 5
    """The embedded media server or worker did not start."""
    INTERRUPTED = 130
    """Ctrl-C."""


class Turn(Struct, kw_only=True):
    """One exchange. Times are seconds.

    ``user``: what was said. ``transcript``: what the agent understood. ``answer``: what it answered.
    ``response_seconds``: from the last audible sample of the user that left to the first audible sample of the agent
    that was heard after it; ``None`` when none was. ``answer_seconds``: how long the answer sounded.
    """

    user: str
    transcript: str = ""
    answer: str = ""
    response_seconds: float | None = None
    answer_seconds: float | None = None


class CallReport(Struct, kw_only=True):
    """The JSON document. ``joined_seconds``: from the start of the call to the agent being active in the room."""

    joined_seconds: float | None = None
    turns: list[Turn] = []
    recording: str = ""
    room: str = ""
    agent: str = ""
    greeting: str = ""
    greeting_seconds: float | None = None
    """From the agent being active to the first audible sample of its greeting."""
    error: str | None = None

    def encode(self) -> str:
        """JSON for people and programs alike."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()


class Narrator:
    """Prints a line for each thing that happens, with the seconds since the call began.

    What is told before ``begin`` has no time. With ``diagnostics`` everything goes to standard error, so that
    standard output holds the JSON alone.
    """

    def __init__(self, *, diagnostics: bool) -> None:
        self._console = Console(stderr=diagnostics, highlight=False)
        self._errors = Console(stderr=True, highlight=False)
        self._began: float | None = None

    def begin(self) -> None:
        """The call begins now."""
        self._began = time.monotonic()

    def tell(self, who: str, what: str, *, style: str = "") -> None:
        """One line: the time, who it is about, and what."""
        since = "" if self._began is None else f"{time.monotonic() - self._began:.2f}"
        line = Text.assemble((f"{since:>7}  ", "dim"), (f"{who:<9}", style or "bold"), what)
        self._console.print(line, soft_wrap=True)

    def progress(self, what: str) -> None:
        """Something that takes time."""
        self.tell("", what, style="dim")

    def fail(self, message: str) -> None:
        """Why it ended badly."""
        self._errors.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
