"""Whose turn it is, from the user's side: utterances gathered into turns, and when a turn is over.

States of the turn that is being taken::

    LISTENING --UserStarted--------------------------> SPEAKING
    SPEAKING  --UserStopped--------------------------> PENDING
    PENDING   --UserStarted--------------------------> SPEAKING   the same turn goes on
    PENDING   --no words in any utterance------------> LISTENING  a noise; no trace
    PENDING   --quiet for the delay, all words there-> LISTENING  committed: its hook runs
    PENDING   --quiet, but only a backchannel--------> LISTENING  no turn: the agent goes on speaking
    PENDING   --words still owed after the timeout---> LISTENING  committed without them
    LISTENING --words without voice activity---------> PENDING
    any       --TurnEndAsked, or too long------------> LISTENING  closed: committed when its words are there
    any       --TurnCleared--------------------------> LISTENING  forgotten

Rules:

1. The end of a turn is counted from the last voiced sample, not from when it was noticed; how long, ``endpoint`` says.
   With ``stt`` the transcriber must also have said that the speaker has finished; with ``realtime`` the model has, and
   words are not waited for; with ``manual`` only the program ends a turn.
2. Words that come after their turn was committed join the turn that is being taken, or begin one of their own that is
   over at once: late words are answered, never lost and never answered twice. (With ``realtime`` the model has heard
   the audio itself: late words are only noted in the history.)
3. A closed turn waits for its words while the next one is taken already. Turns are committed in their order.
4. Hooks run one at a time, in the order of the turns, and none while the agent is being changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from greenroom.dialog.commands import Announce, Command, CutUtterance, Drop, Judge, RunHook
from greenroom.dialog.endpoint import Endpointer, EndpointRules
from greenroom.dialog.events import Detection, HookFinished, Transcribed, TurnJudged, UserStarted, UserStopped
from greenroom.dialog.notices import Backchannel, TurnCommitted, TurnEmpty, TurnExceeded, TurnTimedOut, UserTranscribed

__all__ = ["TAKING", "Taking", "Turn", "TurnRules", "TurnTaker"]


class Taking(StrEnum):
    LISTENING = "listening"
    SPEAKING = "speaking"
    PENDING = "pending"


TAKING: dict[Taking, frozenset[Taking]] = {
    Taking.LISTENING: frozenset({Taking.SPEAKING, Taking.PENDING}),
    Taking.SPEAKING: frozenset({Taking.PENDING, Taking.LISTENING}),
    Taking.PENDING: frozenset({Taking.SPEAKING, Taking.LISTENING}),
}
"""Where the taking of a turn may go from each state."""


@dataclass(frozen=True, slots=True)
class TurnRules:
    """Seconds. ``transcript_timeout``: how long a turn waits for words that the transcriber owes. ``max_duration``:
    from the first voiced sample, then the agent cuts in; 0: never.
    """

    detection: Detection = "vad"
    endpoint: EndpointRules = field(default_factory=EndpointRules)
    transcript_timeout: float = 10.0
    max_duration: float = 0.0


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
    """What the user says until it is the agent's turn.

    ``ended``: the transcriber said that the speaker has finished. ``judged``: the words that the detector was asked
    about. ``exceeded``: it was too long, and cut. ``told``: the words its hook was given. ``item``: its place in the
    history, once it has one.
    """

    id: str
    began: float = 0.0
    utterances: dict[str, Utterance] = field(default_factory=dict)
    last_voice: float = 0.0
    pending_since: float = 0.0
    typed: bool = False
    ended: bool = False
    asked: bool = False
    skip_reply: bool = False
    exceeded: bool = False
    judged: str | None = None
    serial: int = 0
    probability: float | None = None
    paused: bool = False
    told: str = ""
    item: str = ""

    @property
    def text(self) -> str:
        return " ".join(text for utterance in self.utterances.values() if (text := utterance.text))

    @property
    def owing(self) -> tuple[str, ...]:
        return tuple(utterance.id for utterance in self.utterances.values() if utterance.owes_words)

    @property
    def final(self) -> bool:
        """There are words, and none of them will change; more may come."""
        return bool(self.text) and not any(
            utterance.interim or (not utterance.answered and not utterance.finals)
            for utterance in self.utterances.values()
        )

    @property
    def voiceless(self) -> bool:
        """Nobody but the transcriber has noticed it."""
        return not any(self.utterances)

    def fix(self) -> None:
        """No more words will come: those that might have changed are kept as they are."""
        for utterance in self.utterances.values():
            if utterance.interim:
                utterance.finals.append(utterance.interim)
            utterance.interim, utterance.answered = "", True


class TurnTaker:
    """The user's side of a dialog. A part of ``Dialog``: its methods return the commands that follow."""

    def __init__(self, rules: TurnRules) -> None:
        self._rules = rules
        self._endpointer = Endpointer(rules.endpoint)
        self.state = Taking.LISTENING
        self._turn: Turn | None = None
        self._turns = 0
        self._closed: deque[Turn] = deque()  # ended by decree, and waiting for their words
        self._owed: dict[str, float] = {}  # utterances whose turn went on without their words: when they ended
        self._heard: dict[str, Turn] = {}  # realtime: utterances whose turn was committed before their words came
        self._hooking: Turn | None = None
        self._waiting: deque[Turn] = deque()
        self._last_end: float | None = None
        self.hooks_wait = False
        """The agent is being changed: no hook is run."""

    @property
    def hooking(self) -> bool:
        """A committed turn has not been answered yet."""
        return self._hooking is not None or bool(self._waiting)

    @property
    def committed(self) -> str:
        """The turn whose hook runs; empty when there is none."""
        return self._hooking.id if self._hooking is not None else ""

    @property
    def words(self) -> str:
        """What has been said in the turn that is being taken."""
        return self._turn.text if self._turn is not None else ""

    @property
    def voiceless(self) -> bool:
        """The turn that is being taken was noticed by its words alone."""
        return self._turn is not None and self._turn.voiceless

    @property
    def speaking(self) -> bool:
        """The user is speaking, as far as anybody can tell."""
        turn = self._turn
        return self.state is Taking.SPEAKING or (turn is not None and turn.voiceless and bool(turn.owing))

    @property
    def waits_for_words(self) -> bool:
        """A turn is over but for the transcriber."""
        if self._closed:
            return True
        turn = self._turn
        pending = turn is not None and self.state is Taking.PENDING and self._rules.detection != "manual"
        return pending and turn is not None and bool(turn.owing)

    @property
    def foreseen(self) -> tuple[str, str] | None:
        """The turn that would be committed if the user said no more: its id and words, once all are final."""
        turn = self._closed[0] if self._closed else self._turn
        return (turn.id, turn.text) if turn is not None and turn.final else None

    def deadline(self) -> float | None:
        times = [closed.pending_since + self._rules.transcript_timeout for closed in self._closed]
        turn = self._turn
        if turn is not None:
            if self._rules.max_duration and not turn.exceeded and turn.utterances:
                times.append(turn.began + self._rules.max_duration)
            if self.state is Taking.PENDING and not self._closed and (due := self._due(turn)) is not None:
                times.append(due)
        return min(times, default=None)

    def _due(self, turn: Turn) -> float | None:
        """When a pending turn is over, as things are."""
        rules = self._rules
        if rules.detection == "manual":
            return None
        if rules.detection == "realtime":
            return turn.last_voice
        if turn.owing or (rules.detection == "stt" and not turn.ended):
            return turn.pending_since + rules.transcript_timeout
        return turn.last_voice + self._endpointer.delay(turn.probability)

    # --- events -----------------------------------------------------------------------------------------------------

    def started(self, event: UserStarted) -> list[Command]:
        if self.state is Taking.SPEAKING:
            return [Drop("UserStarted", f"utterance {event.utterance} began inside another")]
        turn = self._turn
        if turn is None:
            turn = self._new_turn(event.at)
            if self._last_end is not None:
                self._endpointer.paused(event.at - self._last_end)
                self._last_end = None
        else:
            self._endpointer.paused(event.at - turn.last_voice)
            turn.paused = True
        turn.utterances[event.utterance] = Utterance(event.utterance)
        turn.ended, turn.judged, turn.probability = False, None, None
        turn.serial += 1
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
        if turn.exceeded:
            self._close(turn, now)
        return []

    def transcribed(self, event: Transcribed, now: float) -> list[Command]:
        found = self._owner(event, now)
        if found is None:
            return [] if not event.text else [Drop("Transcribed", f"utterance {event.utterance} is unknown")]
        turn, utterance = found
        text = event.text.strip()
        if event.final:
            # A transcriber that names utterances owes one more result when the utterance is over.
            utterance.answered = utterance.stopped is not None or not event.utterance
            utterance.interim = ""
            if text:
                utterance.finals.append(text)
        else:
            utterance.interim = text
        turn.ended = turn.ended or event.ended
        if turn.voiceless and text:
            turn.last_voice = max(turn.last_voice, now)  # nobody else says when it was spoken
            turn.pending_since = now
        if not text:
            return []
        return [Announce(UserTranscribed(turn.id, turn.text, event.final and not turn.owing))]

    def noted(self, event: Transcribed) -> Turn | None:
        """The committed turn that these words were added to, when its place in the history is to be filled."""
        turn = self._heard.get(event.utterance)
        if turn is None or not turn.item:
            return None
        if not turn.owing:
            self._heard = {key: other for key, other in self._heard.items() if other is not turn}
        return turn

    def typed(self, text: str, now: float, *, skip_reply: bool = False) -> list[Command]:
        """A whole turn as text; words that are being spoken stay in their own turn."""
        self._turns += 1
        spoken = {"": Utterance("", now, [text], answered=True)}
        turn = Turn(f"turn_{self._turns}", now, spoken, now, now, typed=True, skip_reply=skip_reply)
        return self._commit(turn)

    def judged(self, event: TurnJudged) -> list[Command]:
        turn = self._turn
        if turn is None or turn.id != event.turn or turn.serial != event.serial or self.state is not Taking.PENDING:
            return [Drop("TurnJudged", f"{event.turn} has gone on since it was judged")]
        turn.probability = event.probability
        return []

    def end_asked(self, now: float, *, skip_reply: bool) -> list[Command]:
        """The program ends the turn. What is being spoken is cut."""
        turn = self._turn
        if turn is None:
            return [Announce(TurnEmpty())]
        turn.asked, turn.skip_reply = True, skip_reply
        return self._cut(turn, now) + self._close(turn, now)

    def cleared(self, now: float) -> list[Command]:
        """The program forgets the turn, and all that waits for words."""
        turn = self._turn
        commands: list[Command] = []
        asked = sum(closed.asked for closed in self._closed)
        self._closed.clear()
        self._owed.clear()
        if turn is not None:
            commands += self._cut(turn, now)
            self._leave_turn()
        return [*commands, *(Announce(TurnEmpty()) for _ in range(asked))]

    def hook_finished(self, event: HookFinished) -> tuple[Turn | None, list[Command]]:
        """The turn whose hook returned (``None``: it was not running)."""
        turn = self._hooking
        if turn is None or turn.id != event.turn:
            return None, [Drop("HookFinished", f"{event.turn} is not waiting for its hook")]
        self._hooking = None
        return turn, []

    # --- what follows from any event --------------------------------------------------------------------------------

    def settle(self, now: float, *, aside: Callable[[str], bool]) -> list[Command]:
        """End the turn when its time has come. Call after every event.

        ``aside`` says of a turn's words whether they ask for nothing, as things are now.
        """
        commands = self._limit(now)
        while self._closed:
            closed = self._closed[0]
            overdue = now >= closed.pending_since + self._rules.transcript_timeout
            if closed.owing and not overdue:
                break
            self._closed.popleft()
            commands += self._finish(closed, lambda text: False)
        turn = self._turn
        if turn is not None and self.state is Taking.PENDING and not self._closed:
            commands += self._settle_pending(turn, now, aside)
        return commands

    def next_hook(self) -> list[Command]:
        """Run the hook of the turn that is next. Call after ``settle``."""
        if self._hooking is not None or not self._waiting or self.hooks_wait:
            return []
        turn = self._hooking = self._waiting.popleft()
        turn.told = turn.text
        return [RunHook(turn.id, turn.told)]

    def _settle_pending(self, turn: Turn, now: float, aside: Callable[[str], bool]) -> list[Command]:
        if not turn.owing and not turn.text:
            self._leave_turn()
            return []
        commands: list[Command] = []
        judged_by = self._rules.endpoint.judged_by
        ready = judged_by == "audio" or (judged_by == "text" and bool(turn.text) and not turn.owing)
        if ready and turn.judged != (turn.text if judged_by == "text" else ""):
            turn.judged = turn.text if judged_by == "text" else ""
            turn.probability = None
            turn.serial += 1
            commands.append(Judge(turn.id, turn.serial, turn.text))
        due = self._due(turn)
        if due is None or now < due:
            return commands
        self._leave_turn()
        if turn.voiceless or not turn.paused:
            self._endpointer.fluent()
        self._last_end = None if turn.voiceless else turn.last_voice
        return commands + self._finish(turn, aside)

    def _limit(self, now: float) -> list[Command]:
        """Close a turn that has become too long."""
        turn = self._turn
        longest = self._rules.max_duration
        if turn is None or not longest or turn.exceeded or now < turn.began + longest:
            return []
        turn.exceeded = True
        commands: list[Command] = [Announce(TurnExceeded(turn.id, now - turn.began))]
        if self.state is Taking.SPEAKING:
            last = list(turn.utterances.values())[-1]
            return [*commands, CutUtterance(last.id)]
        return commands + self._close(turn, now)

    def _finish(self, turn: Turn, aside: Callable[[str], bool]) -> list[Command]:
        """A turn is over: commit it, unless there is nothing in it."""
        commands: list[Command] = []
        owing = turn.owing
        if turn.text and aside(turn.text):
            self._owed.update(dict.fromkeys(owing, turn.last_voice))
            return [Announce(Backchannel(turn.id, turn.text))]
        realtime = self._rules.detection == "realtime"
        if owing and realtime:
            self._heard.update(dict.fromkeys(owing, turn))
        elif owing:
            commands.append(Announce(TurnTimedOut(turn.id, owing)))
            # Words that might have changed are kept as they are; only those that nobody has seen are waited for.
            self._owed.update((key, turn.last_voice) for key in owing if not turn.utterances[key].text)
            turn.fix()
        if turn.text or realtime:
            return commands + self._commit(turn)
        return [*commands, Announce(TurnEmpty())] if turn.asked else commands

    # --- pieces -------------------------------------------------------------------------------------------------------

    def _new_turn(self, began: float) -> Turn:
        self._turns += 1
        self._turn = Turn(f"turn_{self._turns}", began)
        return self._turn

    def _leave_turn(self) -> None:
        self._turn = None
        self.state = Taking.LISTENING

    def _cut(self, turn: Turn, now: float) -> list[Command]:
        """End the utterance that is being spoken, as far as this turn is concerned."""
        if self.state is not Taking.SPEAKING:
            return []
        last = list(turn.utterances.values())[-1]
        last.stopped = turn.last_voice = turn.pending_since = now
        return [CutUtterance(last.id)]

    def _close(self, turn: Turn, now: float) -> list[Command]:
        """The turn is over by decree; it is committed once its words are there."""
        turn.pending_since = now
        self._closed.append(turn)
        self._leave_turn()
        return []

    def _owner(self, event: Transcribed, now: float) -> tuple[Turn, Utterance] | None:
        """The turn and utterance that these words belong to; words without one begin a turn."""
        turns = [*self._closed, *([self._turn] if self._turn is not None else [])]
        for turn in turns:
            if event.utterance in turn.utterances:
                return turn, turn.utterances[event.utterance]
        if event.utterance in self._heard:
            turn = self._heard[event.utterance]
            return turn, turn.utterances[event.utterance]
        unnamed = [turn for turn in turns if turn.utterances and (turn.owing or turn is self._turn)]
        if not event.utterance and unnamed:  # the oldest that waits for words
            return unnamed[0], list(unnamed[0].utterances.values())[-1]
        if event.utterance and event.utterance not in self._owed:
            return None
        ended = self._owed.pop(event.utterance, now)
        if not event.text.strip():
            return None
        mine = self._turn
        if mine is None:
            mine = self._new_turn(ended)
            mine.last_voice, mine.pending_since = ended, now
            mine.ended = bool(event.utterance)  # what was waited for in vain before is not waited for again
            self.state = Taking.PENDING
        late = Utterance(event.utterance, stopped=ended)
        # Late words were spoken before what the turn holds.
        mine.utterances = {late.id: late, **mine.utterances}
        return mine, late

    def _commit(self, turn: Turn) -> list[Command]:
        self._waiting.append(turn)
        return [Announce(TurnCommitted(turn.id, turn.text, turn.last_voice, turn.typed, turn.asked))]
