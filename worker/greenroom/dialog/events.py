"""What the dialog is told: events, past tense. What it asks for is in ``commands``, what it announces in ``notices``.

Every event carries the id of what it speaks of, so that a late one finds its owner gone and becomes ``Drop``. The
events of one conversation, with their times, are its journal; replayed, they give the same commands.
Times inside events (``at``) are capture or playout times on the loop's clock, seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

__all__ = [
    "AgentChanged",
    "AgentState",
    "Aired",
    "CloseAsked",
    "ContextChanged",
    "DeadAirStep",
    "Detection",
    "EndReason",
    "Event",
    "Generated",
    "HandOff",
    "HookFinished",
    "InterruptAsked",
    "ListenerChanged",
    "Muted",
    "OnDuplicate",
    "OnInterrupt",
    "Place",
    "Played",
    "ProtectionChanged",
    "RequestedCall",
    "SpeechRequested",
    "SpeechSource",
    "Started",
    "Synthesised",
    "Tick",
    "ToolFinished",
    "Transcribed",
    "TurnCleared",
    "TurnEndAsked",
    "TurnJudged",
    "UserStarted",
    "UserState",
    "UserStopped",
    "UserTyped",
]

SpeechSource: TypeAlias = Literal["say", "generate_reply", "turn", "tool", "guard"]
"""Who asked for a speech: ``say``, ``generate_reply``, or the dialog itself: to answer a user's turn, to tell what a
tool brought after its speech had been interrupted, or to break a silence."""

Detection: TypeAlias = Literal["vad", "stt", "realtime", "manual"]
"""Who says that the user's turn is over: silence after voice activity, the transcriber, the realtime model, or only
the program (``commit_user_turn``)."""

OnInterrupt: TypeAlias = Literal["finish", "cancel", "tell"]
"""What becomes of a tool that runs when its speech is interrupted: it runs on and its result is kept; it is cancelled;
it runs on and its result is told to the user."""

OnDuplicate: TypeAlias = Literal["allow", "reject", "replace"]
"""What becomes of a call of a tool of which an earlier call still runs: both run; the new one is refused; the older one
is cancelled."""

DeadAirStep: TypeAlias = Literal["hold", "fallback", "end"]
"""What breaks a silence: a holding phrase, then the fallback, then a spoken end."""

Place: TypeAlias = Literal["queue", "next", "replace"]
"""Behind its equals in priority, ahead of them, or instead of everything that may be interrupted."""


class AgentState(StrEnum):
    """LiveKit's words, as the attribute ``lk.agent.state`` carries them."""

    INITIALIZING = "initializing"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


class UserState(StrEnum):
    """``AWAY``: neither side has said anything for a while."""

    LISTENING = "listening"
    SPEAKING = "speaking"
    AWAY = "away"


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
    """The session can hear and speak. ``resumed``: it goes on with a conversation that another process began."""

    resumed: bool = False


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

    ``text`` of an interim result is the utterance so far; of a final one, words that will not change. ``ended``: the
    transcriber itself judges that the speaker has finished.
    """

    utterance: str
    text: str
    final: bool = True
    language: str = ""
    confidence: float | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class TurnJudged:
    """The turn detector's answer to ``Judge``: how likely it is, 0..1, that the user has finished."""

    turn: str
    serial: int
    probability: float


@dataclass(frozen=True, slots=True)
class TurnEndAsked:
    """The program ends the turn that is being taken. ``skip_reply``: it joins the history, and that is all."""

    skip_reply: bool = False


@dataclass(frozen=True, slots=True)
class TurnCleared:
    """The program forgets the turn that is being taken."""


@dataclass(frozen=True, slots=True)
class Muted:
    """The program stops or begins to listen to the user's voice."""

    on: bool


@dataclass(frozen=True, slots=True)
class ListenerChanged:
    """Whether anybody is there to hear the agent."""

    present: bool


@dataclass(frozen=True, slots=True)
class Aired:
    """The agent's outgoing audio, measured: it became audible, or fell silent. ``at``: when that leaves the track."""

    audible: bool
    at: float


@dataclass(frozen=True, slots=True)
class ContextChanged:
    """Instructions, tools or chat context were changed by the program."""


@dataclass(frozen=True, slots=True)
class HandOff:
    """Another agent is to take the conversation."""

    agent: str


@dataclass(frozen=True, slots=True)
class AgentChanged:
    """It has taken it: answer to ``SwitchAgent``."""

    agent: str


@dataclass(frozen=True, slots=True)
class UserTyped:
    """A whole turn as text. ``skip_reply``: it joins the history, and that is all."""

    text: str
    skip_reply: bool = False


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
    """Something is to be said. ``text`` where it is known beforehand; ``user_input`` joins the history first;
    ``instructions`` the model alone is told.

    ``allow_interruptions``: anybody may interrupt it; ``stoppable``: the program may all the same.
    """

    speech: str
    source: SpeechSource
    priority: int = 5
    place: Place = "queue"
    allow_interruptions: bool = True
    stoppable: bool = False
    ttl: float | None = None
    key: str = ""
    group: str = ""
    text: str = ""
    user_input: str = ""
    in_history: bool = True
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class ProtectionChanged:
    """The owner of a speech changed whether it may be interrupted, by the user and by the program alike."""

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
    """A tool call as the model wrote it, and the policies of the tool that it names."""

    call_id: str
    name: str
    arguments: str
    on_interrupt: OnInterrupt = "finish"
    on_duplicate: OnDuplicate = "allow"


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
    """The audio of a speech's step: the voice began its first ``sentence``, its first frame is there, all of it is, or
    it failed.
    """

    speech: str
    step: int
    what: Literal["sentence", "first", "end", "failed"]
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
    """A tool returned. ``reply``: the model is to go on with the result (a tool that returns nothing wants none).

    ``agent``: who takes the conversation once the speech that called the tool has ended.
    """

    speech: str
    call_id: str
    output: str
    is_error: bool = False
    reply: bool = True
    agent: str = ""


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
    | TurnJudged
    | TurnEndAsked
    | TurnCleared
    | Muted
    | ListenerChanged
    | Aired
    | ContextChanged
    | HandOff
    | AgentChanged
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
