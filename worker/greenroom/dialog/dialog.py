"""The dialog: one machine that decides what is said, and when.

It has parts (``TurnTaker`` for the user's side, ``SpeechScheduler`` for the agent's) and holds what lies between them:

1. A committed turn interrupts the speech that is heard, unless that is protected. An answer that nobody has heard yet
   is held back, and superseded when the newer turn gets its own answer, which is to both.
2. The user's voice over an interruptible speech pauses it, or stops it once it has lasted ``interrupt_after``
   (``interruption``).
3. Answers to turns go ahead of whatever else waits with the same priority.
4. The states of agent and user follow from what was played and heard, never from what was asked for.
5. With ``preemptive``, the answer to a turn is begun when its words are final, before it is committed. It is kept if
   the turn is committed with these words, its hook changed nothing, and nothing joined the history meanwhile.
6. After ``Close`` nothing is commanded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from greenroom.dialog.events import (
    AgentState,
    AgentStateChanged,
    Announce,
    Close,
    CloseAsked,
    Command,
    Commit,
    Drop,
    EndReason,
    Event,
    Generated,
    HookFinished,
    InterruptAsked,
    Played,
    ProtectionChanged,
    SpeechCreated,
    SpeechEnded,
    SpeechRequested,
    Started,
    Synthesised,
    Tick,
    ToolFinished,
    Transcribed,
    TurnCommitted,
    UserStarted,
    UserState,
    UserStateChanged,
    UserStopped,
    UserTyped,
)
from greenroom.dialog.history import Message
from greenroom.dialog.interruption import Interruption, InterruptionRules, Reaction
from greenroom.dialog.schedule import SpeechScheduler
from greenroom.dialog.speech import Making, Sounding, Speech
from greenroom.dialog.turns import Taking, TurnTaker

__all__ = ["Dialog", "DialogRules"]


@dataclass(frozen=True, slots=True)
class DialogRules:
    """The settings that decisions depend on. Seconds.

    ``min_delay``: silence after the last voiced sample that ends a turn. ``transcript_timeout``: how long a turn waits
    for words that the transcriber owes. ``max_tool_steps``: rounds of tool calls in one speech. ``preemptive``: begin
    answers early.
    """

    min_delay: float = 0.5
    transcript_timeout: float = 10.0
    interruption: InterruptionRules = field(default_factory=InterruptionRules)
    max_tool_steps: int = 3
    preemptive: bool = False


@dataclass(frozen=True, slots=True)
class _Early:
    """What an answer was begun on. ``items``: how many the history held."""

    turn: str
    text: str
    items: int


class Dialog:
    """A ``Machine[Event, Command]``. Pure: no clock, no loop; the same events give the same commands."""

    def __init__(self, rules: DialogRules | None = None) -> None:
        rules = rules or DialogRules()
        self._rules = rules
        self._items = 0
        self._early: _Early | None = None
        self._early_count = 0
        self._turns = TurnTaker(min_delay=rules.min_delay, transcript_timeout=rules.transcript_timeout)
        self._speeches = SpeechScheduler(new_item_id=self._new_item_id, max_tool_steps=rules.max_tool_steps)
        self._started = False
        self._closing: str | None = None
        self._closed = False
        self._interruption = Interruption(rules.interruption)
        self._agent_state = AgentState.INITIALIZING
        self._user_state = UserState.LISTENING
        self._handlers: dict[type[Any], Callable[[Any, float], list[Command]]] = {
            Tick: lambda event, now: [],
            Started: self._on_started,
            UserStarted: self._on_user_started,
            UserStopped: self._on_user_stopped,
            Transcribed: lambda event, now: self._turns.transcribed(event, now),
            UserTyped: self._on_typed,
            HookFinished: self._on_hook_finished,
            SpeechRequested: self._on_requested,
            ProtectionChanged: self._on_protection,
            InterruptAsked: self._on_interrupt,
            Generated: lambda event, now: self._speeches.generated(event),
            Synthesised: lambda event, now: self._speeches.synthesised(event),
            Played: self._speeches.played,
            ToolFinished: lambda event, now: self._speeches.tool_finished(event),
            CloseAsked: self._on_close,
        }

    @property
    def agent_state(self) -> AgentState:
        return self._agent_state

    @property
    def user_state(self) -> UserState:
        return self._user_state

    @property
    def current_speech(self) -> str | None:
        """The id of the speech on the floor."""
        active = self._speeches.active
        return active.id if active is not None else None

    def handle(self, event: Event, now: float) -> list[Command]:
        if self._closed:
            return [Drop(type(event).__name__, "the conversation is closed")]
        commands = self._handlers[type(event)](event, now)
        return commands + self._settle(now)

    def deadline(self) -> float | None:
        if self._closed:
            return None
        times = (
            self._turns.deadline(),
            self._speeches.deadline(),
            self._interruption.deadline(self._speeches.active),
        )
        return min((time for time in times if time is not None), default=None)

    # --- what follows from any event --------------------------------------------------------------------------------

    def _settle(self, now: float) -> list[Command]:
        commands = self._interrupt(now)
        settled = self._turns.settle(now, aside=lambda text: self._interruption.aside(text, self._speeches.active))
        if any(isinstance(command, Announce) and isinstance(command.notice, TurnCommitted) for command in settled):
            settled += self._silence_for_turn(now)
        commands += settled
        commands += self._begin_early(now)
        commands += self._interrupt(now)  # a turn that came to nothing lets a paused speech go on
        speaks, waits = self._turns.state is Taking.SPEAKING, self._turns.hooking
        commands += self._speeches.settle(now, user_speaks=speaks, turn_waits=waits)
        if self._started:
            commands += self._speeches.give_floor(user_speaks=speaks, turn_waits=waits)
        commands += self._announce_states()
        if self._closing is not None and not self._speeches.live:
            self._closed = True
            commands.append(Close(self._closing))
        return commands

    def _interrupt(self, now: float) -> list[Command]:
        """What the user's voice and words do to the speech on the floor."""
        active = self._speeches.active
        if active is None:
            return []
        taking = self._turns.state is not Taking.LISTENING
        match self._interruption.judge(active, now, words=self._turns.words, taking=taking):
            case Reaction.PAUSE:
                return self._speeches.pause(active)
            case Reaction.RESUME:
                return self._speeches.resume(active)
            case Reaction.STOP:
                return self._speeches.end_early(active, EndReason.INTERRUPTED, now)
            case _:
                return []

    def _begin_early(self, now: float) -> list[Command]:
        """Begin the answer to the turn that is about to be committed; drop one that was begun on other words."""
        if not self._rules.preemptive:
            return []
        commands: list[Command] = []
        foreseen = self._turns.foreseen
        early = self._early
        if early is not None and (early.turn, early.text) != foreseen and early.turn != self._turns.committed:
            commands += self._drop_early()
        if foreseen is None or self._early is not None or self._closing is not None:
            return commands
        self._early_count += 1
        self._early = _Early(*foreseen, self._items)
        return commands + self._speeches.park(f"early_{self._early_count}", foreseen[1], now)

    def _drop_early(self) -> list[Command]:
        self._early = None
        return self._speeches.discard()

    def _silence_for_turn(self, now: float) -> list[Command]:
        active = self._speeches.active
        audible = active is not None and active.sounding in (Sounding.PLAYING, Sounding.PAUSED)
        if active is None or not audible or not active.allow_interruptions:
            return []
        return self._speeches.end_early(active, EndReason.INTERRUPTED, now)

    def _supersede(self, now: float) -> list[Command]:
        """The answer to a newer turn is to the older ones too."""
        commands: list[Command] = []
        for speech in self._speeches.live:
            if speech.source == "turn" and speech.allow_interruptions:
                reason = EndReason.INTERRUPTED if speech.heard else EndReason.SUPERSEDED
                commands += self._speeches.end_early(speech, reason, now)
        return commands

    def _announce_states(self) -> list[Command]:
        commands: list[Command] = []
        user = UserState.SPEAKING if self._turns.state is Taking.SPEAKING else UserState.LISTENING
        if user is not self._user_state:
            commands.append(Announce(UserStateChanged(self._user_state, user)))
            self._user_state = user
        agent = self._agent_state_now()
        if agent is not self._agent_state:
            commands.append(Announce(AgentStateChanged(self._agent_state, agent)))
            self._agent_state = agent
        return commands

    def _agent_state_now(self) -> AgentState:
        if not self._started:
            return AgentState.INITIALIZING
        active = self._speeches.active
        if active is not None and active.heard and active.sounding in (Sounding.PLAYING, Sounding.STOPPING):
            return AgentState.SPEAKING
        if self._turns.hooking or any(_thinks(speech) for speech in self._speeches.live):
            return AgentState.THINKING
        return AgentState.LISTENING

    # --- events -----------------------------------------------------------------------------------------------------

    def _on_started(self, event: Started, now: float) -> list[Command]:
        if self._started:
            return [Drop("Started", "the session has started already")]
        self._started = True
        return []

    def _on_user_started(self, event: UserStarted, now: float) -> list[Command]:
        commands = self._turns.started(event)
        if not commands:
            self._interruption.voice_began(event.at)
        return commands

    def _on_user_stopped(self, event: UserStopped, now: float) -> list[Command]:
        commands = self._turns.stopped(event, now)
        if not commands:
            self._interruption.voice_ended(now)
        return commands

    def _on_typed(self, event: UserTyped, now: float) -> list[Command]:
        return self._turns.typed(event.text, now) + self._silence_for_turn(now)

    def _on_hook_finished(self, event: HookFinished, now: float) -> list[Command]:
        turn, commands = self._turns.hook_finished(event)
        if turn is None:
            return commands
        if not event.go_on or self._closing is not None:
            drop = self._early is not None and self._early.turn == turn.id
            return self._drop_early() + commands if drop else commands
        early = self._early
        fits = early == _Early(turn.id, event.text, self._items) and not event.changed and self._speeches.parked_well
        commands = [Commit(Message(self._new_item_id(), "user", event.text)), *self._supersede(now), *commands]
        if fits:
            self._early = None
            return commands + self._speeches.adopt()
        if early is not None and early.turn == turn.id:
            commands += self._drop_early()
        request = SpeechRequested(f"reply_{turn.id}", "turn", place="next")
        return commands + self._speeches.request(request, now)

    def _on_requested(self, event: SpeechRequested, now: float) -> list[Command]:
        if self._closing is not None:
            ended = SpeechEnded(event.speech, EndReason.CLOSED)
            return [Announce(SpeechCreated(event.speech, event.source)), Announce(ended)]
        if self._speeches.find(event.speech) is not None:
            return [Drop("SpeechRequested", f"speech {event.speech} exists already")]
        return self._speeches.request(event, now)

    def _on_protection(self, event: ProtectionChanged, now: float) -> list[Command]:
        speech = self._speeches.find(event.speech)
        if speech is None or speech.sounding is Sounding.STOPPING:
            return [Drop("ProtectionChanged", f"speech {event.speech} is over")]
        speech.allow_interruptions = event.allow_interruptions
        return []

    def _on_interrupt(self, event: InterruptAsked, now: float) -> list[Command]:
        commands: list[Command] = []
        found = False
        for speech in self._speeches.live:
            if (event.speech and speech.id != event.speech) or (event.group and speech.group != event.group):
                continue
            found = True
            if speech.allow_interruptions or event.force:
                commands += self._speeches.end_early(speech, EndReason.INTERRUPTED, now)
        if event.speech and not found:
            return [Drop("InterruptAsked", f"speech {event.speech} is over")]
        return commands

    def _on_close(self, event: CloseAsked, now: float) -> list[Command]:
        commands: list[Command] = []
        if self._closing is None:
            self._closing = event.reason
        commands += self._drop_early()
        if not event.drain:
            for speech in self._speeches.live:
                commands += self._speeches.end_early(speech, EndReason.CLOSED, now)
        return commands

    def _new_item_id(self) -> str:
        self._items += 1
        return f"item_{self._items}"


def _thinks(speech: Speech) -> bool:
    """An answer is on its way, and nothing of this step is heard yet."""
    waits = speech.sounding in (Sounding.AUTHORISED, Sounding.YIELDED)
    return speech.source != "say" and (waits or speech.making is Making.RUNNING)
