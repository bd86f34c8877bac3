"""Whose turn it is, from the user's side: utterances gathered into turns, and when a turn is over.

States of the turn that is being taken::

    LISTENING --UserStarted--------------------------> SPEAKING
    SPEAKING  --UserStopped--------------------------> PENDING
    PENDING   --UserStarted--------------------------> SPEAKING   the same turn goes on
    PENDING   --no words in any utterance------------> LISTENING  a noise; no trace
    PENDING   --quiet for min_delay, all words there-> LISTENING  committed: its hook runs
    PENDING   --quiet, but only a backchannel--------> LISTENING  no turn: the agent goes on speaking
    PENDING   --words still owed after the timeout---> LISTENING  committed without them
    LISTENING --words without voice activity---------> PENDING

Rules:

1. The end of a turn is counted from the last voiced sample, not from when it was noticed.
2. Words that come after their turn was committed join the turn that is being taken, or begin one of their own that is
   over at once: late words are answered, never lost and never answered twice.
3. Hooks run one at a time, in the order of the turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from greenroom.dialog.events import (
    Announce,
    Backchannel,
    Command,
    Drop,
    HookFinished,
    RunHook,
    Transcribed,
    TurnCommitted,
    TurnTimedOut,
    UserStarted,
    UserStopped,
    UserTranscribed,
)

__all__ = ["TAKING", "Taking", "Turn", "TurnTaker"]


class Taking(StrEnum):
    LISTENING = "listening"
    SPEAKING = "speaking"
    PENDING = "pending"


TAKING: dict[Taking, frozenset[Taking]] = {
    Taking.LISTENING: frozenset({Taking.SPEAKING, Taking.PENDING}),
    Taking.SPEAKING: frozenset({Taking.PENDING}),
    Taking.PENDING: frozenset({Taking.SPEAKING, Taking.LISTENING}),
}
"""Where the taking of a turn may go from each state."""


@dataclass(slots=True)
class Utterance:
    """One stretch of voice. ``interim``: words after the last final ones that may still change."""

    id: str
    stopped: float | None = None
    finals: list[str] = field(default_factory=list)
    answered: bool = False
    interim: str = ""

    @property
    def text(self) -> str:
        return " ".join(part for part in (*self.finals, self.interim) if part)

    @property
    def owes_words(self) -> bool:
        return not self.answered or bool(self.interim)


@dataclass(slots=True)
class Turn:
    """What the user says until it is the agent's turn."""

    id: str
    utterances: dict[str, Utterance] = field(default_factory=dict)
    last_voice: float = 0.0
    pending_since: float = 0.0
    typed: bool = False

    @property
    def text(self) -> str:
        return " ".join(text for utterance in self.utterances.values() if (text := utterance.text))

    @property
    def owing(self) -> tuple[str, ...]:
        return tuple(utterance.id for utterance in self.utterances.values() if utterance.owes_words)


class TurnTaker:
    """The user's side of a dialog. A part of ``Dialog``: its methods return the commands that follow."""

    def __init__(self, *, min_delay: float, transcript_timeout: float) -> None:
        self._min_delay = min_delay
        self._transcript_timeout = transcript_timeout
        self.state = Taking.LISTENING
        self._turn: Turn | None = None
        self._turns = 0
        self._owed: dict[str, float] = {}  # utterances whose turn went on without their words: when they ended
        self._hooking: Turn | None = None
        self._waiting: deque[Turn] = deque()

    @property
    def hooking(self) -> bool:
        """A committed turn has not been answered yet."""
        return self._hooking is not None

    def deadline(self) -> float | None:
        turn = self._turn
        if turn is None or self.state is not Taking.PENDING:
            return None
        if turn.owing:
            return turn.pending_since + self._transcript_timeout
        return turn.last_voice + self._min_delay

    # --- events -----------------------------------------------------------------------------------------------------

    def started(self, event: UserStarted) -> list[Command]:
        if self.state is Taking.SPEAKING:
            return [Drop("UserStarted", f"utterance {event.utterance} began inside another")]
        turn = self._turn or self._new_turn()
        turn.utterances[event.utterance] = Utterance(event.utterance)
        self.state = Taking.SPEAKING
        return []

    def stopped(self, event: UserStopped, now: float) -> list[Command]:
        turn = self._turn
        utterance = turn.utterances.get(event.utterance) if turn is not None else None
        if turn is None or utterance is None or utterance.stopped is not None or self.state is not Taking.SPEAKING:
            return [Drop("UserStopped", f"utterance {event.utterance} is not being spoken")]
        utterance.stopped = event.at
        turn.last_voice = max(turn.last_voice, event.at)
        turn.pending_since = now
        self.state = Taking.PENDING
        return []

    def transcribed(self, event: Transcribed, now: float) -> list[Command]:
        utterance = self._owner(event, now)
        if utterance is None:
            return [] if not event.text else [Drop("Transcribed", f"utterance {event.utterance} is unknown")]
        text = event.text.strip()
        if event.final:
            utterance.answered = True
            utterance.interim = ""
            if text:
                utterance.finals.append(text)
        else:
            utterance.interim = text
        turn = self._turn
        if turn is None or not text:
            return []
        return [Announce(UserTranscribed(turn.id, turn.text, event.final and not turn.owing))]

    def typed(self, text: str, now: float) -> list[Command]:
        """A whole turn as text; words that are being spoken stay in their own turn."""
        self._turns += 1
        turn = Turn(f"turn_{self._turns}", {"": Utterance("", now, [text], answered=True)}, now, now, typed=True)
        return self._commit(turn)

    @property
    def words(self) -> str:
        """What has been said in the turn that is being taken."""
        return self._turn.text if self._turn is not None else ""

    @property
    def foreseen(self) -> tuple[str, str] | None:
        """The turn that would be committed if the user said no more: its id and words, once all are final."""
        turn = self._turn
        return (turn.id, turn.text) if turn is not None and turn.text and not turn.owing else None

    @property
    def committed(self) -> str:
        """The turn whose hook runs; empty when there is none."""
        return self._hooking.id if self._hooking is not None else ""

    def settle(self, now: float, *, aside: Callable[[str], bool]) -> list[Command]:
        """End the turn when its time has come. Call after every event.

        ``aside`` says of a turn's words whether they ask for nothing, as things are now.
        """
        turn = self._turn
        if turn is None or self.state is not Taking.PENDING:
            return []
        if not turn.owing and not turn.text:
            self._leave_turn()
            return []
        due = self.deadline()
        if due is None or now < due:
            return []
        commands: list[Command] = []
        if owing := turn.owing:
            commands.append(Announce(TurnTimedOut(turn.id, owing)))
            for utterance_id in owing:
                self._owed[utterance_id] = turn.last_voice
        self._leave_turn()
        if turn.text and aside(turn.text):
            commands.append(Announce(Backchannel(turn.id, turn.text)))
        elif turn.text:
            commands += self._commit(turn)
        return commands

    def hook_finished(self, event: HookFinished) -> tuple[Turn | None, list[Command]]:
        """The turn whose hook returned (``None``: it was not running), and the next hook to run."""
        turn = self._hooking
        if turn is None or turn.id != event.turn:
            return None, [Drop("HookFinished", f"{event.turn} is not waiting for its hook")]
        self._hooking = None
        if not self._waiting:
            return turn, []
        following = self._hooking = self._waiting.popleft()
        return turn, [RunHook(following.id, following.text)]

    # --- pieces -------------------------------------------------------------------------------------------------------

    def _new_turn(self) -> Turn:
        self._turns += 1
        self._turn = Turn(f"turn_{self._turns}")
        return self._turn

    def _leave_turn(self) -> None:
        self._turn = None
        self.state = Taking.LISTENING

    def _owner(self, event: Transcribed, now: float) -> Utterance | None:
        """The utterance that these words belong to; words without one begin a turn."""
        turn = self._turn
        if turn is not None:
            if event.utterance in turn.utterances:
                return turn.utterances[event.utterance]
            if not event.utterance and turn.utterances:
                return list(turn.utterances.values())[-1]
        if event.utterance and event.utterance not in self._owed:
            return None
        ended = self._owed.pop(event.utterance, now)
        if not event.text.strip():
            return None
        if turn is None:
            turn = self._new_turn()
            turn.last_voice, turn.pending_since = ended, now
            self.state = Taking.PENDING
        late = Utterance(event.utterance, stopped=ended)
        # Late words were spoken before what the turn holds.
        turn.utterances = {late.id: late, **turn.utterances}
        return late

    def _commit(self, turn: Turn) -> list[Command]:
        commands: list[Command] = [Announce(TurnCommitted(turn.id, turn.text, turn.last_voice, turn.typed))]
        if self._hooking is not None:
            self._waiting.append(turn)
            return commands
        self._hooking = turn
        return [*commands, RunHook(turn.id, turn.text)]
