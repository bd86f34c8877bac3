"""Does what the dialog commands: asks the model, moves audio, runs tools, tells the user's code.

Each command starts work and returns at once; what became of it goes back as an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from greenroom.dialog import events as ev
from greenroom.dialog.history import ChatContext, ChatItem, FunctionCall, FunctionCallOutput, Message
from greenroom.providers.llm import ToolSchema
from greenroom.session.agent import Agent
from greenroom.session.handle import RUNNING_TOOL, SpeechHandle
from greenroom.session.hooks import (
    AgentFalseInterruptionEvent,
    AgentStateChangedEvent,
    AgentTextEvent,
    CloseEvent,
    ConversationItemAddedEvent,
    FunctionToolsExecutedEvent,
    SpeechCreatedEvent,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
)
from greenroom.session.playout import Playout
from greenroom.session.reply import Content, Making
from greenroom.session.tools import RunContext, StopResponse

if TYPE_CHECKING:
    from greenroom.session.session import AgentSession

__all__ = ["Stage"]

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Speech:
    """A speech as the shell knows it.

    ``made``: all that it contributed, in order; ``uncommitted``: the part of it that the history does not hold yet.
    """

    handle: SpeechHandle
    content: Content
    making: Making
    made: list[ChatItem] = field(default_factory=list)
    uncommitted: list[ChatItem] = field(default_factory=list)
    heard_steps: int = 0
    waiting: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)

    def add(self, item: ChatItem) -> None:
        self.made.append(item)
        self.uncommitted.append(item)


class Stage:
    """The shell's side of every command of one session."""

    def __init__(self, session: AgentSession, playout: Playout, sample_rate: int) -> None:
        self._session = session
        self._playout = playout
        self._sample_rate = sample_rate
        self._speeches: dict[str, _Speech] = {}
        self._expected: dict[str, tuple[SpeechHandle, Content]] = {}
        self._contexts: dict[str, ChatContext] = {}
        self._discarded: list[Making] = []
        self.wasted_tokens = 0
        self._perform: dict[type[Any], Callable[[Any], None]] = {
            ev.RunHook: self._run_hook,
            ev.Generate: self._generate,
            ev.CancelGeneration: self._cancel,
            ev.Synthesise: lambda c: self._speeches[c.speech].making.synthesise(c.step, session.tts()),
            ev.Play: lambda c: playout.play(c.speech, c.step, self._speeches[c.speech].making.voice(c.step)),
            ev.Hold: lambda c: playout.hold(c.speech, c.step),
            ev.Pause: lambda c: playout.pause(c.speech, c.step),
            ev.Resume: lambda c: playout.resume(c.speech, c.step),
            ev.Stop: lambda c: playout.stop(c.speech, c.step),
            ev.RunTool: self._run_tool,
            ev.Commit: self._commit,
            ev.Announce: lambda c: self._announce[type(c.notice)](c.notice),
            ev.Close: self._close,
            ev.Drop: lambda c: log.debug("event dropped", dropped=c.event, reason=c.reason),
        }
        self._announce: dict[type[Any], Callable[[Any], None]] = {
            ev.AgentStateChanged: self._agent_state_changed,
            ev.UserStateChanged: self._user_state_changed,
            ev.UserTranscribed: self._user_transcribed,
            ev.TurnCommitted: self._turn_committed,
            ev.Backchannel: lambda n: log.info("backchannel", turn=n.turn),
            ev.EarlyReplyDiscarded: self._early_reply_discarded,
            ev.FalseInterruption: self._false_interruption,
            ev.TurnTimedOut: lambda n: log.warning("transcriber owes words", turn=n.turn, utterances=n.utterances),
            ev.SpeechCreated: self._speech_created,
            ev.SpeechStarted: lambda n: self._speeches[n.speech].handle.mark_started(n.at),
            ev.SpeechEnded: self._speech_ended,
        }

    def perform(self, command: ev.Command) -> None:
        self._perform[type(command)](command)

    # --- for the session --------------------------------------------------------------------------------------------

    def expect(self, handle: SpeechHandle, content: Content) -> None:
        """A speech with this handle and content is about to be requested."""
        self._expected[handle.id] = (handle, content)

    def handle(self, speech: str) -> SpeechHandle | None:
        entry = self._speeches.get(speech)
        return entry.handle if entry is not None else None

    def live(self) -> list[SpeechHandle]:
        return [entry.handle for entry in self._speeches.values() if not entry.handle.done()]

    def note(self, event: ev.Event) -> None:
        """See an event on its way to the dialog: what was made, what was heard."""
        if isinstance(event, ev.Generated):
            entry = self._speeches.get(event.speech)
            if entry is not None and event.what == "end" and (text := event.text.strip()):
                entry.handle.mark_made(event.step, text)
                entry.add(Message(f"{event.speech}.{event.step}", "assistant", text))
        elif isinstance(event, ev.Played) and event.what in ("finished", "stopped"):
            self._step_heard(event)

    def spoken(self, speech: str, step: int, text: str) -> None:
        entry = self._speeches.get(speech)
        if entry is not None and entry.content.worded:
            self._session.emit("agent_text", AgentTextEvent(f"{speech}.{step}", text, final=False))

    async def wait_for_step(self, handle: SpeechHandle, step: int) -> None:
        entry = self._speeches.get(handle.id)
        if entry is None or handle.done() or entry.heard_steps >= step:
            return
        heard = asyncio.get_running_loop().create_future()
        entry.waiting.append((step, heard))
        await heard

    async def aclose(self) -> None:
        await self._playout.aclose()
        for making in (*(entry.making for entry in self._speeches.values()), *self._discarded):
            await making.aclose()

    # --- making -----------------------------------------------------------------------------------------------------

    def _generate(self, command: ev.Generate) -> None:
        entry = self._entry(command.speech, "turn")
        entry.handle.mark_step(command.step)
        agent = self._session.current_agent
        content = entry.content
        names = content.tools
        tools: list[ToolSchema] = [tool.schema() for tool in agent.tools if names is None or tool.name in names]
        last = command.step > self._session.max_tool_steps
        tool_choice = "none" if last else content.tool_choice if command.step == 1 else "auto"
        context = self._context(entry)
        if command.user_text:
            context.add(Message("early", "user", command.user_text))
        entry.making.generate(command.step, self._session.llm(), context, tools, tool_choice)

    def _context(self, entry: _Speech) -> ChatContext:
        given = entry.content.chat_ctx or self._contexts.get(entry.handle.id)
        if given is not None:
            return ChatContext([*given, *entry.made])
        context = self._session.context(instructions=entry.content.instructions)
        return ChatContext([*context, *entry.uncommitted])

    def _cancel(self, command: ev.CancelGeneration) -> None:
        self._speeches[command.speech].making.cancel()

    # --- tools ------------------------------------------------------------------------------------------------------

    def _run_tool(self, command: ev.RunTool) -> None:
        self._session.spawn(self._call_tool(command), name=f"tool {command.call.name}")

    async def _call_tool(self, command: ev.RunTool) -> None:
        call = command.call
        entry = self._speeches[command.speech]
        requested = FunctionCall(f"{command.speech}.{call.call_id}", call.call_id, call.name, call.arguments)
        tool = self._session.current_agent.find_tool(call.name)
        if tool is None:
            output, is_error, reply = f"There is no tool named {call.name}.", True, True
        else:
            context = RunContext(self._session, entry.handle, requested, command.step)
            RUNNING_TOOL.set((entry.handle, command.step))  # this task runs nothing else
            result = await tool.run(call.arguments, context)
            output, is_error, reply = result.output, result.is_error, result.reply
            if result.error is not None:
                log.warning("tool failed", tool=call.name, call_id=call.call_id, exc_info=result.error)
                self._session.report(result.error, "tool")
        returned = FunctionCallOutput(f"{requested.id}.output", call.call_id, call.name, output, is_error)
        entry.add(requested)
        entry.add(returned)
        self._session.emit("function_tools_executed", FunctionToolsExecutedEvent(requested, returned))
        self._session.feed(ev.ToolFinished(command.speech, call.call_id, output, is_error, reply))

    # --- turns ------------------------------------------------------------------------------------------------------

    def _run_hook(self, command: ev.RunHook) -> None:
        agent = self._session.current_agent
        if type(agent).on_user_turn_completed is Agent.on_user_turn_completed:
            self._session.feed(ev.HookFinished(command.turn, True, command.text))
        else:
            self._session.spawn(self._call_hook(agent, command), name="on_user_turn_completed")

    async def _call_hook(self, agent: Agent, command: ev.RunHook) -> None:
        message = Message(command.turn, "user", command.text)
        before = self._session.context()
        context = before.copy()
        text, go_on = command.text, True
        try:
            replaced = await agent.on_user_turn_completed(context, message)
            text = replaced.text if replaced is not None else text
        except StopResponse:
            go_on = False
        except Exception as error:
            log.exception("on_user_turn_completed failed", turn=command.turn)
            self._session.report(error, "on_user_turn_completed")
        changed = context != before
        if changed:
            context.add(Message(command.turn, "user", text))
            self._contexts[f"reply_{command.turn}"] = context
        self._session.feed(ev.HookFinished(command.turn, go_on, text, changed))

    # --- history ----------------------------------------------------------------------------------------------------

    def _commit(self, command: ev.Commit) -> None:
        item = command.item
        self._session.add_to_history(item)
        entry = self._speeches.get(command.speech)
        if entry is not None:
            entry.handle.mark_item(item)
            entry.uncommitted = _without(entry.uncommitted, item)
        self._session.emit("conversation_item_added", ConversationItemAddedEvent(item))

    def _step_heard(self, event: ev.Played) -> None:
        entry = self._speeches.get(event.speech)
        if entry is None:
            return
        entry.heard_steps = max(entry.heard_steps, event.step)
        seconds = event.samples / self._sample_rate
        entry.handle.mark_heard(event.step, event.text, seconds=seconds, aligned=event.aligned)
        if entry.content.worded:
            final = AgentTextEvent(f"{event.speech}.{event.step}", "", final=True, interrupted=event.what == "stopped")
            self._session.emit("agent_text", final)
        self._release(entry, event.step)

    def _release(self, entry: _Speech, step: int) -> None:
        for wanted, heard in entry.waiting:
            if wanted <= step and not heard.done():
                heard.set_result(None)
        entry.waiting = [(wanted, heard) for wanted, heard in entry.waiting if not heard.done()]

    # --- notices ----------------------------------------------------------------------------------------------------

    def _speech_created(self, notice: ev.SpeechCreated) -> None:
        entry = self._entry(notice.speech, notice.source)
        event = SpeechCreatedEvent(entry.handle, notice.source, user_initiated=notice.source != "turn")
        self._session.emit("speech_created", event)

    def _entry(self, speech: str, source: ev.SpeechSource) -> _Speech:
        """What is known of a speech; it may be made before it is announced."""
        if speech not in self._speeches:
            if speech not in self._expected:  # neither ``say`` nor ``generate_reply``: the dialog answers a turn
                self.expect(self._session.make_handle(ev.SpeechRequested(speech, source)), Content())
            handle, content = self._expected.pop(speech)
            making = self._session.make_speech(speech, content, self._sample_rate)
            self._speeches[speech] = _Speech(handle, content, making)
        return self._speeches[speech]

    def _early_reply_discarded(self, notice: ev.EarlyReplyDiscarded) -> None:
        making = self._speeches.pop(notice.speech).making
        self.wasted_tokens += making.tokens
        self._discarded.append(making)
        log.info("early reply discarded", speech=notice.speech, tokens=making.tokens)

    def _speech_ended(self, notice: ev.SpeechEnded) -> None:
        entry = self._speeches[notice.speech]
        if notice.error:
            log.error("speech failed", speech=notice.speech, error=notice.error)
        entry.handle.mark_ended(notice.reason, error=notice.error, at=asyncio.get_running_loop().time())
        self._release(entry, entry.handle.num_steps)
        entry.making.release()
        self._contexts.pop(notice.speech, None)

    def _false_interruption(self, notice: ev.FalseInterruption) -> None:
        handle = self._speeches[notice.speech].handle
        self._session.emit("agent_false_interruption", AgentFalseInterruptionEvent(handle, resumed=True))

    def _agent_state_changed(self, notice: ev.AgentStateChanged) -> None:
        self._session.emit("agent_state_changed", AgentStateChangedEvent(notice.old, notice.new))

    def _user_state_changed(self, notice: ev.UserStateChanged) -> None:
        self._session.emit("user_state_changed", UserStateChangedEvent(notice.old, notice.new))

    def _user_transcribed(self, notice: ev.UserTranscribed) -> None:
        event = UserInputTranscribedEvent(notice.text, False, notice.turn)
        self._session.emit("user_input_transcribed", event)

    def _turn_committed(self, notice: ev.TurnCommitted) -> None:
        log.info("turn", turn=notice.turn, characters=len(notice.text))
        event = UserInputTranscribedEvent(notice.text, True, "" if notice.typed else notice.turn)
        self._session.emit("user_input_transcribed", event)

    def _close(self, command: ev.Close) -> None:
        self._session.emit("close", CloseEvent(command.reason))
        self._session.finish(command.reason)


def _without(items: list[ChatItem], committed: ChatItem) -> list[ChatItem]:
    """The items without the one that was committed: the first message, or the part of the same tool call."""
    for index, item in enumerate(items):
        if type(item) is not type(committed):
            continue
        if isinstance(item, Message) or item.call_id == getattr(committed, "call_id", ""):
            return items[:index] + items[index + 1 :]
    return items
