"""Does what the dialog commands: asks the model, moves audio, runs tools, tells the user's code.

Each command starts work and returns at once; what became of it goes back as an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from greenroom.dialog import commands as do
from greenroom.dialog import events as ev
from greenroom.dialog import notices as news
from greenroom.dialog.history import ChatContext, ChatItem, FunctionCall, FunctionCallOutput, Message
from greenroom.providers.llm import ToolChoice
from greenroom.session.agent import Agent
from greenroom.session.handle import SpeechHandle
from greenroom.session.hooks import (
    AgentFalseInterruptionEvent,
    AgentStateChangedEvent,
    AgentTextEvent,
    CloseEvent,
    ConversationItemAddedEvent,
    DeadAirEvent,
    SpeechCreatedEvent,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
    UserTurnExceededEvent,
)
from greenroom.session.playout import Playout
from greenroom.session.realtime import word_for_word
from greenroom.session.reply import Content, Making
from greenroom.session.senses import Asked
from greenroom.session.toolruns import ToolRuns
from greenroom.session.tools import StopResponse
from greenroom.session.words import Shown

if TYPE_CHECKING:
    from greenroom.session.conversation import Conversation

__all__ = ["Stage"]

REMEMBERED = 8
"""Speeches that are over and still known: for what comes late, as the output of a tool that was not interrupted."""

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
    """The shell's side of every command of one talk."""

    def __init__(self, talk: Conversation, playout: Playout, sample_rate: int) -> None:
        self._talk = talk
        self._playout = playout
        self._sample_rate = sample_rate
        self._speeches: dict[str, _Speech] = {}
        self._over: list[str] = []
        """In the order in which they ended, which is not that of ``_speeches``: what comes late comes to the last."""
        self._expected: dict[str, tuple[SpeechHandle, Content]] = {}
        self._contexts: dict[str, ChatContext] = {}
        self._discarded: list[Making] = []
        self._tools = ToolRuns(talk, self._tool_returned)
        self.wasted_tokens = 0
        self._perform: dict[type[Any], Callable[[Any], None]] = {
            do.Judge: talk.judge_turn,
            do.CutUtterance: lambda c: talk.cut_utterance(),
            do.RunHook: self._run_hook,
            do.Generate: self._generate,
            do.CancelGeneration: self._cancel,
            do.Synthesise: self._synthesise,
            do.Play: self._play,
            do.Hold: lambda c: playout.hold(c.speech, c.step),
            do.Pause: lambda c: playout.pause(c.speech, c.step),
            do.Resume: lambda c: playout.resume(c.speech, c.step),
            do.Stop: lambda c: playout.stop(c.speech, c.step),
            do.RunTool: lambda c: self._tools.run(c, self._speeches[c.speech].handle),
            do.CancelTool: self._tools.cancel,
            do.SwitchAgent: lambda c: talk.switch_agent(c.agent),
            do.Commit: self._commit,
            do.Announce: lambda c: self._announce[type(c.notice)](c.notice),
            do.Close: self._close,
            do.Drop: lambda c: log.debug("event dropped", dropped=c.event, reason=c.reason),
        }
        self._announce: dict[type[Any], Callable[[Any], None]] = {
            news.AgentStateChanged: self._agent_state_changed,
            news.UserStateChanged: self._user_state_changed,
            news.UserTranscribed: self._user_transcribed,
            news.TurnCommitted: self._turn_committed,
            news.TurnEmpty: lambda n: talk.turn_over(""),
            news.TurnExceeded: self._turn_exceeded,
            news.UserMuted: lambda n: log.info("user muted" if n.on else "user unmuted"),
            news.DeadAir: self._dead_air,
            news.Backchannel: lambda n: log.info("backchannel", turn=n.turn),
            news.EarlyReplyDiscarded: self._early_reply_discarded,
            news.FalseInterruption: self._false_interruption,
            news.TurnTimedOut: lambda n: log.warning("transcriber owes words", turn=n.turn, utterances=n.utterances),
            news.SpeechCreated: self._speech_created,
            news.SpeechStarted: lambda n: self._speeches[n.speech].handle.mark_started(n.at),
            news.SpeechEnded: self._speech_ended,
        }

    def perform(self, command: do.Command) -> None:
        self._talk.watch(command)
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
        self._talk.watch(event)
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
            self._shown(entry, step).write(text)

    def _shown(self, entry: _Speech, step: int) -> Shown:
        """The words of a step on their way to whoever reads along."""

        def show(text: str, final: bool, interrupted: bool, whole: str) -> None:
            event = AgentTextEvent(f"{entry.handle.id}.{step}", text, final, interrupted, whole)
            self._talk.emit("agent_text", event)

        talk = self._talk
        return entry.making.shown(step, lambda: Shown(talk.current_agent, show=show, failed=talk.report))

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

    def _generate(self, command: do.Generate) -> None:
        entry = self._entry(command.speech, "turn")
        entry.handle.mark_step(command.step)
        content = entry.content
        last = command.step > self._talk.max_tool_steps
        tool_choice: ToolChoice = "none" if last else content.tool_choice if command.step == 1 else "auto"
        context = self._context(entry)
        if command.user_text:
            context.add(Message("early", "user", command.user_text))
        tools = list(self._talk.available_tools().values())
        asked = Asked(command.speech, command.step, content, context, tools, tool_choice)
        entry.making.generate(command.step, self._talk.senses.source(self._talk.current_agent, asked))

    def _synthesise(self, command: do.Synthesise) -> None:
        voicing = self._talk.senses.voicing(self._talk.current_agent)
        self._speeches[command.speech].making.synthesise(command.step, voicing)

    def _context(self, entry: _Speech) -> ChatContext:
        content = entry.content
        given = content.chat_ctx if content.chat_ctx is not None else self._contexts.get(entry.handle.id)
        if given is not None:
            asked = [Message("user_input", "user", content.user_input)] if content.user_input else []
            return ChatContext([*given, *asked, *entry.made])
        items = [*self._talk.context(instructions=content.instructions)]
        # What nothing will stop is as good as said; the user's last words came after its beginning.
        place = len(items)
        while place and isinstance(last := items[place - 1], Message) and last.role == "user":
            place -= 1
        return ChatContext([*items[:place], *self._being_said(entry), *items[place:], *entry.uncommitted])

    def _being_said(self, entry: _Speech) -> list[ChatItem]:
        """The words of a protected speech that is heard at the moment."""
        return [
            item
            for other in self._speeches.values()
            if other is not entry and not other.handle.allow_interruptions and other.handle.state == "playing"
            for item in other.uncommitted
        ]

    def _cancel(self, command: do.CancelGeneration) -> None:
        self._speeches[command.speech].making.cancel()

    def _play(self, command: do.Play) -> None:
        entry = self._speeches[command.speech]
        entry.handle.mark_authorised(asyncio.get_running_loop().time())
        handle, talk = entry.handle, self._talk
        voice = entry.making.voice(command.step)
        self._playout.play(command.speech, command.step, voice, volume=lambda: handle.volume * talk.volume)

    def _tool_returned(self, speech: str, call: FunctionCall, output: FunctionCallOutput) -> None:
        self._speeches[speech].add(call)
        self._speeches[speech].add(output)

    # --- turns ------------------------------------------------------------------------------------------------------

    def _run_hook(self, command: do.RunHook) -> None:
        agent = self._talk.current_agent
        if type(agent).on_user_turn_completed is Agent.on_user_turn_completed:
            self._talk.feed(ev.HookFinished(command.turn, True, command.text))
        else:
            self._talk.spawn(self._call_hook(agent, command), name="on_user_turn_completed")

    async def _call_hook(self, agent: Agent, command: do.RunHook) -> None:
        message = Message(command.turn, "user", command.text)
        before = self._talk.context()
        context = before.copy()
        text, go_on = command.text, True
        try:
            replaced = await agent.on_user_turn_completed(context, message)
            text = replaced.text if replaced is not None else text
        except StopResponse:
            go_on = False
        except Exception as error:
            log.exception("on_user_turn_completed failed", turn=command.turn)
            self._talk.report(error, "on_user_turn_completed")
        changed = context != before
        if changed:
            context.add(Message(command.turn, "user", text))
            self._contexts[f"reply_{command.turn}"] = context
        self._talk.feed(ev.HookFinished(command.turn, go_on, text, changed))

    # --- history ----------------------------------------------------------------------------------------------------

    def _commit(self, command: do.Commit) -> None:
        item = command.item
        self._talk.add_to_history(item)
        entry = self._speeches.get(command.speech)
        if entry is not None:
            entry.handle.mark_item(item)
            entry.uncommitted = _without(entry.uncommitted, item)
        if isinstance(item, Message) and not item.text:
            return  # a place in the history; its words come later
        self._talk.emit("conversation_item_added", ConversationItemAddedEvent(item))

    def _step_heard(self, event: ev.Played) -> None:
        entry = self._speeches.get(event.speech)
        if entry is None:
            return
        entry.heard_steps = max(entry.heard_steps, event.step)
        seconds = event.samples / self._sample_rate
        entry.handle.mark_heard(event.step, event.text, seconds=seconds, aligned=event.aligned)
        if entry.content.worded:
            self._shown(entry, event.step).end(interrupted=event.what == "stopped", heard=event.text)
        self._release(entry, event.step)

    def _release(self, entry: _Speech, step: int) -> None:
        for wanted, heard in entry.waiting:
            if wanted <= step and not heard.done():
                heard.set_result(None)
        entry.waiting = [(wanted, heard) for wanted, heard in entry.waiting if not heard.done()]

    # --- notices ----------------------------------------------------------------------------------------------------

    def _speech_created(self, notice: news.SpeechCreated) -> None:
        entry = self._entry(notice.speech, notice.source, notice.text)
        entry.handle.mark_scheduled()
        user_initiated = notice.source in ("say", "generate_reply")
        event = SpeechCreatedEvent(entry.handle, notice.source, user_initiated)
        self._talk.emit("speech_created", event)

    def _entry(self, speech: str, source: ev.SpeechSource, text: str = "") -> _Speech:
        """What is known of a speech; it may be made before it is announced."""
        if speech not in self._speeches:
            if speech not in self._expected:  # neither ``say`` nor ``generate_reply``: the dialog itself speaks
                self.expect(self._talk.make_handle(ev.SpeechRequested(speech, source)), self._own(text))
            handle, content = self._expected.pop(speech)
            making = self._talk.make_speech(speech, content, self._sample_rate)
            self._speeches[speech] = _Speech(handle, content, making)
        return self._speeches[speech]

    def _own(self, text: str) -> Content:
        """The dialog's own words, or a reply where it has none. A realtime model that is the only voice is asked."""
        if text and self._talk.senses.spoken_by_model(self._talk.current_agent):
            return Content(instructions=word_for_word(text), tools=(), tool_choice="none")
        return Content(text or None)

    def _early_reply_discarded(self, notice: news.EarlyReplyDiscarded) -> None:
        making = self._speeches.pop(notice.speech).making
        self.wasted_tokens += making.tokens
        self._discarded = [one for one in (*self._discarded, making) if not one.over]
        log.info("early reply discarded", speech=notice.speech, tokens=making.tokens)

    def _speech_ended(self, notice: news.SpeechEnded) -> None:
        entry = self._speeches[notice.speech]
        if notice.error:
            log.error("speech failed", speech=notice.speech, error=notice.error)
        entry.handle.mark_ended(notice.reason, error=notice.error, at=asyncio.get_running_loop().time())
        self._release(entry, entry.handle.num_steps)
        entry.making.release()
        self._contexts.pop(notice.speech, None)
        self._over.append(notice.speech)
        self._forget()

    def _forget(self) -> None:
        """What is over, the last ones apart: a call that goes on for hours has thousands of speeches."""
        for speech in self._over[:-REMEMBERED]:
            if self._speeches[speech].making.over and not self._tools.running(speech):
                del self._speeches[speech]
        self._over = [speech for speech in self._over if speech in self._speeches]

    def _false_interruption(self, notice: news.FalseInterruption) -> None:
        handle = self._speeches[notice.speech].handle
        self._talk.emit("agent_false_interruption", AgentFalseInterruptionEvent(handle, resumed=True))

    def _agent_state_changed(self, notice: news.AgentStateChanged) -> None:
        self._talk.emit("agent_state_changed", AgentStateChangedEvent(notice.old, notice.new))

    def _user_state_changed(self, notice: news.UserStateChanged) -> None:
        self._talk.emit("user_state_changed", UserStateChangedEvent(notice.old, notice.new))

    def _user_transcribed(self, notice: news.UserTranscribed) -> None:
        event = UserInputTranscribedEvent(notice.text, False, notice.turn)
        self._talk.emit("user_input_transcribed", event)

    def _turn_committed(self, notice: news.TurnCommitted) -> None:
        log.info("turn", turn=notice.turn, characters=len(notice.text))
        if notice.asked:
            self._talk.turn_over(notice.text)
        event = UserInputTranscribedEvent(notice.text, True, "" if notice.typed else notice.turn)
        self._talk.emit("user_input_transcribed", event)

    def _turn_exceeded(self, notice: news.TurnExceeded) -> None:
        log.info("turn too long", turn=notice.turn, seconds=round(notice.lasted, 1))
        self._talk.emit("user_turn_exceeded", UserTurnExceededEvent(notice.turn, notice.lasted))

    def _dead_air(self, notice: news.DeadAir) -> None:
        log.error("dead air", step=notice.step, silent=round(notice.silent, 1))
        self._talk.emit("dead_air", DeadAirEvent(notice.step, notice.silent))

    def _close(self, command: do.Close) -> None:
        self._talk.emit("close", CloseEvent(command.reason))
        self._talk.finish(command.reason)


def _without(items: list[ChatItem], committed: ChatItem) -> list[ChatItem]:
    """The items without the one that was committed: the first message, or the part of the same tool call."""
    for index, item in enumerate(items):
        if type(item) is not type(committed):
            continue
        if isinstance(item, Message) or item.call_id == getattr(committed, "call_id", ""):
            return items[:index] + items[index + 1 :]
    return items
