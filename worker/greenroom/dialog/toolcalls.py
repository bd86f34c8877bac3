"""The tools that speeches have called: each call runs once, and its result is in the history once.

What a tool's own policies say:

=========================  ==========================================================================================
its speech is interrupted  ``finish``: it runs on, and its result joins the history
                           ``tell``: so it does, and then a speech of its own tells the user
                           ``cancel``: it is cancelled, and the history says so
it is called while an      ``allow``: both run
earlier call of it runs    ``reject``: the model is told that it runs already
                           ``replace``: the earlier call is cancelled, and its speech is told so
=========================  ==========================================================================================

Whatever became of the speech, a result stands in the history after the words that came before the call.
"""

from __future__ import annotations

from dataclasses import dataclass

from greenroom.dialog.commands import CancelTool, Command, Drop, RunTool
from greenroom.dialog.events import RequestedCall, ToolFinished
from greenroom.dialog.history import FunctionCall, FunctionCallOutput
from greenroom.dialog.ledger import Ledger
from greenroom.dialog.speech import Sounding, Speech, Step

__all__ = ["ToolCalls"]


@dataclass(slots=True)
class _Running:
    speech: Speech
    step: Step
    call: RequestedCall


class ToolCalls:
    """The calls of one dialog. A part of ``SpeechScheduler``."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._running: dict[str, _Running] = {}
        self._seen: set[str] = set()

    @property
    def running(self) -> bool:
        return bool(self._running)

    def run(self, speech: Speech) -> tuple[list[Command], list[Speech]]:
        """Run what the step that was just made asks for; also the other speeches that lost a call by it."""
        step = speech.step
        commands: list[Command] = []
        touched: list[Speech] = []
        for call in step.asked:
            if call.call_id in self._seen:
                commands.append(Drop("Generated", f"tool call {call.call_id} was asked for before"))
                continue
            self._seen.add(call.call_id)
            same = [other for other in self._running.values() if other.call.name == call.name]
            step.calls.add(call.call_id)
            self._running[call.call_id] = _Running(speech, step, call)
            if same and call.on_duplicate == "reject":
                commands += self._finish(call.call_id, f"{call.name} is running already.", is_error=True)
                step.wants_reply = True
                continue
            if same and call.on_duplicate == "replace":
                for other in same:
                    commands += self._cancel(other, "It was replaced by a newer call.")
                    if other.speech is not speech:
                        touched.append(other.speech)
            commands.append(RunTool(speech.id, step.number, call))
        return commands, touched

    def finished(self, event: ToolFinished) -> tuple[Speech | None, Step | None, list[Command]]:
        """A tool returned: its speech and step (``None``: it was not running), and its result where it belongs."""
        entry = self._running.get(event.call_id)
        if entry is None:
            return None, None, [Drop("ToolFinished", f"tool call {event.call_id} is not running")]
        entry.step.wants_reply = entry.step.wants_reply or event.reply
        return entry.speech, entry.step, self._finish(event.call_id, event.output, is_error=event.is_error)

    def interrupted(self, speech: Speech) -> list[Command]:
        """Its speech was cut off: cancel what wants to be cancelled then."""
        commands: list[Command] = []
        for entry in list(self._running.values()):
            if entry.speech is speech and entry.call.on_interrupt == "cancel":
                commands += self._cancel(entry, "It was cancelled, because the speech was interrupted.")
        return commands

    def flush(self, speech: Speech, step: Step) -> list[Command]:
        """The results that waited for the step's words."""
        results, step.results = step.results, []
        return [self._ledger.commit(item, speech.id) for item in results]

    def _cancel(self, entry: _Running, why: str) -> list[Command]:
        return [CancelTool(entry.call.call_id), *self._finish(entry.call.call_id, why, is_error=True)]

    def _finish(self, call_id: str, output: str, *, is_error: bool) -> list[Command]:
        entry = self._running.pop(call_id)
        call, step, speech = entry.call, entry.step, entry.speech
        step.calls.discard(call_id)
        results = (
            FunctionCall(self._ledger.new_id(), call.call_id, call.name, call.arguments),
            FunctionCallOutput(self._ledger.new_id(), call.call_id, call.name, output, is_error),
        )
        if step.sounded or speech.sounding is Sounding.ENDED:
            return [self._ledger.commit(item, speech.id) for item in results]
        step.results += results
        return []
