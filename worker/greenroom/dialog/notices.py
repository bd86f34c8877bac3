"""What the dialog announces: news for whoever wants to know. Nothing has to be done about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from greenroom.dialog.events import AgentState, DeadAirStep, EndReason, SpeechSource, UserState

__all__ = [
    "AgentStateChanged",
    "Backchannel",
    "DeadAir",
    "EarlyReplyDiscarded",
    "FalseInterruption",
    "Notice",
    "SpeechCreated",
    "SpeechEnded",
    "SpeechStarted",
    "TurnCommitted",
    "TurnEmpty",
    "TurnExceeded",
    "TurnTimedOut",
    "UserMuted",
    "UserStateChanged",
    "UserTranscribed",
]


@dataclass(frozen=True, slots=True)
class AgentStateChanged:
    old: AgentState
    new: AgentState


@dataclass(frozen=True, slots=True)
class UserStateChanged:
    old: UserState
    new: UserState


@dataclass(frozen=True, slots=True)
class UserTranscribed:
    """Words of a turn that is being spoken: all of the turn so far."""

    turn: str
    text: str
    final: bool


@dataclass(frozen=True, slots=True)
class TurnCommitted:
    """The user's turn is over. ``at``: its last voiced sample; ``text``: all its words; ``typed``: it was no voice.

    ``asked``: the program ended it.
    """

    turn: str
    text: str
    at: float
    typed: bool = False
    asked: bool = False


@dataclass(frozen=True, slots=True)
class TurnEmpty:
    """The program ended the turn, and there were no words in it."""


@dataclass(frozen=True, slots=True)
class TurnExceeded:
    """The user's turn became longer than it may: the agent cuts in. ``lasted``: seconds."""

    turn: str
    lasted: float


@dataclass(frozen=True, slots=True)
class UserMuted:
    """What the user says now is not listened to, or is again."""

    on: bool


@dataclass(frozen=True, slots=True)
class DeadAir:
    """The agent owes the user something to hear, and nothing was audible for ``silent`` seconds."""

    step: DeadAirStep
    silent: float


@dataclass(frozen=True, slots=True)
class Backchannel:
    """Words that the user put in while the agent spoke, and that ask for nothing: no turn, no answer."""

    turn: str
    text: str


@dataclass(frozen=True, slots=True)
class EarlyReplyDiscarded:
    """An answer that was begun before its turn was committed, and that came to nothing."""

    speech: str


@dataclass(frozen=True, slots=True)
class FalseInterruption:
    """A speech that was paused because the user seemed to speak goes on where it stopped."""

    speech: str


@dataclass(frozen=True, slots=True)
class TurnTimedOut:
    """The transcriber owed words for these utterances and did not deliver in time."""

    turn: str
    utterances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpeechCreated:
    """``text``: the words, of a speech that the dialog itself has begun."""

    speech: str
    source: SpeechSource
    text: str = ""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Its first sample left. ``at``: when."""

    speech: str
    at: float


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    speech: str
    reason: EndReason
    error: str = ""


Notice: TypeAlias = (
    AgentStateChanged
    | UserStateChanged
    | UserTranscribed
    | TurnCommitted
    | TurnEmpty
    | TurnExceeded
    | UserMuted
    | DeadAir
    | Backchannel
    | EarlyReplyDiscarded
    | FalseInterruption
    | TurnTimedOut
    | SpeechCreated
    | SpeechStarted
    | SpeechEnded
)
