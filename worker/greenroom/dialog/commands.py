"""What the dialog asks for, imperative: each starts work, and what becomes of it comes back as an event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from greenroom.dialog.events import (
    RequestedCall,
)
from greenroom.dialog.history import ChatItem
from greenroom.dialog.notices import Notice

__all__ = [
    "Announce",
    "CancelGeneration",
    "CancelTool",
    "Close",
    "Command",
    "Commit",
    "CutUtterance",
    "Drop",
    "Generate",
    "Hold",
    "Judge",
    "Pause",
    "Play",
    "Resume",
    "RunHook",
    "RunTool",
    "Stop",
    "SwitchAgent",
    "Synthesise",
]


@dataclass(frozen=True, slots=True)
class Judge:
    """Ask the turn detector about these words; answer with ``TurnJudged``."""

    turn: str
    serial: int
    text: str


@dataclass(frozen=True, slots=True)
class CutUtterance:
    """End an utterance that is being spoken, now: what goes on is the next one. Answer with ``UserStopped``."""

    utterance: str


@dataclass(frozen=True, slots=True)
class RunHook:
    """Call ``on_user_turn_completed``; answer with ``HookFinished``."""

    turn: str
    text: str


@dataclass(frozen=True, slots=True)
class Generate:
    """Begin to make the text of a speech's step: from the model, or from what ``say`` was given.

    ``user_text``: words of a turn that is not committed yet; the answer to them may be discarded unheard.
    """

    speech: str
    step: int
    user_text: str = ""


@dataclass(frozen=True, slots=True)
class CancelGeneration:
    """Stop making text and audio for a speech, all steps; nothing more is wanted of it."""

    speech: str


@dataclass(frozen=True, slots=True)
class Synthesise:
    """Begin to make the audio of a speech's step, up to a bounded lead."""

    speech: str
    step: int


@dataclass(frozen=True, slots=True)
class Play:
    """Let a speech's step be heard as soon as there is audio. Ends with ``Played(finished)``, also when it is empty."""

    speech: str
    step: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Take ``Play`` back: nothing of the step has sounded yet, and for now nothing may."""

    speech: str
    step: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence a step, and keep the place. Reported by ``Played(paused)``."""

    speech: str
    step: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on from the sample at which it was paused."""

    speech: str
    step: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Silence a step that was told to play. Ends with ``Played(stopped)`` (or ``finished``, when that came first)."""

    speech: str
    step: int


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a tool once; answer with ``ToolFinished``."""

    speech: str
    step: int
    call: RequestedCall


@dataclass(frozen=True, slots=True)
class CancelTool:
    """Stop a tool; the dialog has noted what is told of it."""

    call_id: str


@dataclass(frozen=True, slots=True)
class SwitchAgent:
    """Let this agent take the conversation; answer with ``AgentChanged``."""

    agent: str


@dataclass(frozen=True, slots=True)
class Commit:
    """This item is now part of the history. ``speech`` is the one it belongs to, if any.

    An item whose id the history holds already takes that one's place: words that came late.
    """

    item: ChatItem
    speech: str = ""


@dataclass(frozen=True, slots=True)
class Announce:
    notice: Notice


@dataclass(frozen=True, slots=True)
class Close:
    """The conversation is over; nothing is commanded after this."""

    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """An event that came too late or twice, and why it changed nothing."""

    event: str
    reason: str


Command: TypeAlias = (
    Judge
    | CutUtterance
    | RunHook
    | Generate
    | CancelGeneration
    | Synthesise
    | Play
    | Hold
    | Pause
    | Resume
    | Stop
    | RunTool
    | CancelTool
    | SwitchAgent
    | Commit
    | Announce
    | Close
    | Drop
)
