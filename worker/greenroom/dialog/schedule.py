"""Which speech has the floor. At most one at any time; the rest wait in order of priority, place and arrival.

Rules:

1. A speech is made as soon as it is requested; it is heard when the floor is free and it is the first in the queue.
2. While one plays, the audio of the next is made, so that speeches follow each other without a gap.
   None begins to sound while the user speaks (unless it is protected), and no answer while a newer turn waits for its
   hook: it is held back, and goes on when the way is free.
3. A speech that waits for its tools gives the floor away, and when it goes on it is ahead of its equals.
4. Interrupting a speech on the floor keeps the floor until the track is silent. If that is not reported within
   ``STOP_TIMEOUT`` the floor is taken anyway.
5. Whatever became of a speech, a tool that returned is in the history, after the words that came before it
   (``toolcalls``). When a tool hands the conversation to another agent, that happens once its speech has ended; of
   several that do so in one speech, the last one counts.
"""

from __future__ import annotations

from collections import deque

from greenroom.dialog.commands import (
    Announce,
    CancelGeneration,
    Command,
    Drop,
    Generate,
    Hold,
    Pause,
    Play,
    Resume,
    Stop,
    Synthesise,
)
from greenroom.dialog.events import EndReason, Generated, Played, SpeechRequested, Synthesised, ToolFinished
from greenroom.dialog.history import Message
from greenroom.dialog.ledger import Ledger
from greenroom.dialog.notices import EarlyReplyDiscarded, FalseInterruption, SpeechCreated, SpeechEnded, SpeechStarted
from greenroom.dialog.speech import Making, Sounding, Speech, Step
from greenroom.dialog.toolcalls import ToolCalls

__all__ = ["STOP_TIMEOUT", "SpeechScheduler"]

STOP_TIMEOUT = 2.0
"""How long a speech that was told to stop may hold the floor without a word from playout. Seconds."""


class SpeechScheduler:
    """The speeches of one dialog. A part of ``Dialog``: its methods return the commands that follow."""

    def __init__(self, ledger: Ledger, *, max_tool_steps: int, early_voice: bool = False) -> None:
        self._ledger = ledger
        self._max_tool_steps = max_tool_steps
        self._early_voice = early_voice
        self._speeches: dict[str, Speech] = {}
        self._parked: Speech | None = None
        self._floor: Speech | None = None
        self._tools = ToolCalls(ledger)
        self.handoffs: deque[str] = deque()
        """Agents that are to take the conversation, in order."""
        self.untold: deque[str] = deque()
        """Calls whose speech was interrupted, and whose results are to be told to the user."""
        self.lost = False
        """An answer has failed before anything of it was heard."""
        self._arrivals = 0
        self._stop_due: float | None = None

    @property
    def active(self) -> Speech | None:
        """The speech on the floor, audible or about to be."""
        speech = self._floor
        return speech if speech is not None and speech.on_the_floor else None

    @property
    def live(self) -> list[Speech]:
        """All that have not ended, in order of arrival."""
        return list(self._speeches.values())

    def find(self, speech_id: str) -> Speech | None:
        return self._speeches.get(speech_id)

    @property
    def greeting(self) -> bool:
        """The first speech of the conversation waits or is heard."""
        return any(speech.arrival == 1 for speech in self._speeches.values())

    def greeting_over(self) -> None:
        """The conversation had its first speech before it came here."""
        self._arrivals = max(self._arrivals, 1)

    @property
    def tools_running(self) -> bool:
        return self._tools.running

    def deadline(self) -> float | None:
        times = [expires for speech in self._speeches.values() if (expires := speech.expires()) is not None]
        if self._stop_due is not None:
            times.append(self._stop_due)
        return min(times, default=None)

    # --- requests -----------------------------------------------------------------------------------------------

    def request(self, event: SpeechRequested, now: float) -> list[Command]:
        """Take a new speech into the queue and begin to make it."""
        own = event.text if event.source == "guard" else ""
        commands: list[Command] = [Announce(SpeechCreated(event.speech, event.source, own))]
        if event.key and any(speech.key == event.key for speech in self._speeches.values()):
            return [*commands, Announce(SpeechEnded(event.speech, EndReason.DUPLICATE))]
        if event.place == "replace":
            for other in self.live:
                if other.allow_interruptions and other.priority <= event.priority:
                    commands += self.end_early(other, EndReason.REPLACED, now)
        self._arrivals += 1
        speech = Speech(
            id=event.speech,
            source=event.source,
            priority=event.priority,
            place=event.place,
            arrival=self._arrivals,
            allow_interruptions=event.allow_interruptions,
            in_history=event.in_history,
            requested=now,
            stoppable=event.stoppable,
            ttl=event.ttl,
            key=event.key,
            group=event.group,
        )
        self._speeches[speech.id] = speech
        if event.user_input:
            commands.append(self._ledger.commit(Message(self._ledger.new_id(), "user", event.user_input), speech.id))
        return commands + self._make_next_step(speech)

    def park(self, speech_id: str, user_text: str, now: float) -> list[Command]:
        """Begin to make an answer that nobody may hear yet, and none of whose tools may run."""
        self._arrivals += 1
        self._parked = Speech(
            id=speech_id,
            source="turn",
            priority=5,
            place="next",
            arrival=self._arrivals,
            allow_interruptions=True,
            in_history=True,
            requested=now,
            sounding=Sounding.PARKED,
        )
        commands = self._make_next_step(self._parked, user_text)
        return commands + self._synthesise(self._parked) if self._early_voice else commands

    @property
    def parked_well(self) -> bool:
        """There is a parked answer, and it has not failed."""
        parked = self._parked
        return parked is not None and parked.making in (Making.RUNNING, Making.MADE) and not parked.error

    def adopt(self, *, allow_interruptions: bool = True) -> list[Command]:
        """The turn was committed as it was foreseen: the parked answer is its answer."""
        speech, self._parked = self._parked, None
        if speech is None:
            return []
        speech.allow_interruptions = allow_interruptions
        speech.sound(Sounding.QUEUED)
        self._speeches[speech.id] = speech
        commands: list[Command] = [Announce(SpeechCreated(speech.id, speech.source))]
        if speech.making is Making.MADE:
            commands += self._run_tools(speech)
        return commands

    def hold(self, speech: Speech) -> list[Command]:
        """Take the floor back from a speech of which nothing has sounded."""
        speech.sound(Sounding.QUEUED)
        return [Hold(speech.id, speech.sounding_step)]

    def discard(self) -> list[Command]:
        """The turn went on, or was changed: the parked answer is worth nothing."""
        speech, self._parked = self._parked, None
        if speech is None:
            return []
        speech.make(Making.CANCELLED)
        return [CancelGeneration(speech.id), Announce(EarlyReplyDiscarded(speech.id))]

    def end_early(self, speech: Speech, reason: EndReason, now: float) -> list[Command]:
        """Interrupt, replace, supersede or close a speech; what becomes of its tools they say themselves."""
        if speech.sounding is Sounding.STOPPING:
            return []
        commands = self._tools.interrupted(speech)
        if speech.making is not Making.CANCELLED:
            speech.make(Making.CANCELLED)
            commands.append(CancelGeneration(speech.id))
        if speech.on_the_floor:
            speech.sound(Sounding.STOPPING)
            speech.end_reason = reason
            self._stop_due = now + STOP_TIMEOUT
            return [*commands, Stop(speech.id, speech.sounding_step)]
        return commands + self._end(speech, reason)

    def pause(self, speech: Speech) -> list[Command]:
        """Silence the speech that plays, on suspicion that it is being interrupted."""
        speech.sound(Sounding.PAUSED)
        speech.sounds = False
        return [Pause(speech.id, speech.sounding_step)]

    def resume(self, speech: Speech) -> list[Command]:
        """It was a false alarm."""
        speech.sound(Sounding.PLAYING)
        speech.sounds = True
        return [Resume(speech.id, speech.sounding_step), Announce(FalseInterruption(speech.id))]

    # --- what became of a speech ----------------------------------------------------------------------------------

    def generated(self, event: Generated) -> list[Command]:
        parked = self._parked if self._parked is not None and self._parked.id == event.speech else None
        speech = parked or self._speeches.get(event.speech)
        if speech is None or speech.making is not Making.RUNNING or event.step != speech.step.number:
            return [Drop("Generated", f"speech {event.speech} step {event.step} is not being made")]
        if event.what == "first":
            return []
        step = speech.step
        step.text = event.text
        if event.what == "failed":
            speech.make(Making.FAILED)
            speech.error = event.error or "the model failed"
            if parked is not None or speech.on_the_floor:
                return []
            return [CancelGeneration(speech.id), *self._end(speech, EndReason.FAILED)]
        step.ended = True
        step.asked = event.calls
        speech.make(Making.MADE)
        return [] if parked is not None else self._run_tools(speech)

    def synthesised(self, event: Synthesised) -> list[Command]:
        parked = self._parked if self._parked is not None and self._parked.id == event.speech else None
        speech = parked or self._speeches.get(event.speech)
        if speech is None or speech.step_numbered(event.step) is None:
            return [Drop("Synthesised", f"speech {event.speech} is over")]
        if event.what != "failed":
            return []
        speech.error = speech.error or event.error or "the voice failed"
        if parked is not None or speech.on_the_floor:
            return []  # what was made is heard; its playout then ends the speech
        return [CancelGeneration(speech.id), *self._end(speech, EndReason.FAILED)]

    def played(self, event: Played, now: float) -> list[Command]:
        speech = self._speeches.get(event.speech)
        if speech is None or not speech.on_the_floor or event.step != speech.sounding_step:
            return [Drop("Played", f"speech {event.speech} step {event.step} does not have the floor")]
        if event.what == "started":
            return self._started(speech, event)
        if event.what in ("paused", "resumed"):
            return []
        commands = self._step_heard(speech, event)
        speech.sounds = False
        step = speech.steps[event.step - 1]
        if speech.sounding is Sounding.STOPPING:
            self._stop_due = None
            return commands + self._end(speech, speech.end_reason or EndReason.INTERRUPTED)
        if event.what == "stopped" or speech.error or not step.ended:
            if speech.making is not Making.CANCELLED:
                speech.make(Making.CANCELLED)
                commands.append(CancelGeneration(speech.id))
            speech.error = speech.error or "playout ended before the speech did"
            return commands + self._end(speech, EndReason.FAILED)
        if speech.step.number > event.step:
            speech.sounding_step += 1
            speech.sound(Sounding.QUEUED)
            return commands
        if step.calls:
            speech.sound(Sounding.YIELDED)
            return commands
        return commands + self._end(speech, EndReason.FINISHED)

    def tool_finished(self, event: ToolFinished) -> list[Command]:
        speech, step, commands = self._tools.finished(event)
        if speech is None or step is None:
            return commands
        cut_off = speech.sounding in (Sounding.STOPPING, Sounding.ENDED)
        if cut_off and event.reply and speech.calls[event.call_id].on_interrupt == "tell":
            self.untold.append(event.call_id)
        if event.agent and speech.sounding is Sounding.ENDED:
            self.handoffs.append(event.agent)
        elif event.agent:
            speech.handoff = event.agent
        return commands + self._go_on(speech)

    def _go_on(self, speech: Speech) -> list[Command]:
        """Once all tools of its step have returned, make the next step, or let the speech end."""
        step = speech.step
        if step.calls or not step.asked or speech.making is not Making.MADE or speech.error:
            return []
        commands: list[Command] = []
        if step.wants_reply:
            commands += self._make_next_step(speech)
            if speech.sounding is Sounding.YIELDED:
                speech.sounding_step += 1
                speech.sound(Sounding.QUEUED)
        elif speech.sounding is Sounding.YIELDED:
            commands += self._end(speech, EndReason.FINISHED)
        return commands

    # --- the floor ------------------------------------------------------------------------------------------------

    def settle(self, now: float, *, user_speaks: bool, turn_waits: bool) -> list[Command]:
        """Hold back what may not begin now, and end what has waited too long. Call after every event."""
        commands: list[Command] = []
        active = self.active
        if active is not None and active.sounding is Sounding.AUTHORISED and _held(active, user_speaks, turn_waits):
            commands += self.hold(active)
        for speech in self.live:
            expires = speech.expires()
            if expires is not None and expires <= now:
                commands += self.end_early(speech, EndReason.EXPIRED, now)
        if self._stop_due is not None and self._stop_due <= now:
            self._stop_due = None
            if (stuck := self.active) is not None:
                stuck.error = "playout did not report its stop"
                commands += self._end(stuck, stuck.end_reason or EndReason.INTERRUPTED)
        return commands

    def give_floor(self, *, user_speaks: bool, turn_waits: bool) -> list[Command]:
        """Let whoever is next be heard, once the floor is free. Call after ``settle``."""
        waiting = [speech for speech in self._speeches.values() if speech.sounding is Sounding.QUEUED]
        if not waiting:
            return []
        first = min(waiting, key=lambda speech: speech.order)
        if (active := self.active) is not None:
            return self._synthesise(first) if active.sounding is Sounding.PLAYING else []
        if _held(first, user_speaks, turn_waits):
            return []
        commands = self._synthesise(first)
        first.sound(Sounding.AUTHORISED)
        self._floor = first
        return [*commands, Play(first.id, first.sounding_step)]

    # --- pieces ---------------------------------------------------------------------------------------------------

    def _make_next_step(self, speech: Speech, user_text: str = "") -> list[Command]:
        speech.steps.append(Step(len(speech.steps) + 1))
        speech.make(Making.RUNNING)
        return [Generate(speech.id, speech.step.number, user_text)]

    def _run_tools(self, speech: Speech) -> list[Command]:
        """Run what the step that was just made asks for, each call once."""
        if speech.step.number > self._max_tool_steps:
            return []
        speech.calls.update((call.call_id, call) for call in speech.step.asked)
        commands, touched = self._tools.run(speech)
        for other in touched:
            commands += self._go_on(other)
        return commands + (self._go_on(speech) if speech.step.wants_reply else [])

    def _synthesise(self, speech: Speech) -> list[Command]:
        step = speech.steps[speech.sounding_step - 1]
        if step.synthesised:
            return []
        step.synthesised = True
        return [Synthesise(speech.id, step.number)]

    def _started(self, speech: Speech, event: Played) -> list[Command]:
        if speech.sounding is Sounding.AUTHORISED:
            speech.sound(Sounding.PLAYING)
            speech.sounds = True
        if speech.heard:
            return []
        speech.heard = True
        return [Announce(SpeechStarted(speech.id, event.at))]

    def _step_heard(self, speech: Speech, event: Played) -> list[Command]:
        """The words of a step that is over, and then the results that its tools left, in that order."""
        commands: list[Command] = []
        if speech.in_history and event.text.strip():
            message = Message(self._ledger.new_id(), "assistant", event.text.strip(), event.what == "stopped")
            commands.append(self._ledger.commit(message, speech.id))
        step = speech.steps[event.step - 1]
        step.sounded = True
        return commands + self._tools.flush(speech, step)

    def _end(self, speech: Speech, reason: EndReason) -> list[Command]:
        commands: list[Command] = []
        for step in speech.steps:
            commands += self._tools.flush(speech, step)
        speech.sound(Sounding.ENDED)
        speech.end_reason = reason
        del self._speeches[speech.id]
        if speech.handoff:
            self.handoffs.append(speech.handoff)
        answers = speech.source in ("turn", "generate_reply", "tool")
        self.lost = self.lost or (reason is EndReason.FAILED and answers and not speech.heard)
        return [*commands, Announce(SpeechEnded(speech.id, reason, speech.error))]


def _held(speech: Speech, user_speaks: bool, turn_waits: bool) -> bool:
    """It may not begin to sound now: the user speaks, or it answers a turn and a newer one waits for its hook."""
    return speech.allow_interruptions and (user_speaks or (turn_waits and speech.source == "turn"))
