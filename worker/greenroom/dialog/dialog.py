"""The dialog: one machine that decides what is said, and when.

It has parts (``TurnTaker`` for the user's side, ``SpeechScheduler`` for the agent's, ``Interruption``, ``Mute`` and
``DeadAirGuard`` between them) and holds what connects them:

1. A committed turn interrupts the speech that is heard, unless that is protected. An answer that nobody has heard yet
   is held back, and superseded when the newer turn gets its own answer, which is to both.
2. The user's voice over an interruptible speech pauses it, or stops it once it has lasted long enough
   (``interruption``). With ``manual`` turns the voice interrupts nothing.
3. Answers to turns go ahead of whatever else waits with the same priority. The answer to a turn that was too long cuts
   in: it begins while the user speaks, and is protected.
4. The states of agent and user follow from what was played and heard, never from what was asked for.
5. With ``preemptive``, the answer to a turn is begun when its words are final, before it is committed. It is kept if
   the turn is committed with these words, its hook changed nothing, and nothing joined the history meanwhile.
6. While the user is muted, an utterance is kept aside: it counts if it is still being spoken when the mute ends.
7. Another agent takes the conversation between two turns: no hook runs meanwhile.
8. After ``Close`` nothing is commanded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from greenroom.dialog.commands import Announce, Close, Command, Drop, SwitchAgent
from greenroom.dialog.deadair import DeadAirGuard, DeadAirRules, Guarding
from greenroom.dialog.events import (
    AgentChanged,
    AgentState,
    Aired,
    CloseAsked,
    ContextChanged,
    DeadAirStep,
    EndReason,
    Event,
    Generated,
    HandOff,
    HookFinished,
    InterruptAsked,
    ListenerChanged,
    Muted,
    Played,
    ProtectionChanged,
    SpeechRequested,
    Started,
    Synthesised,
    Tick,
    ToolFinished,
    Transcribed,
    TurnCleared,
    TurnEndAsked,
    TurnJudged,
    UserStarted,
    UserState,
    UserStopped,
    UserTyped,
)
from greenroom.dialog.history import Message
from greenroom.dialog.interruption import Interruption, InterruptionRules, Reaction
from greenroom.dialog.ledger import Ledger
from greenroom.dialog.mute import Mute, MuteRule
from greenroom.dialog.notices import (
    DeadAir,
    SpeechCreated,
    SpeechEnded,
    TurnCommitted,
    TurnTimedOut,
    UserMuted,
)
from greenroom.dialog.schedule import SpeechScheduler
from greenroom.dialog.speech import Making, Sounding, Speech
from greenroom.dialog.states import States
from greenroom.dialog.turns import Taking, Turn, TurnRules, TurnTaker

__all__ = ["GUARD_PRIORITY", "Dialog", "DialogRules"]

MAX_PASSES = 8
"""Over the parts, for one event. Two are usual; the bound is there for a mistake in them."""
GUARD_PRIORITY = 1000
"""What breaks a silence goes ahead of all that makes it."""


@dataclass(frozen=True, slots=True)
class DialogRules:
    """The settings that decisions depend on. Seconds.

    ``max_tool_steps``: rounds of tool calls in one speech. ``preemptive``: begin answers early, ``preemptive_tts``: and
    their sound. ``away_after``: both sides silent for so long, and the user counts as away; 0: never.
    """

    turns: TurnRules = field(default_factory=TurnRules)
    interruption: InterruptionRules = field(default_factory=InterruptionRules)
    dead_air: DeadAirRules = field(default_factory=DeadAirRules)
    mute: tuple[MuteRule, ...] = ()
    max_tool_steps: int = 3
    preemptive: bool = False
    preemptive_tts: bool = False
    away_after: float = 0.0


@dataclass(frozen=True, slots=True)
class _Early:
    """What an answer was begun on. ``version``: of the history and all else that the model is told."""

    turn: str
    text: str
    version: int


class Dialog:
    """A ``Machine[Event, Command]``. Pure: no clock, no loop; the same events give the same commands."""

    def __init__(self, rules: DialogRules | None = None) -> None:
        rules = rules or DialogRules()
        self._rules = rules
        self._manual = rules.turns.detection == "manual"
        self._ledger = Ledger()
        self._early: _Early | None = None
        self._own_speeches = 0
        self._turns = TurnTaker(rules.turns)
        self._speeches = SpeechScheduler(
            self._ledger, max_tool_steps=rules.max_tool_steps, early_voice=rules.preemptive_tts
        )
        self._interruption = Interruption(
            replace(rules.interruption, enabled=False) if self._manual else rules.interruption
        )
        self._mute = Mute(rules.mute)
        self._guard = DeadAirGuard(rules.dead_air)
        self._started = False
        self._present = True
        self._audible = False
        self._unanswered = False
        self._switching = False
        self._states = States(rules.away_after)
        self._closing: str | None = None
        self._closed = False
        self._handlers: dict[type[Any], Callable[[Any, float], list[Command]]] = {
            Tick: lambda event, now: [],
            Started: self._on_started,
            UserStarted: self._on_user_started,
            UserStopped: self._on_user_stopped,
            Transcribed: self._on_transcribed,
            TurnJudged: lambda event, now: self._turns.judged(event),
            TurnEndAsked: self._on_turn_end_asked,
            TurnCleared: self._on_turn_cleared,
            Muted: self._on_muted,
            ListenerChanged: self._on_listener,
            Aired: self._on_aired,
            ContextChanged: self._on_context_changed,
            HandOff: self._on_hand_off,
            AgentChanged: self._on_agent_changed,
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
        return self._states.agent

    @property
    def user_state(self) -> UserState:
        return self._states.user

    @property
    def current_speech(self) -> str | None:
        """The id of the speech on the floor."""
        active = self._speeches.active
        return active.id if active is not None else None

    def sounding(self, speech: str) -> Sounding | None:
        """Where a speech is; ``None`` when it has ended, or was never asked for."""
        found = self._speeches.find(speech)
        return found.sounding if found is not None else None

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
            self._guard.deadline(),
            self._states.deadline(),
        )
        return min((time for time in times if time is not None), default=None)

    # --- what follows from any event --------------------------------------------------------------------------------

    def _settle(self, now: float) -> list[Command]:
        commands = more = self._follow(now)
        for _ in range(MAX_PASSES):  # what ends something may let something else go on
            if not more:
                break
            more = self._follow(now)
            commands = commands + more
        speaks, waits = self._turns.speaking and not self._manual, self._turns.hooking
        if self._started:
            commands += self._speeches.give_floor(user_speaks=speaks, turn_waits=waits)
        taking = self._turns.state is not Taking.LISTENING or waits
        commands += self._states.follow(
            now, agent=self._agent_state_now(), speaking=self._turns.speaking, taking=taking
        )
        if self._closing is not None and not self._speeches.live:
            self._closed = True
            commands.append(Close(self._closing))
        return commands

    def _follow(self, now: float) -> list[Command]:
        """One pass over the parts: what follows from how things are now."""
        commands = self._listen()
        commands += self._interrupt(now)
        settled = self._turns.settle(now, aside=lambda text: self._interruption.aside(text, self._speeches.active))
        if _announces(settled, TurnCommitted):
            settled += self._silence_for_turn(now)
        self._unanswered = self._unanswered or _announces(settled, TurnTimedOut)
        commands += settled
        commands += self._turns.next_hook()
        commands += self._begin_early(now)
        commands += self._interrupt(now)  # a turn that came to nothing lets a paused speech go on
        commands += self._tell_results(now)
        commands += self._break_silence(now)
        speaks, waits = self._turns.speaking and not self._manual, self._turns.hooking
        commands += self._speeches.settle(now, user_speaks=speaks, turn_waits=waits)
        return commands + self._hand_off()

    def _listen(self) -> list[Command]:
        """Whether the user is listened to, as things are now."""
        if not self._mute.may_change or not self._mute.judge(
            greeting=self._speeches.greeting, tools=self._speeches.tools_running, speaking=self._agent_is_heard()
        ):
            return []
        commands: list[Command] = [Announce(UserMuted(self._mute.on))]
        if not self._mute.on and (voice := self._mute.take_open()) is not None:
            commands += self._begin_utterance(voice)
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
        self._early = _Early(*foreseen, self._ledger.version)
        return commands + self._speeches.park(self._new_speech_id("early"), foreseen[1], now)

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

    def _hand_off(self) -> list[Command]:
        """Let another agent take the conversation, between two turns."""
        if self._switching or self._closing is not None or not self._speeches.handoffs or self._turns.committed:
            return []
        self._switching = self._turns.hooks_wait = True
        self._ledger.changed()
        return [SwitchAgent(self._speeches.handoffs.popleft())]

    def _tell_results(self, now: float) -> list[Command]:
        """Answer to what tools brought after their speech had been interrupted: one answer to all that is there."""
        if not self._speeches.untold:
            return []
        self._speeches.untold.clear()
        if self._closing is not None:
            return []
        return self._speeches.request(SpeechRequested(self._new_speech_id("tool"), "tool"), now)

    def _break_silence(self, now: float) -> list[Command]:
        """The dead-air guard's next step, if one is due."""
        if not self._rules.dead_air.enabled:
            return []
        guard, active = self._guard, self._speeches.active
        lost, self._speeches.lost = self._speeches.lost and not self._speeches.live, False
        self._unanswered = self._unanswered or lost
        owes = guard.state is Guarding.END or self._unanswered or self._owes()
        if not owes:
            guard.relieved()
        paused = active is not None and active.sounding is Sounding.PAUSED
        counts = owes and self._started and self._present and not (self._audible or paused or self._turns.speaking)
        guard.watch(now, owed=counts, patient=self._speeches.tools_running)
        step, silent = guard.due(now, lost=lost)
        guard.watch(now, owed=counts, patient=self._speeches.tools_running)
        if step is not None:
            return [Announce(DeadAir(step, silent)), *self._take_step(step, silent, now)]
        return self._end_all(EndReason.CLOSED, now) if guard.state is Guarding.OVER else []

    def _take_step(self, step: DeadAirStep, silent: float, now: float) -> list[Command]:
        commands: list[Command] = []
        active, phrase = self._speeches.active, self._rules.dead_air.phrase(step)
        if step == "hold":
            if not phrase or (active is not None and active.sounding is not Sounding.AUTHORISED):
                return []  # what has begun and says nothing loses its place at the next step
            if active is not None:
                commands += self._speeches.hold(active)
        else:
            commands += self._end_all(EndReason.FAILED, now, error=f"nothing was audible for {silent:.1f} s")
            self._unanswered = True
        if step == "end":
            self._closing = "dead air"
            commands += self._drop_early()
        if phrase:
            speech = self._new_speech_id("guard")
            request = SpeechRequested(
                speech, "guard", priority=GUARD_PRIORITY, allow_interruptions=step != "end", text=phrase
            )
            commands += self._speeches.request(request, now)
        return commands

    def _owes(self) -> bool:
        """The user waits for something to hear."""
        return bool(self._speeches.live) or self._turns.hooking or self._turns.waits_for_words

    def _end_all(self, reason: EndReason, now: float, *, error: str = "") -> list[Command]:
        commands: list[Command] = []
        for speech in self._speeches.live:
            speech.error = speech.error or error
            commands += self._speeches.end_early(speech, reason, now)
        return commands

    def _agent_state_now(self) -> AgentState:
        if not self._started:
            return AgentState.INITIALIZING
        if self._agent_is_heard():
            return AgentState.SPEAKING
        if self._turns.hooking or any(_thinks(speech) for speech in self._speeches.live):
            return AgentState.THINKING
        return AgentState.LISTENING

    def _agent_is_heard(self) -> bool:
        active = self._speeches.active
        return active is not None and active.audible

    # --- events -----------------------------------------------------------------------------------------------------

    def _on_started(self, event: Started, now: float) -> list[Command]:
        if self._started:
            return [Drop("Started", "the session has started already")]
        self._started = True
        if event.resumed:
            self._speeches.greeting_over()
        return []

    def _on_user_started(self, event: UserStarted, now: float) -> list[Command]:
        return [] if self._mute.swallows(event) else self._begin_utterance(event)

    def _begin_utterance(self, event: UserStarted) -> list[Command]:
        commands = self._turns.started(event)
        if not commands:
            self._interruption.voice_began(event.at)
        return commands

    def _on_user_stopped(self, event: UserStopped, now: float) -> list[Command]:
        if self._mute.swallows(event):
            return []
        commands = self._turns.stopped(event, now)
        if not commands:
            self._interruption.voice_ended(now)
        return commands

    def _on_transcribed(self, event: Transcribed, now: float) -> list[Command]:
        if self._mute.swallows(event):
            return []
        commands = self._turns.transcribed(event, now)
        if (turn := self._turns.noted(event)) is not None:
            commands.append(self._ledger.commit(Message(turn.item, "user", turn.text)))
        active = self._speeches.active
        taken = bool(event.text.strip()) and not any(isinstance(command, Drop) for command in commands)
        if taken and active is not None and self._turns.voiceless:
            commands += self._stop_by_words(active, now)
        return commands

    def _stop_by_words(self, active: Speech, now: float) -> list[Command]:
        stops = self._interruption.by_words(active, self._turns.words)
        return self._speeches.end_early(active, EndReason.INTERRUPTED, now) if stops else []

    def _on_turn_end_asked(self, event: TurnEndAsked, now: float) -> list[Command]:
        self._interruption.voice_ended(now)
        return self._turns.end_asked(now, skip_reply=event.skip_reply)

    def _on_turn_cleared(self, event: TurnCleared, now: float) -> list[Command]:
        self._interruption.voice_ended(now)
        return self._turns.cleared(now)

    def _on_muted(self, event: Muted, now: float) -> list[Command]:
        self._mute.ask(event.on)
        return []

    def _on_hand_off(self, event: HandOff, now: float) -> list[Command]:
        self._speeches.handoffs.append(event.agent)
        return []

    def _on_listener(self, event: ListenerChanged, now: float) -> list[Command]:
        self._present = event.present
        return []

    def _on_aired(self, event: Aired, now: float) -> list[Command]:
        self._audible = event.audible
        active = self._speeches.active
        if event.audible:
            self._unanswered = False
            if active is not None and active.source != "guard":
                self._guard.relieved()
        return []

    def _on_context_changed(self, event: ContextChanged, now: float) -> list[Command]:
        self._ledger.changed()
        return []

    def _on_agent_changed(self, event: AgentChanged, now: float) -> list[Command]:
        if not self._switching:
            return [Drop("AgentChanged", f"nobody asked for {event.agent}")]
        self._switching = self._turns.hooks_wait = False
        self._ledger.changed()
        return []

    def _on_typed(self, event: UserTyped, now: float) -> list[Command]:
        return self._turns.typed(event.text, now, skip_reply=event.skip_reply) + self._silence_for_turn(now)

    def _on_hook_finished(self, event: HookFinished, now: float) -> list[Command]:
        turn, commands = self._turns.hook_finished(event)
        if turn is None:
            return commands
        if not event.go_on or self._closing is not None:
            drop = self._early is not None and self._early.turn == turn.id
            return self._drop_early() if drop else []
        early = self._early if self._early is not None and self._early.turn == turn.id else None
        if not turn.skip_reply:
            commands += self._supersede(now)
        same = early == _Early(turn.id, event.text, self._ledger.version) and not event.changed
        turn.item = self._ledger.new_id()
        text = turn.text if event.text == turn.told else event.text  # words may have come while the hook ran
        commands.append(self._ledger.commit(Message(turn.item, "user", text)))
        if same and not turn.skip_reply and self._speeches.parked_well:
            self._early = None
            return commands + self._speeches.adopt(allow_interruptions=not turn.exceeded)
        if early is not None:
            commands += self._drop_early()
        return commands if turn.skip_reply else commands + self._speeches.request(_answer(turn), now)

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
        speech.allow_interruptions = speech.stoppable = event.allow_interruptions
        return []

    def _on_interrupt(self, event: InterruptAsked, now: float) -> list[Command]:
        commands: list[Command] = []
        found = False
        for speech in self._speeches.live:
            if (event.speech and speech.id != event.speech) or (event.group and speech.group != event.group):
                continue
            found = True
            if speech.allow_interruptions or speech.stoppable or event.force:
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

    def _new_speech_id(self, kind: str) -> str:
        self._own_speeches += 1
        return f"{kind}_{self._own_speeches}"


def _answer(turn: Turn) -> SpeechRequested:
    return SpeechRequested(f"reply_{turn.id}", "turn", place="next", allow_interruptions=not turn.exceeded)


def _announces(commands: list[Command], kind: type[Any]) -> bool:
    return any(isinstance(command, Announce) and isinstance(command.notice, kind) for command in commands)


def _thinks(speech: Speech) -> bool:
    """An answer is on its way, and nothing of this step is heard yet."""
    waits = speech.sounding in (Sounding.AUTHORISED, Sounding.YIELDED)
    return speech.source not in ("say", "guard") and (waits or speech.making is Making.RUNNING)
