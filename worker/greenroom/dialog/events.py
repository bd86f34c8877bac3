"""What the dialog is told (events, past tense) and what it asks for (commands, imperative).

Every event carries the id of what it speaks of, so that a late one finds its owner gone and becomes ``Drop``. The
events of one conversation, with their times, are its journal; replayed, they give the same commands.
Times inside events (``at``) are capture or playout times on the loop's clock, seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from greenroom.dialog.history import ChatItem

__all__ = [
    "AgentState",
    "AgentStateChanged",
    "Announce",
    "Backchannel",
    "CancelGeneration",
    "Close",
    "CloseAsked",
    "Command",
    "Commit",
    "Drop",
    "EarlyReplyDiscarded",
    "EndReason",
    "Event",
    "FalseInterruption",
    "Generate",
    "Generated",
    "Hold",
    "HookFinished",
    "InterruptAsked",
    "Notice",
    "Pause",
    "Place",
    "Play",
    "Played",
    "ProtectionChanged",
    "RequestedCall",
    "Resume",
    "RunHook",
    "RunTool",
    "SpeechCreated",
    "SpeechEnded",
    "SpeechRequested",
    "SpeechSource",
    "SpeechStarted",
    "Started",
    "Stop",
    "Synthesise",
    "Synthesised",
    "Tick",
    "ToolFinished",
    "Transcribed",
    "TurnCommitted",
    "TurnTimedOut",
    "UserStarted",
    "UserState",
    "UserStateChanged",
    "UserStopped",
    "UserTranscribed",
    "UserTyped",
]

SpeechSource: TypeAlias = Literal["say", "generate_reply", "turn"]
"""Who asked for a speech: ``say``, ``generate_reply``, or the dialog itself to answer a user's turn."""

Place: TypeAlias = Literal["queue", "next", "replace"]
"""Behind its equals in priority, ahead of them, or instead of everything that may be interrupted."""


class AgentState(StrEnum):
    """LiveKit's words, as the attribute ``lk.agent.state`` carries them."""

    INITIALIZING = "initializing"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


class UserState(StrEnum):
    LISTENING = "listening"
    SPEAKING = "speaking"


class EndReason(StrEnum):
    """Why a speech ended; each ends exactly once."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    SUPERSEDED = "superseded"  # the user said more before it was heard; a newer reply answers both
    EXPIRED = "expired"  # its time to live passed in the queue
    REPLACED = "replaced"
    DUPLICATE = "duplicate"  # a speech with the same key was already waiting or playing
    FAILED = "failed"
    CLOSED = "closed"  # the session ended first


# --- events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline that the machine asked for has come."""


@dataclass(frozen=True, slots=True)
class Started:
    """The session can hear and speak."""


@dataclass(frozen=True, slots=True)
class UserStarted:
    """Voice activity began; ``at``: its first voiced sample."""

    utterance: str
    at: float


@dataclass(frozen=True, slots=True)
class UserStopped:
    """Voice activity ended; ``at``: its last voiced sample."""

    utterance: str
    at: float


@dataclass(frozen=True, slots=True)
class Transcribed:
    """Words from the transcriber. ``utterance`` is empty when it cannot say which one they belong to.

    ``text`` of an interim result is the utterance so far; of a final one, words that will not change.
    """

    utterance: str
    text: str
    final: bool = True
    language: str = ""
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class UserTyped:
    """A whole turn as text."""

    text: str


@dataclass(frozen=True, slots=True)
class HookFinished:
    """``on_user_turn_completed`` returned. ``go_on``: a reply is wanted. ``text``: the words as the hook left them.

    ``changed``: it changed what the model is to be told, so that an answer begun before it is worth nothing.
    """

    turn: str
    go_on: bool
    text: str
    changed: bool = False


@dataclass(frozen=True, slots=True)
class SpeechRequested:
    """Something is to be said. ``text`` where it is known beforehand; ``user_input`` joins the history first."""

    speech: str
    source: SpeechSource
    priority: int = 5
    place: Place = "queue"
    allow_interruptions: bool = True
    ttl: float | None = None
    key: str = ""
    group: str = ""
    text: str = ""
    user_input: str = ""
    in_history: bool = True


@dataclass(frozen=True, slots=True)
class ProtectionChanged:
    """The owner of a speech changed whether it may be interrupted."""

    speech: str
    allow_interruptions: bool


@dataclass(frozen=True, slots=True)
class InterruptAsked:
    """Stop one speech, a group, or (both empty) the current and all that wait. ``force``: protected ones too."""

    speech: str = ""
    group: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class RequestedCall:
    """A tool call as the model wrote it."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Generated:
    """The text of a speech's step: its first token, its end with all of it, or its failure with what there was."""

    speech: str
    step: int
    what: Literal["first", "end", "failed"]
    text: str = ""
    calls: tuple[RequestedCall, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Synthesised:
    """The audio of a speech's step: its first frame is there, all of it is, or it failed."""

    speech: str
    step: int
    what: Literal["first", "end", "failed"]
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Played:
    """What left the track.

    ``samples``: of this step, so far, at the output's rate; ``text``: the words heard so far; ``aligned``: the provider
    said where the words are, else they are estimated from the audio's length.
    """

    speech: str
    step: int
    what: Literal["started", "paused", "resumed", "finished", "stopped"]
    at: float = 0.0
    samples: int = 0
    text: str = ""
    aligned: bool = False


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool returned. ``reply``: the model is to go on with the result (a tool that returns nothing wants none)."""

    speech: str
    call_id: str
    output: str
    is_error: bool = False
    reply: bool = True


@dataclass(frozen=True, slots=True)
class CloseAsked:
    """End the conversation: at once, or (``drain``) after what is waiting has been said."""

    reason: str
    drain: bool = False


Event: TypeAlias = (
    Tick
    | Started
    | UserStarted
    | UserStopped
    | Transcribed
    | UserTyped
    | HookFinished
    | SpeechRequested
    | ProtectionChanged
    | InterruptAsked
    | Generated
    | Synthesised
    | Played
    | ToolFinished
    | CloseAsked
)


# --- notices: what the world may want to know -----------------------------------------------------------------------


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
    """The user's turn is over. ``at``: its last voiced sample; ``text``: all its words; ``typed``: it was no voice."""

    turn: str
    text: str
    at: float
    typed: bool = False


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
    speech: str
    source: SpeechSource


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
    | Backchannel
    | EarlyReplyDiscarded
    | FalseInterruption
    | TurnTimedOut
    | SpeechCreated
    | SpeechStarted
    | SpeechEnded
)


# --- commands -------------------------------------------------------------------------------------------------------


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
class Commit:
    """This item is now part of the history. ``speech`` is the one it belongs to, if any."""

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
    RunHook
    | Generate
    | CancelGeneration
    | Synthesise
    | Play
    | Hold
    | Pause
    | Resume
    | Stop
    | RunTool
    | Commit
    | Announce
    | Close
    | Drop
)
