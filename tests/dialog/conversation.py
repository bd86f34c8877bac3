"""A world around the dialog that behaves as the real one may, and is told what happens next, move by move.

``Conversation`` does what the dialog commands: texts that are to be made, voices, hooks, tools and the track become
things that are under way, until a move brings them on. Whatever is to be heard has a known text, so that it can be told
what of it was heard when. Each public method without an underscore in ``MOVES`` is a move; one that has nothing to
happen to does nothing, so that any list of moves is a conversation. ``Witness`` is shown every event and command.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from greenroom.dialog import commands as do
from greenroom.dialog import events as ev
from greenroom.dialog import notices as news
from greenroom.dialog.dialog import Dialog, DialogRules
from greenroom.dialog.speech import Sounding
from greenroom.journal.format import decode_event, encode_event

from .witness import Witness

__all__ = ["Circumstances", "Conversation"]

HookOutcome: TypeAlias = Literal["go on", "stop", "change", "reword"]
WORDS_A_SECOND = 3.0
LONGEST_REST = 80
"""Rounds within which everything that is under way has come to its end."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a conversation is held under, besides the dialog's own rules.

    ``hook``: the agent has one, and it takes time. ``names``: the transcriber says which utterance its words belong to.
    ``mute_voice``: the agent's voice makes nothing that can be heard. ``late``: ticks come only after other events.
    ``resumed``: another process began it.
    """

    rules: DialogRules = field(default_factory=DialogRules)
    hook: bool = True
    names: bool = True
    mute_voice: bool = False
    late: bool = False
    resumed: bool = False


class Conversation:
    """One conversation, from ``begin`` to ``finish``."""

    def __init__(self, circumstances: Circumstances | None = None) -> None:
        self.circumstances = circumstances or Circumstances()
        rules = self.circumstances.rules
        self.dialog = Dialog(rules)
        self.now = 0.0
        self.events: list[tuple[float, ev.Event]] = []
        self.commands: list[list[do.Command]] = []
        self.texts: dict[tuple[str, int], str] = {}
        self.witness = Witness(rules, self.texts)
        self.closed = False
        self._queue: deque[tuple[ev.Event, bool]] = deque()
        self._running = False
        self._count = 0
        # What is under way.
        self._making: dict[str, int] = {}
        self._voicing: set[tuple[str, int]] = set()
        self._voice_failed: set[tuple[str, int]] = set()
        self._made: set[tuple[str, int]] = set()
        self._playing: tuple[str, int] | None = None
        self._sounds = False
        self._paused = False
        self._heard = 0.0
        self._heard_until = 0.0
        self._audible = False
        self._stuck = False
        self._hooks: deque[do.RunHook] = deque()
        self._judging: deque[do.Judge] = deque()
        self._switching: deque[str] = deque()
        self._tools: dict[str, do.RunTool] = {}
        self._called: list[str] = []
        # The user.
        self._utterance = ""
        self._voice_at = 0.0
        self._owed: deque[str] = deque()
        self._said_more = False
        # The speeches that were announced.
        self._live: dict[str, None] = {}
        self._over: list[str] = []
        self._perform: dict[type[Any], Callable[[Any], None]] = {
            do.Generate: self._generate,
            do.CancelGeneration: self._cancel,
            do.Synthesise: lambda command: self._voicing.add((command.speech, command.step)),
            do.Play: self._play,
            do.Hold: self._hold,
            do.Pause: self._pause,
            do.Resume: self._resume,
            do.Stop: self._stop,
            do.RunHook: self._run_hook,
            do.RunTool: self._run_tool,
            do.CancelTool: self._cancel_tool,
            do.Judge: self._judging.append,
            do.CutUtterance: self._cut,
            do.SwitchAgent: lambda command: self._switching.append(command.agent),
            do.Close: self._close,
        }
        self._notices: dict[type[Any], Callable[[Any], None]] = {
            news.SpeechCreated: lambda notice: self._live.setdefault(notice.speech),
            news.SpeechEnded: self._ended,
        }

    def begin(self) -> None:
        self.feed(ev.Started(self.circumstances.resumed))

    def make(self, move: str, args: tuple[Any, ...] = ()) -> None:
        """Make a move, by its name."""
        getattr(self, move)(*args)

    # --- the pump ---------------------------------------------------------------------------------------------------

    def feed(self, event: ev.Event, *, foreign: bool = False) -> None:
        """Let one event happen, and all that follows at once. ``foreign``: nothing may come of it but a ``Drop``."""
        self._queue.append((event, foreign))
        if self._running:
            return
        self._running = True
        self._said_more = self._said_more or isinstance(event, ev.Transcribed)
        while self._queue:
            happened, stray = self._queue.popleft()
            commands = self.dialog.handle(happened, self.now)
            self.events.append((self.now, happened))
            self.commands.append(commands)
            self.witness.saw(happened, self.now, commands, self.dialog, foreign=stray)
            for command in commands:
                perform = self._perform.get(type(command))
                if perform is not None:
                    perform(command)
                elif type(command) is do.Announce and (told := self._notices.get(type(command.notice))) is not None:
                    told(command.notice)
        self._running = False

    def wait(self, seconds: float) -> None:
        """Let time pass. The dialog is woken when it asked to be, or, when all is ``late``, after the next event."""
        later = self.now + seconds
        while not self.circumstances.late and (deadline := self.dialog.deadline()) is not None and deadline <= later:
            self.now = max(self.now, deadline)
            self._tick(deadline)
        self.now = later

    def catch_up(self) -> None:
        """Deliver a tick that is overdue."""
        while (deadline := self.dialog.deadline()) is not None and deadline <= self.now:
            self._tick(deadline)

    def _tick(self, deadline: float) -> None:
        self.feed(ev.Tick())
        assert self.dialog.deadline() != deadline, f"a tick at {deadline} without effect"

    # --- what is commanded ------------------------------------------------------------------------------------------

    def _generate(self, command: do.Generate) -> None:
        step = (command.speech, command.step)
        self._making[command.speech] = command.step
        self.texts[step] = f"{command.speech} step {command.step} is one two three."

    def _cancel(self, command: do.CancelGeneration) -> None:
        self._making.pop(command.speech, None)
        self._voicing = {step for step in self._voicing if step[0] != command.speech}

    def _play(self, command: do.Play) -> None:
        self._airs(False)  # a track that never reported its stop is silenced by the next one
        self._playing = (command.speech, command.step)
        self._sounds = self._paused = False
        self._heard = 0.0

    def _hold(self, command: do.Hold) -> None:
        self._playing = None

    def _pause(self, command: do.Pause) -> None:
        self._count_heard()
        self._paused = True
        self.feed(ev.Played(command.speech, command.step, "paused", self.now, *self._so_far()))
        self._airs(False)

    def _resume(self, command: do.Resume) -> None:
        self._heard_until = self.now
        self._paused = False
        self.feed(ev.Played(command.speech, command.step, "resumed", self.now, *self._so_far()))
        self._airs(True)

    def _stop(self, command: do.Stop) -> None:
        if self._stuck:  # this once it is not reported, or what is reported is the end
            self._stuck = False
            return
        self._count_heard()
        heard = self._so_far()
        self._playing = None
        self.feed(ev.Played(command.speech, command.step, "stopped", self.now, *heard))
        self._airs(False)

    def _run_hook(self, command: do.RunHook) -> None:
        if self.circumstances.hook:
            self._hooks.append(command)
        else:
            self.feed(ev.HookFinished(command.turn, True, command.text))

    def _run_tool(self, command: do.RunTool) -> None:
        self._tools[command.call.call_id] = command

    def _cancel_tool(self, command: do.CancelTool) -> None:
        del self._tools[command.call_id]

    def _cut(self, command: do.CutUtterance) -> None:
        if self._utterance == command.utterance:
            self._end_voice(self.now)

    def _close(self, command: do.Close) -> None:
        self.closed = True

    def _ended(self, notice: news.SpeechEnded) -> None:
        del self._live[notice.speech]
        self._over.append(notice.speech)

    # --- the track --------------------------------------------------------------------------------------------------

    def _count_heard(self) -> None:
        if self._sounds and not self._paused:
            self._heard += self.now - self._heard_until
            self._heard_until = self.now

    def _so_far(self) -> tuple[int, str]:
        """The samples and words that were heard of the step that plays."""
        if not self._sounds or self._playing is None:
            return 0, ""
        words = self.texts[self._playing].split(" ")
        return round(self._heard * 24000), " ".join(words[: int(self._heard * WORDS_A_SECOND)])

    def _airs(self, audible: bool) -> None:
        """The outgoing audio is measured."""
        if not self.circumstances.mute_voice and audible is not self._audible:
            self._audible = audible
            self.feed(ev.Aired(audible, self.now))

    # --- moves of the user ------------------------------------------------------------------------------------------

    def user_starts(self) -> None:
        if not self._utterance:
            self._utterance = f"u{self._number()}"
            self._voice_at = max(self._voice_at, self.now - 0.06)
            self.feed(ev.UserStarted(self._utterance, self._voice_at))

    def user_stops(self) -> None:
        if self._utterance:
            self._end_voice(max(self._voice_at, self.now - 0.25))

    def _end_voice(self, at: float) -> None:
        self._voice_at = at
        self._owed.append(self._utterance)
        stopped, self._utterance = self._utterance, ""
        self.feed(ev.UserStopped(stopped, at))

    def words_come(self, which: int, what: Literal["words", "yes", "nothing", "ended"]) -> None:
        """The transcriber is done with an utterance that is over."""
        if self._owed:
            utterance = self._owed[which % len(self._owed)]
            self._owed.remove(utterance)
            text = {"nothing": "", "yes": "mm-hm"}.get(what, f"w{utterance[1:]}")
            self.feed(ev.Transcribed(utterance if self.circumstances.names else "", text, ended=what == "ended"))

    def words_pass(self, final: bool) -> None:
        """Words of the utterance that is being spoken, or of one that only the transcriber has heard. Interim words are
        those that come at last, so that they are known again if they are told twice.
        """
        if self._utterance and self.circumstances.names:
            text = f"w{self._number() if final else self._utterance[1:]}"
            self.feed(ev.Transcribed(self._utterance, text, final=final))
        elif not self.circumstances.names:
            self.feed(ev.Transcribed("", f"w{self._number()}", final=final))

    def user_types(self, skip_reply: bool) -> None:
        self.feed(ev.UserTyped(f"w{self._number()}", skip_reply))

    # --- moves of the program ---------------------------------------------------------------------------------------

    def say(self, source: Literal["say", "generate_reply"], options: dict[str, Any]) -> None:
        given = dict(options)
        if given.get("user_input"):
            given["user_input"] = f"w{self._number()}"
        self.feed(ev.SpeechRequested(f"s{self._number()}", source, **given))

    def interrupt(self, which: int, force: bool) -> None:
        """One of the live speeches, counted from the newest."""
        if self._live:
            speech = list(self._live)[-1 - which % len(self._live)]
            self.feed(ev.InterruptAsked(speech, force=force))

    def interrupt_all(self, group: str, force: bool) -> None:
        self.feed(ev.InterruptAsked(group=group, force=force))

    def protect(self, which: int, on: bool) -> None:
        if self._live:
            speech = list(self._live)[-1 - which % len(self._live)]
            self.feed(ev.ProtectionChanged(speech, not on))

    def end_turn(self, skip_reply: bool) -> None:
        self.feed(ev.TurnEndAsked(skip_reply))

    def clear_turn(self) -> None:
        self.feed(ev.TurnCleared())

    def mute(self, on: bool) -> None:
        self.feed(ev.Muted(on))

    def listener(self, present: bool) -> None:
        self.feed(ev.ListenerChanged(present))

    def change_context(self) -> None:
        self.feed(ev.ContextChanged())

    def hand_off(self) -> None:
        self.feed(ev.HandOff(f"agent{self._number()}"))

    def close(self, drain: bool) -> None:
        self.feed(ev.CloseAsked("enough", drain))

    # --- moves of everything that is under way ----------------------------------------------------------------------

    def text_comes(self, which: int, what: str) -> None:
        """A text that is being made begins, ends (perhaps with calls of tools), or fails."""
        if not self._making:
            return
        speech = list(self._making)[which % len(self._making)]
        step = self._making[speech]
        text = self.texts[speech, step]
        if what == "first":
            self.feed(ev.Generated(speech, step, "first"))
            return
        del self._making[speech]
        self._made.add((speech, step))
        if what in ("only call", "empty"):
            text = self.texts[speech, step] = ""
        if what == "failed":
            self.feed(ev.Generated(speech, step, "failed", text[:9], error="model: gone"))
        else:
            self.feed(ev.Generated(speech, step, "end", text, self._calls(what)))

    def _calls(self, what: str) -> tuple[ev.RequestedCall, ...]:
        again = self._called[-1] if self._called else "c0"
        match what:
            case "end" | "empty":
                return ()
            case "again":
                return (ev.RequestedCall(again, "look_up", "{}"), self._call())
            case "two":
                return (self._call(), self._call())
            case "cancel":
                return (self._call(on_interrupt="cancel"),)
            case "tell":
                return (self._call(on_interrupt="tell"),)
            case "reject":
                return (self._call(on_duplicate="reject"),)
            case "replace":
                return (self._call(on_duplicate="replace"),)
            case _:
                return (self._call(),)

    def _call(self, **policies: Any) -> ev.RequestedCall:
        self._called.append(f"c{self._number()}")
        return ev.RequestedCall(self._called[-1], "look_up", "{}", **policies)

    def voice_comes(self, which: int, what: Literal["sentence", "first", "end", "failed"]) -> None:
        if not self._voicing:
            return
        speech, step = sorted(self._voicing)[which % len(self._voicing)]
        if what not in ("sentence", "first"):
            self._voicing.discard((speech, step))
        if what == "failed":
            self._voice_failed.add((speech, step))
        self.feed(ev.Synthesised(speech, step, what, 1.0, "voice: gone" if what == "failed" else ""))

    def track_goes_on(self) -> None:
        """The step that was told to play begins, or comes to its end: after its voice, which ends after its text."""
        playing = self._playing
        if playing is None or self._paused or playing[0] not in self._live:
            return
        if playing in self._made and not self.texts[playing]:
            self._finish_step(playing, (0, ""))
        elif not self._sounds:
            self._begin_step(playing)
        elif playing in self._voice_failed:
            self._count_heard()
            self._finish_step(playing, self._so_far())
        elif playing in self._made:
            self._finish_step(playing, (48000, self.texts[playing]))

    def _begin_step(self, playing: tuple[str, int]) -> None:
        if self.dialog.sounding(playing[0]) is Sounding.STOPPING:
            return
        self._sounds = True
        self._heard_until = self.now
        self.feed(ev.Played(*playing, "started", self.now))
        if self._playing == playing and not self._paused:
            self._airs(True)

    def _finish_step(self, playing: tuple[str, int], heard: tuple[int, str]) -> None:
        if playing in self._voicing:
            self._voicing.discard(playing)
            self.feed(ev.Synthesised(*playing, "end", 1.0))
        if self._playing != playing:
            return
        self._playing = None
        self.feed(ev.Played(*playing, "finished", self.now, *heard))
        if not self._sounds or self._playing is None:
            self._airs(False)

    def track_breaks(self) -> None:
        """The next stop will not be reported."""
        self._stuck = True

    def hook_returns(self, what: HookOutcome) -> None:
        if self._hooks:
            hook = self._hooks.popleft()
            text = f"w{self._number()}" if what == "reword" else hook.text
            self.feed(ev.HookFinished(hook.turn, what != "stop", text, changed=what == "change"))

    def tool_returns(self, which: int, what: Literal["result", "nothing", "error", "agent"]) -> None:
        if self._tools:
            call_id = list(self._tools)[which % len(self._tools)]
            command = self._tools.pop(call_id)
            agent = f"agent{self._number()}" if what == "agent" else ""
            self.feed(
                ev.ToolFinished(
                    command.speech, call_id, f"output of {call_id}", what == "error", what != "nothing", agent
                )
            )

    def judgement_comes(self, probability: float) -> None:
        if self._judging:
            asked = self._judging.popleft()
            self.feed(ev.TurnJudged(asked.turn, asked.serial, probability))

    def agent_changes(self) -> None:
        if self._switching:
            self.feed(ev.AgentChanged(self._switching.popleft()))

    def all_goes_on(self, hook: HookOutcome) -> None:
        """Everything that is under way comes one step on."""
        self.agent_changes()
        self.hook_returns(hook)
        self.judgement_comes(0.9)
        self.text_comes(0, "end")
        self.voice_comes(0, "end")
        self.tool_returns(0, "result")
        self.track_goes_on()

    def stray(self, kind: str) -> None:
        """Something late or foreign: it changes nothing, and breaks nothing."""
        self.catch_up()
        over = self._over[-1] if self._over else "nobody"
        strays: dict[str, ev.Event] = {
            "played": ev.Played(over, 1, "finished", self.now, 1, "late"),
            "generated": ev.Generated(over, 1, "end", "late"),
            "synthesised": ev.Synthesised(over, 1, "failed"),
            "tool": ev.ToolFinished(over, "c-none", "late"),
            "words": ev.Transcribed("u-none", "late"),
            "stopped": ev.UserStopped("u-none", self.now),
            "hook": ev.HookFinished("turn-none", True, "late"),
            "judged": ev.TurnJudged("turn-none", 1, 0.5),
            "agent": ev.AgentChanged("nobody"),
            "protected": ev.ProtectionChanged(over, False),
            "interrupted": ev.InterruptAsked(over),
            "started": ev.Started(),
        }
        if kind != "agent" or not self._switching:
            self.feed(strays[kind], foreign=True)

    # --- the end ----------------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """Let everything that is under way come to its end."""
        manual = self.circumstances.rules.turns.detection == "manual"
        self.user_stops()
        for _ in range(LONGEST_REST):
            while self._owed:
                self.words_come(0, "words")
            if manual and self._said_more:
                self._said_more = False
                self.end_turn(False)
            self.all_goes_on("go on")
            self.catch_up()
            if self.closed or not self._busy():
                return
            self.wait(1.0)
        raise AssertionError(f"the conversation does not come to rest: {self._under_way()}")

    def _busy(self) -> bool:
        return bool(self.dialog.deadline() is not None or any(self._under_way().values()))

    def _under_way(self) -> dict[str, Sequence[object] | bool]:
        return {
            "making": list(self._making),
            "playing": self._playing is not None and self._playing[0] in self._live,
            "live": list(self._live),
            "hooks": list(self._hooks),
            "tools": list(self._tools),
            "judging": list(self._judging),
            "switching": list(self._switching),
        }

    def finish(self) -> None:
        """Come to rest, check what must hold then, and close."""
        self.rest()
        self.witness.rested(self.dialog)
        self.feed(ev.CloseAsked("done"))
        assert self.closed, "an idle conversation does not close"
        self.feed(ev.UserTyped("hello?"))

    def replay(self) -> None:
        """The same events, after a journey through the journal, lead to the same commands, and so the same history."""
        again = Dialog(self.circumstances.rules)
        for (now, event), expected in zip(self.events, self.commands, strict=True):
            when, read = decode_event(encode_event(event, now))
            assert again.handle(read, when) == expected, f"the replay differs at {event}"

    def story(self) -> str:
        """What happened, and what was commanded for it, for people."""
        lines: list[str] = []
        for (now, event), commands in zip(self.events, self.commands, strict=True):
            lines.append(f"{now:8.2f}  {event}")
            lines += [f"            -> {command}" for command in commands]
        return "\n".join(lines)

    def _number(self) -> int:
        self._count += 1
        return self._count
