"""One conversation: the shell around ``Dialog``.

It gives the dialog what is heard, made and played, and does what the dialog commands. What the user's code calls is
here; what decides is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from greenroom.audio import AudioFrameLike
from greenroom.dialog.dialog import Dialog, DialogRules
from greenroom.dialog.events import (
    AgentState,
    CloseAsked,
    Command,
    EndReason,
    Event,
    InterruptAsked,
    Place,
    ProtectionChanged,
    SpeechRequested,
    Started,
    Tick,
    UserState,
    UserTyped,
)
from greenroom.dialog.history import ChatContext, ChatItem, Message
from greenroom.machine import Driver
from greenroom.providers.llm import LLM, ToolChoice
from greenroom.providers.stt import STT
from greenroom.providers.tts import TTS
from greenroom.providers.vad import VAD
from greenroom.session.agent import Agent
from greenroom.session.handle import RUNNING_TOOL, SpeechHandle, UtteranceHandle
from greenroom.session.hearing import Hearing
from greenroom.session.hooks import ErrorEvent, EventName, Hooks
from greenroom.session.media import AudioInput, AudioOutput
from greenroom.session.playout import Playout
from greenroom.session.reply import Content, Making
from greenroom.session.segments import SegmentRules
from greenroom.session.stage import Stage
from greenroom.session.tools import FunctionTool

__all__ = ["AgentSession", "SessionOptions"]

log = structlog.get_logger(__name__)

EXIT_TIMEOUT = 5.0
"""How long ``on_exit`` may take. Seconds."""
CLOSE_TIMEOUT = 5.0
"""How long the last speeches may take to end when the session is closed at once. Seconds."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session hears and decides. ``padding``: seconds before an utterance that the transcriber is given."""

    rules: DialogRules = field(default_factory=DialogRules)
    voice: SegmentRules = field(default_factory=SegmentRules)
    padding: float = 0.4


class AgentSession:
    """A conversation between one user and one agent.

    Providers given here are used where the agent brings none of its own. ``journal`` is told every event that the
    dialog takes, with its time, before it is handled.
    """

    def __init__(
        self,
        *,
        vad: VAD | None = None,
        stt: STT | None = None,
        llm: LLM | None = None,
        tts: TTS | None = None,
        options: SessionOptions | None = None,
        userdata: Any = None,
        journal: Callable[[Event, float], None] | None = None,
    ) -> None:
        self.userdata = userdata
        self._vad, self._stt, self._llm, self._tts = vad, stt, llm, tts
        self._options = options or SessionOptions()
        self._journal = journal
        self._hooks = Hooks()
        self._history = ChatContext()
        self._speeches = 0
        self._agent: Agent | None = None
        self._dialog = Dialog(self._options.rules)
        self._stage: Stage | None = None
        self._driver: Driver[Event, Command] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed: asyncio.Future[str] | None = None
        self._exiting = False

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self, agent: Agent, *, audio_in: AudioInput | None, audio_out: AudioOutput) -> None:
        """Begin to listen and let the agent enter. Without ``audio_in`` it hears text only (``receive_text``)."""
        if self._stage is not None:
            raise RuntimeError("the session has started already")
        loop = asyncio.get_running_loop()
        self._agent = agent
        self._closed = loop.create_future()
        self._stage = Stage(self, Playout(audio_out, feed=self._feed, spoken=self._spoken), audio_out.sample_rate)
        self._driver = Driver(self._dialog, self._stage.perform, clock=loop, tick=Tick(), observe=self._journal)
        for item in agent.enter(self):
            self._history.add(item)
        self._feed(Started())
        vad = agent.vad or self._vad
        if audio_in is not None and vad is not None:
            hearing = Hearing(
                vad,
                agent.stt or self._stt,
                rules=self._options.voice,
                padding=self._options.padding,
                feed=self._feed,
                failed=self.report,
            )
            self.spawn(hearing.run(audio_in), name="hearing")
        self.spawn(agent.on_enter(), name="on_enter")

    async def aclose(self, reason: str = "closed", *, drain: bool = False) -> None:
        """End the conversation: at once, or (``drain``) when what is waiting has been said. Safe to call twice."""
        if self._stage is None or self._closed is None:
            return
        if not self._exiting:
            self._exiting = True
            await self._call_on_exit()
            self._feed(CloseAsked(reason, drain))
        try:
            await asyncio.wait_for(asyncio.shield(self._closed), None if drain else CLOSE_TIMEOUT)
        except TimeoutError:
            log.error("speeches did not end in time", seconds=CLOSE_TIMEOUT)
        await self._tear_down()

    async def wait_closed(self) -> str:
        """Until the conversation has ended; the reason."""
        if self._closed is None:
            raise RuntimeError("the session has not started")
        return await asyncio.shield(self._closed)

    # --- speech -----------------------------------------------------------------------------------------------------

    def say(
        self,
        text: str | AsyncIterable[str] | None = None,
        *,
        audio: AsyncIterable[AudioFrameLike] | None = None,
        allow_interruptions: bool = True,
        add_to_chat_ctx: bool = True,
        priority: int = 5,
        place: Place = "queue",
        ttl: float | None = None,
        key: str = "",
        group: str = "",
    ) -> SpeechHandle:
        """Say something. With ``audio`` that is played, and ``text`` is its transcript; audio alone leaves no trace.

        ``ttl``: seconds after which it is not worth saying any more if its turn has not come. ``key``: dropped while
        another with the same key is waiting or playing. ``group``: a name to interrupt several by.
        """
        if text is None and audio is None:
            raise ValueError("say() was given neither text nor audio; expected at least one")
        request = SpeechRequested(
            self._new_id(),
            "say",
            priority=priority,
            place=place,
            allow_interruptions=allow_interruptions,
            ttl=ttl,
            key=key,
            group=group,
            text=text if isinstance(text, str) else "",
            in_history=add_to_chat_ctx and text is not None,
        )
        return self._request(request, Content(text=text, audio=audio))

    def generate_reply(
        self,
        *,
        user_input: str = "",
        instructions: str = "",
        chat_ctx: ChatContext | None = None,
        allow_interruptions: bool = True,
        tools: Sequence[FunctionTool | str] | None = None,
        tool_choice: ToolChoice = "auto",
        priority: int = 5,
        place: Place = "queue",
        ttl: float | None = None,
        key: str = "",
        group: str = "",
    ) -> SpeechHandle:
        """Have the model say something.

        ``instructions`` are added to the agent's for this reply; ``chat_ctx`` takes the place of the whole context.
        ``tools``: the only ones that the model may call. The rest as in ``say``.
        """
        if instructions and chat_ctx is not None:
            raise ValueError(
                "generate_reply() was given both instructions and chat_ctx; "
                "expected one: put the instructions into the chat_ctx, or leave it out"
            )
        names = None if tools is None else tuple(tool if isinstance(tool, str) else tool.name for tool in tools)
        request = SpeechRequested(
            self._new_id(),
            "generate_reply",
            priority=priority,
            place=place,
            allow_interruptions=allow_interruptions,
            ttl=ttl,
            key=key,
            group=group,
            user_input=user_input,
        )
        content = Content(instructions=instructions, chat_ctx=chat_ctx, tools=names, tool_choice=tool_choice)
        return self._request(request, content)

    def reply(self, instructions: str, wait_for_playback: bool = True) -> SpeechHandle:
        """VideoSDK's word for ``generate_reply``: with ``wait_for_playback`` nothing interrupts it."""
        return self.generate_reply(instructions=instructions, allow_interruptions=not wait_for_playback)

    def interrupt(self, *, force: bool = False, group: str = "") -> asyncio.Future[Any]:
        """Stop the current speech and all that wait (or those of a group); protected ones only with ``force``.

        May be awaited until they have ended.
        """
        hit = [
            handle
            for handle in self._running().live()
            if (force or handle.allow_interruptions) and (not group or handle.group == group)
        ]
        self._feed(InterruptAsked(group=group, force=force))
        return asyncio.gather(*(handle.wait_for_playout() for handle in hit))

    def receive_text(self, text: str) -> None:
        """The user typed a whole turn."""
        self._running()
        if text.strip():
            self._feed(UserTyped(text.strip()))

    @property
    def current_speech(self) -> SpeechHandle | None:
        """Inside a tool the speech that called it; else the one that is heard, or about to be, if there is one."""
        running = RUNNING_TOOL.get()
        if running is not None and not running[0].done():
            return running[0]
        current = self._dialog.current_speech
        return self._stage.handle(current) if self._stage is not None and current is not None else None

    @property
    def current_utterance(self) -> UtteranceHandle | None:
        """VideoSDK's name for ``current_speech``."""
        return self.current_speech

    # --- what is known ----------------------------------------------------------------------------------------------

    @property
    def history(self) -> ChatContext:
        """The conversation so far; of the agent's words, those that were heard. A copy."""
        return self._history.copy()

    @property
    def current_agent(self) -> Agent:
        if self._agent is None:
            raise RuntimeError("the session has no agent yet; start it first")
        return self._agent

    @property
    def agent_state(self) -> AgentState:
        return self._dialog.agent_state

    @property
    def user_state(self) -> UserState:
        return self._dialog.user_state

    @property
    def wasted_tokens(self) -> int:
        """Pieces of text that the model made for early answers which nobody heard (``preemptive``)."""
        return self._stage.wasted_tokens if self._stage is not None else 0

    def context(self, *, instructions: str = "") -> ChatContext:
        """What the model would be told now: the agent's instructions (and these), then the history."""
        text = "\n\n".join(part for part in (self.current_agent.instructions, instructions) if part)
        system = [Message("instructions", "system", text)] if text else []
        return ChatContext([*system, *self._history])

    def on(self, name: EventName, handler: Callable[[Any], object] | None = None) -> Callable[..., Any]:
        """Call ``handler`` at each event of this name (see ``session.hooks``); without one, a decorator."""
        return self._hooks.on(name, handler)

    def off(self, name: EventName, handler: Callable[[Any], object]) -> None:
        self._hooks.off(name, handler)

    async def wait_for_step(self, handle: SpeechHandle, step: int) -> None:
        """Until a step of a speech has been heard, or the speech has ended."""
        await self._running().wait_for_step(handle, step)

    # --- for handles, and for the stage -------------------------------------------------------------------------------

    def interrupt_speech(self, handle: SpeechHandle, *, force: bool) -> None:
        self._feed(InterruptAsked(handle.id, force=force))

    def protect_speech(self, handle: SpeechHandle, allow_interruptions: bool, /) -> None:
        self._feed(ProtectionChanged(handle.id, allow_interruptions))

    def emit(self, name: EventName, event: object) -> None:
        self._hooks.emit(name, event)

    def report(self, error: BaseException, source: str) -> None:
        """A provider, a tool or a hook failed; the session goes on."""
        self._hooks.emit("error", ErrorEvent(error, source))

    def make_handle(self, request: SpeechRequested) -> SpeechHandle:
        return SpeechHandle(
            self,
            request.speech,
            source=request.source,
            priority=request.priority,
            allow_interruptions=request.allow_interruptions,
            created=asyncio.get_running_loop().time(),
            group=request.group,
        )

    def make_speech(self, speech: str, content: Content, sample_rate: int) -> Making:
        return Making(speech, content, sample_rate=sample_rate, feed=self._feed, failed=self.report)

    def add_to_history(self, item: ChatItem) -> None:
        self._history.add(item)

    def llm(self) -> LLM | None:
        return self.current_agent.llm or self._llm

    def tts(self) -> TTS | None:
        return self.current_agent.tts or self._tts

    @property
    def max_tool_steps(self) -> int:
        return self._options.rules.max_tool_steps

    def feed(self, event: Event) -> None:
        self._feed(event)

    def finish(self, reason: str) -> None:
        """The dialog is closed."""
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(reason)

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run something for as long as the session lives; its failure is reported, and ends nothing else."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    # --- pieces -----------------------------------------------------------------------------------------------------

    def _running(self) -> Stage:
        if self._stage is None:
            raise RuntimeError("the session has not started; await session.start(...) first")
        return self._stage

    def _new_id(self) -> str:
        self._speeches += 1
        return f"speech_{self._speeches}"

    def _request(self, request: SpeechRequested, content: Content) -> SpeechHandle:
        stage = self._running()
        handle = self.make_handle(request)
        if self._closed is not None and self._closed.done():
            # Code that outlives the call (a tool, ``on_exit``) must not wait for a voice that will never sound.
            handle.mark_ended(EndReason.CLOSED, error="", at=asyncio.get_running_loop().time())
            return handle
        stage.expect(handle, content)
        self._feed(request)
        return handle

    def _feed(self, event: Event) -> None:
        if self._driver is None or self._stage is None:
            return
        self._stage.note(event)
        self._driver.feed(event)

    def _spoken(self, speech: str, step: int, text: str) -> None:
        if self._stage is not None:
            self._stage.spoken(speech, step, text)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", task=task.get_name(), exc_info=error)
            self.report(error, task.get_name())
            if task.get_name() == "hearing":  # an agent that cannot hear must not hold the line
                self._feed(CloseAsked("hearing failed"))

    async def _call_on_exit(self) -> None:
        try:
            await asyncio.wait_for(self.current_agent.on_exit(), EXIT_TIMEOUT)
        except TimeoutError:
            log.error("on_exit took too long", seconds=EXIT_TIMEOUT)
        except Exception as error:
            log.exception("on_exit failed")
            self.report(error, "on_exit")

    async def _tear_down(self) -> None:
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._stage is not None:
            await self._stage.aclose()
        if self._driver is not None:
            self._driver.close()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result("closed")
