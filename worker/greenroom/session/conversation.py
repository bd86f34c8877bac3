"""What a session consists of behind its public face: the dialog, its driver, and the shell that does its will.

``AgentSession`` is what the user's code calls; the shell's parts (``Stage``, ``Senses``, ``ToolRuns``) are given this.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import structlog

from greenroom.dialog.commands import Command, Judge
from greenroom.dialog.dialog import Dialog, DialogRules
from greenroom.dialog.events import (
    AgentChanged,
    CloseAsked,
    ContextChanged,
    Detection,
    EndReason,
    Event,
    InterruptAsked,
    ProtectionChanged,
    SpeechRequested,
    Started,
    Tick,
    TurnEndAsked,
)
from greenroom.dialog.history import ChatContext, ChatItem
from greenroom.machine import Driver
from greenroom.providers.resilience.rules import GaveUp, Hedge, Incident
from greenroom.providers.turn import TurnDetector
from greenroom.session.agent import Agent
from greenroom.session.handle import SpeechHandle
from greenroom.session.hooks import AgentHandedOffEvent, ErrorEvent, EventName, Hooks, MetricsCollectedEvent
from greenroom.session.judging import TurnJudge
from greenroom.session.media import AudioInput, AudioOutput
from greenroom.session.metrics import HedgeMetrics, Metrics, TurnStopwatch
from greenroom.session.playout import Playout
from greenroom.session.reply import Content, Making
from greenroom.session.resume import Continuation
from greenroom.session.resuming import Resuming
from greenroom.session.segments import SegmentRules
from greenroom.session.senses import Providers, Senses
from greenroom.session.sources import ToolSource, ToolSources
from greenroom.session.stage import Stage
from greenroom.session.tools import FunctionTool
from greenroom.session.watching import Watching
from greenroom.speech.gain import checked_volume
from greenroom.speech.transforms import Transforms

if TYPE_CHECKING:
    from greenroom.session.session import AgentSession

__all__ = ["Conversation", "SessionOptions"]

log = structlog.get_logger(__name__)

EXIT_TIMEOUT = 5.0
"""How long ``on_exit`` may take. Seconds."""
CLOSE_TIMEOUT = 5.0
"""How long the last speeches may take to end when the session is closed at once. Seconds."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session hears, decides and sounds.

    ``padding``: seconds before an utterance that the transcriber is given. ``fade``: seconds in which a speech that is
    cut off falls silent. ``volume``: of the voice, to begin with. ``transforms``: what becomes of words before they are
    spoken.
    """

    rules: DialogRules = field(default_factory=DialogRules)
    voice: SegmentRules = field(default_factory=SegmentRules)
    padding: float = 0.4
    fade: float = 0.02
    volume: float = 1.0
    transforms: Transforms = field(default_factory=Transforms)


class Conversation:
    """One conversation: it gives the dialog what is heard, made and played, and does what the dialog commands."""

    def __init__(
        self,
        session: AgentSession,
        providers: Providers,
        options: SessionOptions,
        *,
        mcp_servers: Sequence[ToolSource],
        turn_detection: Detection | TurnDetector | None,
        preemptive_generation: bool | None,
        journal: Callable[[Event, float], None] | None,
    ) -> None:
        self.session = session
        self.hooks = Hooks()
        self.history = ChatContext()
        self._judge: TurnJudge | None = None
        if isinstance(turn_detection, TurnDetector):
            self._judge = TurnJudge(turn_detection, feed=self.feed, failed=self.report, spawn=self.spawn)
        self.watching = Watching(self.mended)
        self.watching.watch(turn_detection)
        self._options = _options(options, turn_detection, preemptive_generation)
        self.dialog = Dialog(self._options.rules)
        self._providers = providers
        self._journal = journal
        self._mcp_servers = tuple(mcp_servers)
        self._sources = ToolSources(self)
        self._places: dict[str, int] = {}
        self._speeches = 0
        self._volume = checked_volume(options.volume)
        self._agent: Agent | None = None
        self._stage: Stage | None = None
        self._driver: Driver[Event, Command] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._senses: Senses | None = None
        self._stopwatch = TurnStopwatch(self.measured)
        self._turn_ends: deque[asyncio.Future[str]] = deque()
        self._agents: dict[str, Agent] = {}
        self._agents_seen = 0
        self._closed: asyncio.Future[str] | None = None
        self._exiting = False
        self._resuming: Resuming | None = None
        self._watchers: list[Callable[[Command], None]] = []

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(
        self,
        agent: Agent,
        *,
        audio_in: AudioInput | None,
        audio_out: AudioOutput,
        resume: Continuation | None = None,
    ) -> None:
        if self._stage is not None:
            raise RuntimeError("the session has started already")
        loop = asyncio.get_running_loop()
        self._agent = agent
        self._closed = loop.create_future()
        playout = Playout(audio_out, feed=self.feed, spoken=self._spoken, fade=self._options.fade)
        self._stage = Stage(self, playout, audio_out.sample_rate)
        judge = self._judge.detector if self._judge is not None else None
        recall = judge.seconds if judge is not None and judge.modality == "audio" else 0.0
        self._senses = Senses(self, self._providers, self._options, sample_rate=audio_out.sample_rate, recall=recall)
        self._driver = Driver(self.dialog, self._perform, clock=loop, tick=Tick(), observe=self._journal)
        brought: Iterable[ChatItem] = agent.enter(self.session)
        if resume is not None:
            self._resuming = Resuming(self, resume)
            brought = resume.history
            known = brought if resume.known is None else resume.known
            agent.known.restore(known, instructions=resume.instructions)
        for item in brought:
            self._places[item.id] = len(self.history)
            self.history.add(item)
        self._open_sources()
        self.feed(Started(resumed=resume is not None))
        if audio_in is not None:
            self._senses.listen(audio_in, agent, list(self.available_tools().values()))
        if self._resuming is None:
            self.spawn(agent.on_enter(), name="on_enter")
        else:
            self.spawn(self._resuming.run(agent), name="on_resume")

    async def aclose(self, reason: str, *, drain: bool) -> None:
        if self._stage is None or self._closed is None:
            return
        if not self._exiting:
            self._exiting = True
            await self._call_on_exit()
            self.feed(CloseAsked(reason, drain))
        try:
            async with asyncio.timeout(None if drain else CLOSE_TIMEOUT):
                await asyncio.shield(self._closed)
        except TimeoutError:
            log.error("speeches did not end in time", seconds=CLOSE_TIMEOUT)
        await self._tear_down()

    async def wait_closed(self) -> str:
        if self._closed is None:
            raise RuntimeError("the session has not started")
        return await asyncio.shield(self._closed)

    def go_on(self) -> None:
        if self._resuming is not None:
            self._resuming.go_on()

    def drain(self, seconds: float, *, last: bool) -> None:
        if self._closed is not None and not self._closed.done():
            self.spawn(self.current_agent.on_drain(seconds, last), name="on_drain")

    def finish(self, reason: str) -> None:
        """The dialog is closed."""
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(reason)

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run something for as long as the session lives; its failure is reported, and ends nothing else."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    # --- the dialog's shell -------------------------------------------------------------------------------------------

    @property
    def stage(self) -> Stage:
        """Raises ``RuntimeError`` before ``start``."""
        if self._stage is None:
            raise RuntimeError("the session has not started; await session.start(...) first")
        return self._stage

    @property
    def senses(self) -> Senses:
        """Raises ``RuntimeError`` before ``start``."""
        if self._senses is None:
            raise RuntimeError("the session has not started; await session.start(...) first")
        return self._senses

    @property
    def max_tool_steps(self) -> int:
        return self._options.rules.max_tool_steps

    def ask(self, event: Event) -> None:
        """Tell the dialog what the program wants. Raises ``RuntimeError`` before ``start``."""
        if self._stage is None:
            raise RuntimeError("the session has not started; await session.start(...) first")
        self.feed(event)

    def feed(self, event: Event) -> None:
        """Tell the dialog what has happened; ignored before ``start`` and after the end."""
        if self._driver is not None and self._stage is not None:
            self._stage.note(event)
            self._driver.feed(event)

    def watch(self, what: Event | Command) -> None:
        """See an event on its way to the dialog, or a command before it is performed."""
        for watcher in (self._stopwatch, self.senses):
            watcher.watch(what)

    def watch_commands(self, watcher: Callable[[Command], None]) -> None:
        self._watchers.append(watcher)

    def _perform(self, command: Command) -> None:
        for watcher in self._watchers:
            watcher(command)
        self.stage.perform(command)

    def emit(self, name: EventName, event: object) -> None:
        self.hooks.emit(name, event)

    def report(self, error: BaseException, source: str) -> None:
        """A provider, a tool or a hook failed; the session goes on."""
        self.hooks.emit("error", ErrorEvent(error, source, error.incident if isinstance(error, GaveUp) else None))

    def mended(self, what: Incident | Hedge) -> None:
        """A provider failed, and another one was asked, or it was again. That all failed, ``report`` tells."""
        if isinstance(what, Hedge):
            self.measured(HedgeMetrics(what.kind, what.provider, what.to, what.won, what.tokens))
        elif what.action != "gave_up":
            self.hooks.emit("error", ErrorEvent(what.error, what.kind, what))

    def measured(self, metrics: Metrics) -> None:
        self.hooks.emit("metrics_collected", MetricsCollectedEvent(metrics))

    # --- speech -----------------------------------------------------------------------------------------------------

    @property
    def volume(self) -> float:
        """Of all that is spoken."""
        return self._volume

    @volume.setter
    def volume(self, value: float) -> None:
        self._volume = checked_volume(value)

    def new_speech_id(self) -> str:
        self._speeches += 1
        return f"speech_{self._speeches}"

    def request(self, request: SpeechRequested, content: Content, *, volume: float = 1.0) -> SpeechHandle:
        stage = self.stage
        handle = self.make_handle(request, volume=volume)
        if self._closed is not None and self._closed.done():
            # Code that outlives the call (a tool, ``on_exit``) must not wait for a voice that will never sound.
            handle.mark_ended(EndReason.CLOSED, error="", at=asyncio.get_running_loop().time())
            return handle
        stage.expect(handle, content)
        self.feed(request)
        return handle

    def make_handle(self, request: SpeechRequested, *, volume: float = 1.0) -> SpeechHandle:
        return SpeechHandle(
            self,
            request.speech,
            source=request.source,
            priority=request.priority,
            allow_interruptions=request.allow_interruptions,
            stoppable=request.stoppable,
            created=asyncio.get_running_loop().time(),
            group=request.group,
            volume=volume,
        )

    def make_speech(self, speech: str, content: Content, sample_rate: int) -> Making:
        return Making(
            speech, content, sample_rate=sample_rate, feed=self.feed, failed=self.report, measured=self.measured
        )

    def interrupt_speech(self, handle: SpeechHandle, *, force: bool) -> None:
        self.feed(InterruptAsked(handle.id, force=force))

    def protect_speech(self, handle: SpeechHandle, allow_interruptions: bool, /) -> None:
        self.feed(ProtectionChanged(handle.id, allow_interruptions))

    def speech_state(self, handle: SpeechHandle, /) -> str:
        sounding = self.dialog.sounding(handle.id)
        return str(sounding) if sounding is not None else "parked"

    async def wait_for_step(self, handle: SpeechHandle, step: int) -> None:
        await self.stage.wait_for_step(handle, step)

    # --- turns ------------------------------------------------------------------------------------------------------

    def end_turn(self, *, skip_reply: bool) -> asyncio.Future[str]:
        committed = asyncio.get_running_loop().create_future()
        self.cut_utterance()
        self._turn_ends.append(committed)
        self.feed(TurnEndAsked(skip_reply))
        return committed

    def turn_over(self, text: str) -> None:
        """The turn that the program ended has its words, or none."""
        if self._turn_ends and not (committed := self._turn_ends.popleft()).done():
            committed.set_result(text)

    def cut_utterance(self) -> None:
        if self.senses.hearing is not None:
            self.senses.hearing.cut()

    def judge_turn(self, command: Judge) -> None:
        if self._judge is not None:
            detector, hearing = self._judge.detector, self.senses.hearing
            by_sound = hearing is not None and detector.modality == "audio"
            self._judge.ask(command, self.context(), hearing.recent(detector.seconds) if hearing and by_sound else None)

    # --- agents, what they know and may call ------------------------------------------------------------------------

    @property
    def current_agent(self) -> Agent:
        if self._agent is None:
            raise RuntimeError("the session has no agent yet; start it first")
        return self._agent

    def expect_agent(self, agent: Agent) -> str:
        """The name by which the dialog knows an agent that is to take the conversation."""
        self._agents_seen += 1
        name = f"{type(agent).__name__}_{self._agents_seen}"
        self._agents[name] = agent
        return name

    def expected_agent(self, name: str) -> Agent | None:
        return self._agents.get(name)

    def switch_agent(self, name: str) -> None:
        self.spawn(self._switch_agent(name), name="hand-off")

    def context(self, *, instructions: str = "") -> ChatContext:
        """What the model would be told now: the agent's instructions (and these), then what it knows was said."""
        return self.current_agent.known.context(instructions=instructions)

    def context_changed(self) -> None:
        """Instructions, tools or chat context of the current agent are others now."""
        self.feed(ContextChanged())

    def add_to_history(self, item: ChatItem) -> None:
        """It has become part of the conversation; one of the same id takes that one's place."""
        place = self._places.setdefault(item.id, len(self.history))
        self.history.items[place : place + 1] = [item]
        self.current_agent.known.remember(item)

    def available_tools(self) -> dict[str, FunctionTool]:
        """What the model may call now, by name: the current agent's tools, then those that MCP servers have told of."""
        own = {tool.name: tool for tool in self.current_agent.tools}
        return own | {tool.name: tool for tool in self._sources.tools(own)}

    def tools_changed(self) -> None:
        """An MCP server has other tools than before."""
        self.context_changed()

    def find_tool(self, name: str) -> FunctionTool | None:
        return self.available_tools().get(name)

    # --- pieces -----------------------------------------------------------------------------------------------------

    def _spoken(self, speech: str, step: int, text: str) -> None:
        if self._stage is not None:
            self._stage.spoken(speech, step, text)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", task=task.get_name(), exc_info=error)
            self.report(error, task.get_name())
            if task.get_name() == "hearing":  # an agent that cannot hear must not hold the line
                self.feed(CloseAsked("hearing failed"))

    def _open_sources(self) -> None:
        """Begin to connect to the MCP servers of the session and of the current agent; nothing waits for them."""
        self._sources.use((*self._mcp_servers, *self.current_agent.mcp_servers))

    async def _switch_agent(self, name: str) -> None:
        old, new = self.current_agent, self._agents.pop(name)
        await self._call_on_exit()
        self._agent = new
        new.enter(self.session, before=old)
        self._open_sources()
        await self._refit(new)
        log.info("agent changed", agent=name)
        self.hooks.emit("agent_handed_off", AgentHandedOffEvent(old, new))
        self.feed(AgentChanged(name))
        await new.on_enter()

    async def _refit(self, agent: Agent) -> None:
        try:
            await self.senses.refit(agent, list(self.available_tools().values()))
        except ValueError as error:
            log.error("the agent cannot hear as it asks to", error=str(error))
            self.report(error, "stt")

    async def _call_on_exit(self) -> None:
        try:
            async with asyncio.timeout(EXIT_TIMEOUT):
                await self.current_agent.on_exit()
        except TimeoutError:
            log.error("on_exit took too long", seconds=EXIT_TIMEOUT)
        except Exception as error:
            log.exception("on_exit failed")
            self.report(error, "on_exit")

    async def _tear_down(self) -> None:
        await asyncio.sleep(0)  # what was spawned just now begins: what it has to close is closed when it is cancelled
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.watching.close()
        await self._sources.aclose()
        if self._stage is not None:
            await self._stage.aclose()
        if self._driver is not None:
            self._driver.close()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result("closed")


def _options(
    options: SessionOptions, detection: Detection | TurnDetector | None, preemptive: bool | None
) -> SessionOptions:
    """The options with what was given to the session itself."""
    rules = options.rules
    if preemptive is not None:
        rules = replace(rules, preemptive=preemptive)
    if isinstance(detection, TurnDetector):
        endpoint = replace(rules.turns.endpoint, judged_by=detection.modality, likely=detection.threshold)
        rules = replace(rules, turns=replace(rules.turns, endpoint=endpoint))
    elif detection is not None:
        rules = replace(rules, turns=replace(rules.turns, detection=detection))
    return replace(options, rules=rules)
