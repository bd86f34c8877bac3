"""The speeches, and who has the floor: properties 1 to 4."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from greenroom.dialog import commands as do
from greenroom.dialog import events as ev
from greenroom.dialog import notices as news

from .moment import Handlers, Moment
from .turns import Turns

__all__ = ["Act", "Floor"]

GUARD_PRIORITY = 100
OnTheFloor: TypeAlias = do.Hold | do.Pause | do.Resume | do.Stop


@dataclass(slots=True)
class Act:
    """A speech as it is seen from outside. ``steps``: begun, ``made``: with all their text, ``over``: heard.

    ``stopped_as``: the reasons that its end may have, once it was told to stop.
    """

    asked: ev.SpeechRequested
    asked_at: float
    arrival: int = 0
    protected: bool = False
    stoppable: bool = False
    created: bool = False
    created_by: ev.Event | None = None
    cancelled: bool = False
    failed: bool = False
    stopped_as: set[ev.EndReason] | None = None
    ended: ev.EndReason | None = None
    user_text: str = ""
    version: int = 0
    steps: int = 0
    made: int = 0
    over: int = 0
    heard: bool = False
    voiced: set[int] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)

    @property
    def id(self) -> str:
        return self.asked.speech

    @property
    def order(self) -> tuple[int, int, int]:
        rank = 0 if self.over else 1 if self.asked.place != "queue" else 2
        return (-self.asked.priority, rank, self.arrival)

    @property
    def waits(self) -> bool:
        """It has a step that is to be heard."""
        return self.created and self.ended is None and not self.cancelled and self.steps > self.over


class Floor:
    """``running``: the calls of tools that run, by speech, are kept here by ``Tools``."""

    def __init__(self, moment: Moment, turns: Turns) -> None:
        self._moment = moment
        self._turns = turns
        self.acts: dict[str, Act] = {}
        self.live: dict[str, Act] = {}
        self.active: Act | None = None
        self.sounds = False
        self.paused = False
        self.early: Act | None = None
        self.events: Handlers = {
            ev.ProtectionChanged: self._protection_changed,
            ev.Generated: self._generated,
            ev.Synthesised: self._synthesised,
            ev.Played: self._played,
        }
        self.commands: Handlers = {
            do.Generate: self._generate,
            do.CancelGeneration: self._cancel,
            do.Synthesise: self._synthesise,
            do.Play: self._play,
            do.Hold: self._hold,
            do.Pause: self._pause,
            do.Resume: self._resume,
            do.Stop: self._stop,
        }
        self.notices: Handlers = {
            news.SpeechCreated: self._created,
            news.EarlyReplyDiscarded: self._discarded,
            news.SpeechStarted: self._started,
            news.SpeechEnded: self._ended,
        }

    @property
    def audible(self) -> bool:
        return self.active is not None and self.sounds and not self.paused

    def may_drop(self, event: ev.Event) -> bool:
        """Too late for a speech that is being stopped."""
        active = self.active
        if active is None or active.stopped_as is None:
            return False
        return isinstance(event, ev.ProtectionChanged) and event.speech == active.id

    def afterwards(self) -> None:
        """The floor is not free while somebody may have it, and nobody is heard who may not be."""
        active, first = self.active, self._first()
        if active is None:
            assert first is None or self._held(first) or not self._moment.started, f"{first} is kept waiting"
        elif not self.sounds and not active.stopped_as:
            assert not self._held(active), f"{active} may begin though it is to be held back"
        if self.paused and active is not None and not active.stopped_as:
            assert not active.protected, "a protected speech stays paused"

        self._newest_answer()
        self._twice()

    def _newest_answer(self) -> None:
        """An answer to a turn takes the place of those before it."""
        event = self._moment.event
        if not isinstance(event, ev.HookFinished) or not self._moment.announced(news.SpeechCreated):
            return
        for act in self.live.values():
            older = act.asked.source == "turn" and not act.protected and act.created_by is not event
            assert not older or act.stopped_as, f"{act} is not superseded"

    def _twice(self) -> None:
        """Of two speeches with the same key, one is heard."""
        event = self._moment.event
        if isinstance(event, ev.SpeechRequested) and event.key and event.speech in self.live:
            same = [act.id for act in self.live.values() if act.asked.key == event.key]
            assert same == [event.speech], f"{same} have the same key"

    def rested(self) -> None:
        assert not self.live, f"speeches that never end: {list(self.live)}"
        assert self.active is None
        assert self.early is None, "an early answer is neither kept nor discarded"

    # --- events -----------------------------------------------------------------------------------------------------

    def _protection_changed(self, event: ev.ProtectionChanged) -> None:
        act = self.acts[event.speech]
        act.protected, act.stoppable = not event.allow_interruptions, event.allow_interruptions

    def _generated(self, event: ev.Generated) -> None:
        act = self.acts[event.speech]
        assert event.step == act.steps
        if event.what == "end":
            act.made = event.step
        elif event.what == "failed":
            act.failed = True

    def _synthesised(self, event: ev.Synthesised) -> None:
        if event.what == "failed":
            self.acts[event.speech].failed = True

    def _played(self, event: ev.Played) -> None:
        act = self.active
        assert act is not None
        assert act.id == event.speech
        if event.what == "started":
            self.sounds = True
        elif event.what in ("finished", "stopped"):
            act.over = event.step
            self._leave()

    # --- making -----------------------------------------------------------------------------------------------------

    def _generate(self, command: do.Generate) -> None:
        act = self.acts.get(command.speech)
        if act is None:
            assert command.user_text, "an early answer to nothing"
            assert self.early is None, "two early answers"
            self.early = act = self._new_act(ev.SpeechRequested(command.speech, "turn", place="next"))
            act.user_text, act.version = command.user_text, self._moment.version
        act.arrival = act.arrival or len(self.acts)
        self._wanted(act)
        assert not act.failed
        assert command.step == act.steps + 1, "a step is skipped, or made twice"
        assert command.step <= self._moment.rules.max_tool_steps + 1, "too many steps"
        assert act.made == act.steps, "a step is begun before the one before was made"
        assert not act.calls, f"a step is begun before {act.calls} have returned"
        act.steps = command.step

    def _cancel(self, command: do.CancelGeneration) -> None:
        act = self.acts[command.speech]
        self._wanted(act)
        act.cancelled = True

    def _synthesise(self, command: do.Synthesise) -> None:
        act = self.acts[command.speech]
        self._wanted(act)
        assert act.over < command.step <= act.steps, "another step is voiced than the next"
        assert command.step not in act.voiced, "a step is voiced twice"
        assert act.created or self._moment.rules.preemptive_tts
        act.voiced.add(command.step)

    def _wanted(self, act: Act) -> None:
        assert act.ended is None, f"{act.id} has ended"
        assert not act.cancelled, f"{act.id} was cancelled"

    # --- the floor --------------------------------------------------------------------------------------------------

    def _play(self, command: do.Play) -> None:
        act = self.acts[command.speech]
        assert self.active is None, f"{act.id} is played, and {self.active} has the floor"
        assert act is self._first(), f"{act.id} is played before {self._first()}"
        assert command.step == act.over + 1
        assert command.step in act.voiced
        assert not self._held(act), f"{act} is heard over the user, or before a newer turn was looked at"
        assert self._moment.started
        self.active = act
        self.sounds = self.paused = False

    def _hold(self, command: do.Hold) -> None:
        act = self._on_the_floor(command)
        assert not self.sounds, "held after it was heard"
        assert self._held(act) or self._moment.guard == "hold", "held for nothing"
        self._leave()

    def _pause(self, command: do.Pause) -> None:
        act = self._on_the_floor(command)
        rules = self._moment.rules.interruption
        assert self.sounds, "paused before it was heard"
        assert not self.paused, "paused twice"
        assert not act.protected, "a protected speech is paused"
        assert self._turns.voice, "paused without a voice"
        assert rules.enabled
        assert rules.pause
        self.paused = True

    def _resume(self, command: do.Resume) -> None:
        self._on_the_floor(command)
        assert self.paused, "resumed without a pause"
        self.paused = False

    def _stop(self, command: do.Stop) -> None:
        act = self._on_the_floor(command)
        act.stopped_as = self._causes(act)
        assert act.stopped_as, f"{act} is stopped for nothing"

    def _on_the_floor(self, command: OnTheFloor) -> Act:
        act = self.active
        assert act is not None, f"{command}, but nobody has the floor"
        assert (act.id, act.over + 1) == (command.speech, command.step), f"{command}, but {act} has the floor"
        assert act.stopped_as is None, f"{command} after it was stopped"
        return act

    def _leave(self) -> None:
        self.active = None
        self.sounds = self.paused = False

    def _held(self, act: Act) -> bool:
        """The user speaks, or it answers a turn and a newer one waits for its hook."""
        speaks = self._turns.speaks and self._moment.rules.turns.detection != "manual"
        return not act.protected and (speaks or (act.asked.source == "turn" and self._turns.waiting))

    def _first(self) -> Act | None:
        waiting = [act for act in self.live.values() if act.waits and act is not self.active]
        return min(waiting, key=lambda act: act.order, default=None)

    # --- beginnings and ends ----------------------------------------------------------------------------------------

    def _new_act(self, asked: ev.SpeechRequested) -> Act:
        act = Act(asked, self._moment.now, protected=not asked.allow_interruptions, stoppable=asked.stoppable)
        self.acts[act.id] = act
        return act

    def _created(self, notice: news.SpeechCreated) -> None:
        act = self.acts.get(notice.speech)
        if act is None:
            act = self._new_act(self._request_of(notice))
        else:
            self._adopted(act)
        assert act.asked.source == notice.source
        act.created, act.created_by = True, self._moment.event
        self.live[act.id] = act

    def _request_of(self, notice: news.SpeechCreated) -> ev.SpeechRequested:
        """Who asked for it, and how."""
        event = self._moment.event
        if isinstance(event, ev.SpeechRequested) and event.speech == notice.speech:
            return event
        if notice.source == "turn":
            assert isinstance(event, ev.HookFinished)
            assert notice.speech == f"reply_{event.turn}"
            protected = event.turn in self._turns.exceeded
            return ev.SpeechRequested(notice.speech, "turn", place="next", allow_interruptions=not protected)
        if notice.source == "tool":
            return ev.SpeechRequested(notice.speech, "tool")
        assert notice.source == "guard"
        assert notice.text, "a guard's speech without words"
        (broken,) = self._moment.announced(news.DeadAir)
        return ev.SpeechRequested(
            notice.speech, "guard", priority=GUARD_PRIORITY, allow_interruptions=broken.step != "end"
        )

    def _adopted(self, act: Act) -> None:
        event = self._moment.event
        assert act is self.early, f"{act.id} was created before"
        assert isinstance(event, ev.HookFinished)
        assert event.go_on
        assert not event.changed, "an early answer is kept though its hook changed something"
        assert event.text == act.user_text, "an early answer to other words is kept"
        assert act.version == self._moment.version - 1, "an early answer is kept though the history went on"
        assert not act.failed
        act.protected = event.turn in self._turns.exceeded
        self.early = None

    def _discarded(self, notice: news.EarlyReplyDiscarded) -> None:
        act = self.early
        assert act is not None
        assert act.id == notice.speech
        assert act.cancelled, "an early answer is discarded, and still made"
        act.ended = ev.EndReason.SUPERSEDED
        self.early = None

    def _started(self, notice: news.SpeechStarted) -> None:
        act = self.active
        assert act is not None
        assert act.id == notice.speech
        assert self.sounds
        assert not act.heard, "it started twice"
        act.heard = True

    def _ended(self, notice: news.SpeechEnded) -> None:
        act = self.live.pop(notice.speech)
        assert act.ended is None, "it ended twice"
        if act is self.active:
            assert act.stopped_as, "it ended on the floor, and was not stopped"
            self._leave()  # its stop was not reported in time
        if act.stopped_as is None:
            self._bears_out(act, notice.reason)
        else:
            assert notice.reason in act.stopped_as, f"stopped as {act.stopped_as}, ended as {notice.reason}"
        assert notice.error or notice.reason is not ev.EndReason.FAILED
        act.ended = notice.reason

    def _bears_out(self, act: Act, reason: ev.EndReason) -> None:
        """The story of a speech that was not cut off tells why it ended."""
        match reason:
            case ev.EndReason.FINISHED:
                assert act.made == act.steps == act.over, "it finished before all of it was heard"
                assert not act.cancelled
                assert not act.calls, "it finished before its tools"
            case ev.EndReason.FAILED:
                assert act.failed or self._moment.guard
            case ev.EndReason.DUPLICATE:
                assert act.asked.key
                assert any(act.asked.key == other.asked.key for other in self.live.values())
            case ev.EndReason.EXPIRED:
                assert act.asked.ttl is not None
                assert not act.heard
                assert self._moment.now >= act.asked_at + act.asked.ttl
            case _:
                assert reason in self._causes(act), f"{act} is {reason} for nothing"

    def _causes(self, act: Act) -> set[ev.EndReason]:
        """Why a speech may be ended early just now."""
        moment, event = self._moment, self._moment.event
        causes: set[ev.EndReason] = set()
        if moment.guard and moment.guard != "hold":
            causes.add(ev.EndReason.CLOSED if moment.guard == "over" else ev.EndReason.FAILED)
        match event:
            case ev.CloseAsked(drain=False):
                causes.add(ev.EndReason.CLOSED)
            case ev.SpeechRequested(speech=speech) if speech == act.id and moment.closing:
                causes.add(ev.EndReason.CLOSED)
            case ev.InterruptAsked(speech=speech, group=group, force=force):
                meant = speech in ("", act.id) and group in ("", act.asked.group)
                if meant and (force or act.stoppable or not act.protected):
                    causes.add(ev.EndReason.INTERRUPTED)
            case _ if act.protected:
                pass
            case ev.SpeechRequested(place="replace", priority=priority) if priority >= act.asked.priority:
                causes.add(ev.EndReason.REPLACED)
            case ev.HookFinished(go_on=True) if act.asked.source == "turn":
                causes.add(ev.EndReason.INTERRUPTED if act.heard else ev.EndReason.SUPERSEDED)
        if act.heard and not act.protected and self._turns.interrupts:
            causes.add(ev.EndReason.INTERRUPTED)
        return causes
