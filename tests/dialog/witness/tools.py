"""The tools and the history: properties 7 and 8."""

from __future__ import annotations

from collections.abc import Mapping

from greenroom.dialog import commands as do
from greenroom.dialog import events as ev
from greenroom.dialog import notices as news
from greenroom.dialog.history import ChatItem, FunctionCall, FunctionCallOutput, Message

from .floor import Act, Floor
from .moment import Handlers, Moment

__all__ = ["Tools"]


class Tools:
    """``texts``: what each step's text is to be, by speech and step."""

    def __init__(self, moment: Moment, floor: Floor, texts: Mapping[tuple[str, int], str]) -> None:
        self._moment = moment
        self._floor = floor
        self._texts = texts
        self.history: dict[str, ChatItem] = {}
        self._asked: dict[str, tuple[Act, int, ev.RequestedCall]] = {}
        self._running: dict[str, Act] = {}
        self._known: set[str] = set()
        self._run: set[str] = set()
        self._outputs: dict[str, str] = {}
        self._told: set[str] = set()
        self._to_tell = False
        self._open: FunctionCall | None = None
        self._messages: set[tuple[str, int]] = set()
        self.events: Handlers = {
            ev.Generated: self._generated,
            ev.ToolFinished: self._finished,
        }
        self.commands: Handlers = {
            do.RunTool: self._run_tool,
            do.CancelTool: self._cancel_tool,
            do.Commit: self._commit,
        }
        self.notices: Handlers = {news.SpeechCreated: self._created}

    def afterwards(self) -> None:
        assert self._open is None, "a call without its result"
        event = self._moment.event
        if isinstance(event, ev.Played) and event.what in ("finished", "stopped") and event.text:
            act = self._floor.acts[event.speech]
            key = (event.speech, event.step)
            assert not act.asked.in_history or key in self._messages, "what was heard is not in the history"
        for call_id, act in self._running.items():
            call = self._asked[call_id][2]
            cut_off = act.stopped_as is not None or act.ended not in (None, ev.EndReason.FAILED)
            assert not cut_off or call.on_interrupt != "cancel", f"{call} runs on against its policy"
        if self._to_tell and not self._moment.closing:
            told = [notice for notice in self._moment.announced(news.SpeechCreated) if notice.source == "tool"]
            assert told, f"nobody tells what {event} brought"
        self._to_tell = False

    def rested(self) -> None:
        assert not self._running
        missing = self._run - self._told
        assert not missing, f"results that never joined the history: {missing}"

    def _generated(self, event: ev.Generated) -> None:
        act = self._floor.acts[event.speech]
        for call in event.calls:
            if call.call_id not in self._known:
                self._asked[call.call_id] = (act, event.step, call)
        if act.created:
            self._take_on(act, event.step)

    def _created(self, notice: news.SpeechCreated) -> None:
        """The calls of an early answer count from when it is kept."""
        act = self._floor.acts.get(notice.speech)
        if act is not None and act.made:
            self._take_on(act, act.made)

    def _take_on(self, act: Act, step: int) -> None:
        """From now on, the same call is old news."""
        if step <= self._moment.rules.max_tool_steps:
            self._known.update(key for key, (owner, at, _) in self._asked.items() if owner is act and at == step)

    def _finished(self, event: ev.ToolFinished) -> None:
        act = self._running.pop(event.call_id)
        act.calls.discard(event.call_id)
        cut_off = act.stopped_as is not None or act.ended is not None
        self._to_tell = cut_off and event.reply and self._asked[event.call_id][2].on_interrupt == "tell"
        self._outputs[event.call_id] = event.output

    def _run_tool(self, command: do.RunTool) -> None:
        call_id = command.call.call_id
        act, step, call = self._asked[call_id]
        assert call_id not in self._run, "a tool runs twice"
        assert (act.id, step, call) == (command.speech, command.step, command.call)
        assert act.created, "a tool of an answer that may be discarded"
        assert act.ended is None
        assert not act.cancelled, "a tool of a speech that was cut off"
        assert step <= self._moment.rules.max_tool_steps
        same = [owner for other, owner in self._running.items() if self._asked[other][2].name == call.name]
        assert not same or call.on_duplicate == "allow", "a tool runs beside itself against its policy"
        self._run.add(call_id)
        self._running[call_id] = act
        act.calls.add(call_id)

    def _cancel_tool(self, command: do.CancelTool) -> None:
        act = self._running.pop(command.call_id)
        act.calls.discard(command.call_id)
        event, call = self._moment.event, self._asked[command.call_id][2]
        replaced = any(
            type(run) is do.RunTool and run.call.on_duplicate == "replace" and run.call.name == call.name
            for run in self._moment.commands
        )
        assert replaced or call.on_interrupt == "cancel", f"{event} cancelled a tool that is to finish"

    def _commit(self, command: do.Commit) -> None:
        item = command.item
        if item.id not in self.history:
            self._moment.version += 1
        else:
            assert self._moment.rules.turns.detection == "realtime", f"{item} is in the history twice"
        self.history[item.id] = item
        if isinstance(item, Message):
            assert self._open is None
            if item.role == "assistant":
                self._message(command.speech, item)
        elif isinstance(item, FunctionCall):
            self._call(command.speech, item)
        else:
            self._output(item)

    def _message(self, speech: str, item: Message) -> None:
        event = self._moment.event
        assert isinstance(event, ev.Played)
        assert event.what in ("finished", "stopped")
        assert event.speech == speech
        assert item.text == event.text.strip()
        assert item.interrupted is (event.what == "stopped")
        assert self._texts[speech, event.step].startswith(item.text), "words that were never made"
        assert (speech, event.step) not in self._messages, "words are told twice"
        assert self._floor.acts[speech].asked.in_history
        self._messages.add((speech, event.step))

    def _call(self, speech: str, item: FunctionCall) -> None:
        assert self._open is None
        act, step, call = self._asked[item.call_id]
        assert act.id == speech
        assert (item.name, item.arguments) == (call.name, call.arguments)
        ends = act.ended or any(notice.speech == speech for notice in self._moment.announced(news.SpeechEnded))
        assert ends or act.over >= step, "a result before the words before it"
        assert (speech, step + 1) not in self._messages, "a result after the words that came of it"
        self._open = item

    def _output(self, item: FunctionCallOutput) -> None:
        assert self._open is not None
        assert self._open.call_id == item.call_id
        assert item.call_id not in self._told, "a result is told twice"
        assert item.call_id not in self._running, "a result of a tool that still runs"
        expected = self._outputs.get(item.call_id)
        assert expected is None or item.output == expected
        self._told.add(item.call_id)
        self._open = None
