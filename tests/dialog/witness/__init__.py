"""What holds in every conversation, watched from outside: events in, commands out, nothing of the machine inside.

After each event, in words:

1.  At most one speech has the floor. It got it in order of priority, place and arrival, after its audio was asked for,
    and not while the user spoke (unless it is protected). The floor is never free while somebody may have it.
2.  Every speech ends once, with a reason that its story bears out. Nothing is asked for a speech that has ended, or
    whose making was cancelled. Steps are made one after another, each once, after the tools of the one before.
3.  A protected speech is ended early by force, by the end of the conversation or for its own failure, by nothing else.
4.  A pause follows the user's voice; a paused speech is resumed or stopped, and the others wait.
5.  Every committed turn meets its hook, one at a time and in order; its words join the history once, as the hook left
    them, and it gets an answer, unless the hook or the program wanted none. An answer is superseded only by the next.
6.  Final words of the user are in one turn, once: none is lost, and none is answered twice.
7.  A tool call runs once, and its result is in the history once, after the words that came before it.
8.  What the history holds of a speech is what was heard: a prefix of what was made, step after step.
9.  States change from what they were to something else; they agree with what is heard of both sides.
10. No deadline is in the past. An event that has an owner is not dropped, one that has none changes nothing.
11. After ``Close`` nothing is commanded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from greenroom.dialog import commands as do
from greenroom.dialog import events as ev
from greenroom.dialog import notices as news
from greenroom.dialog.dialog import Dialog, DialogRules

from .floor import Floor
from .moment import Handlers, Moment
from .tools import Tools
from .turns import Turns

__all__ = ["Witness"]


class Witness:
    """Shown every event and what it led to; raises ``AssertionError`` where a property is broken."""

    def __init__(self, rules: DialogRules, texts: Mapping[tuple[str, int], str]) -> None:
        self._moment = moment = Moment(rules)
        self._turns = Turns(moment)
        self._floor = Floor(moment, self._turns)
        self._tools = Tools(moment, self._floor, texts)
        self._user = ev.UserState.LISTENING
        self._agent = ev.AgentState.INITIALIZING
        self._switching = ""
        self._to_switch: list[str] = []
        self._handing_off: dict[str, str] = {}
        self._spoken_end = False
        self._parts = (self._turns, self._floor, self._tools)
        own: Handlers = {
            ev.Started: self._started,
            ev.ContextChanged: lambda event: self._change(),
            ev.HandOff: lambda event: self._to_switch.append(event.agent),
            ev.ToolFinished: self._tool_finished,
            ev.AgentChanged: self._agent_changed,
            ev.CloseAsked: self._close_asked,
        }
        commands: Handlers = {
            do.Announce: self._announce,
            do.SwitchAgent: self._switch,
            do.RunHook: self._run_hook,
            do.Close: self._close,
            do.Drop: self._drop,
        }
        notices: Handlers = {
            news.Backchannel: self._backchannel,
            news.SpeechEnded: self._speech_ended,
            news.AgentStateChanged: self._agent_state_changed,
            news.UserStateChanged: self._user_state_changed,
        }
        self._events = _merged(own, *(part.events for part in self._parts))
        self._commands = _merged(commands, *(part.commands for part in self._parts))
        self._notices = _merged(notices, *(part.notices for part in self._parts))

    @property
    def history(self) -> list[Any]:
        return list(self._tools.history.values())

    def saw(self, event: ev.Event, now: float, commands: list[do.Command], dialog: Dialog, *, foreign: bool) -> None:
        """Check one event and everything that was commanded for it."""
        moment = self._moment
        assert now >= moment.now
        moment.event, moment.now, moment.commands = event, now, commands
        if foreign or moment.closed:
            assert [type(command) for command in commands] == [do.Drop], f"{event} led to {commands}"
            return
        moment.guard = self._guards()
        self._turns.beforehand()
        if not _dropped(event, commands):
            for happened in self._events.get(type(event), ()):
                happened(event)
        for command in commands:
            assert not moment.closed, f"{command} after Close"
            for check in self._commands.get(type(command), ()):
                check(command)
        if moment.closed:
            assert dialog.deadline() is None
            return
        for part in self._parts:
            part.afterwards()
        self._states(dialog)
        deadline = dialog.deadline()
        assert deadline is None or deadline > now, f"the deadline {deadline} is not after {now}"
        self._resumes(deadline)

    def rested(self, dialog: Dialog) -> None:
        """Everything has come to its end, and nobody does anything more."""
        if self._moment.closed:
            return
        assert dialog.deadline() is None, "an idle dialog wants to be woken"
        assert self._agent in (ev.AgentState.LISTENING, ev.AgentState.INITIALIZING)
        assert not self._switching
        assert not self._to_switch or self._moment.closing, f"{self._to_switch} never took the conversation"
        assert not self._spoken_end, "the guard said goodbye, and nothing was closed"
        for part in self._parts:
            part.rested()

    def _resumes(self, deadline: float | None) -> None:
        """A speech that is paused goes on when nothing was said for so long."""
        floor, turns = self._floor, self._turns
        if floor.paused and floor.active is not None and not floor.active.stopped_as and not turns.voice:
            assert deadline is not None, "a paused speech waits for nothing"
            latest = turns.quiet_since + self._moment.rules.interruption.resume_after
            assert deadline <= latest + 1e-9, f"a paused speech waits until {deadline}, not {latest}"

    def _guards(self) -> str:
        """The step that the dead-air guard takes now; after the last one it may only end what is left."""
        broken = self._moment.announced(news.DeadAir)
        if not broken:
            return "over" if self._spoken_end and isinstance(self._moment.event, ev.Tick) else ""
        if broken[0].step == "end":
            self._spoken_end = self._moment.closing = True
        return str(broken[0].step)

    def _started(self, event: ev.Started) -> None:
        self._moment.started = True

    def _change(self) -> None:
        self._moment.version += 1

    def _switch(self, command: do.SwitchAgent) -> None:
        assert not self._switching, "two agents at once"
        self._to_switch.remove(command.agent)
        self._switching = command.agent
        self._change()

    def _run_hook(self, command: do.RunHook) -> None:
        assert not self._switching, "a hook runs while the agent is changed"

    def _backchannel(self, notice: news.Backchannel) -> None:
        active = self._floor.active
        assert active is not None, "a backchannel to silence"
        assert self._floor.sounds

    def _tool_finished(self, event: ev.ToolFinished) -> None:
        """A hand-off waits for the end of its speech; of several in one speech, the last counts."""
        if event.agent and event.speech in self._floor.live:
            self._handing_off[event.speech] = event.agent
        elif event.agent:
            self._to_switch.append(event.agent)

    def _speech_ended(self, notice: news.SpeechEnded) -> None:
        if agent := self._handing_off.pop(notice.speech, ""):
            self._to_switch.append(agent)

    def _agent_changed(self, event: ev.AgentChanged) -> None:
        assert event.agent == self._switching
        self._switching = ""
        self._change()

    def _close_asked(self, event: ev.CloseAsked) -> None:
        self._moment.closing = True

    def _close(self, command: do.Close) -> None:
        assert self._moment.closing or self._moment.rules.dead_air.enabled
        assert not self._floor.live, "closed over speeches that have not ended"
        self._moment.closed = True

    def _drop(self, command: do.Drop) -> None:
        event = self._moment.event
        # A call that was made before is old news, also when an early answer is kept that asks for it.
        again = command.event == "Generated" and isinstance(event, ev.Generated | ev.HookFinished)
        assert again or self._turns.may_drop(event) or self._floor.may_drop(event), (
            f"{event} is dropped: {command.reason}"
        )

    def _announce(self, command: do.Announce) -> None:
        for check in self._notices.get(type(command.notice), ()):
            check(command.notice)

    def _agent_state_changed(self, notice: news.AgentStateChanged) -> None:
        assert notice.old is self._agent
        assert notice.new is not notice.old
        self._agent = notice.new

    def _user_state_changed(self, notice: news.UserStateChanged) -> None:
        assert notice.old is self._user
        assert notice.new is not notice.old
        self._user = notice.new

    def _states(self, dialog: Dialog) -> None:
        assert dialog.agent_state is self._agent
        assert dialog.user_state is self._user
        assert (self._agent is ev.AgentState.SPEAKING) is self._floor.audible, (
            f"the agent is {self._agent}, and is {'heard' if self._floor.audible else 'silent'}"
        )


def _dropped(event: ev.Event, issued: list[do.Command]) -> bool:
    """It changed nothing. (A text whose calls are in part old news is no such thing.)"""
    name = type(event).__name__
    return name != "Generated" and any(type(command) is do.Drop and command.event == name for command in issued)


def _merged(*handlers: Handlers) -> dict[type[Any], tuple[Callable[[Any], None], ...]]:
    merged: dict[type[Any], tuple[Callable[[Any], None], ...]] = {}
    for mapping in handlers:
        for kind, handler in mapping.items():
            merged[kind] = (*merged.get(kind, ()), handler)
    return merged
