"""The child's composition root: one job, from its assignment to the end of its call.

``Runner`` is what ``jobs.child`` boots in a warm process and runs when a job comes. It puts the agent, its providers,
the room, the session and the journal together, and takes them apart in the right order.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.interruption import InterruptionRules
from greenroom.directories import state_dir
from greenroom.errors import BootFailed
from greenroom.journal.writer import JournalWriter
from greenroom.providers.llm import LLM
from greenroom.providers.registry import build
from greenroom.providers.stt import STT
from greenroom.providers.tts import TTS
from greenroom.providers.vad import VAD
from greenroom.redaction import hide, redact
from greenroom.reference import resolve
from greenroom.room.room import AgentRoom, EndReason, LinkedParticipant, RoomEnded, RoomTimes
from greenroom.session.agent import Agent
from greenroom.session.hooks import AgentStateChangedEvent, AgentTextEvent, CloseEvent, UserInputTranscribedEvent
from greenroom.session.segments import SegmentRules
from greenroom.session.session import AgentSession, SessionOptions
from greenroom.settings import AgentSettings, Settings, TurnSettings

if TYPE_CHECKING:
    from greenroom.jobs.control import JobControl
    from greenroom.jobs.ipc import JobInfo
    from greenroom.room.caller import Departure

__all__ = ["DeclaredAgent", "Runner", "load_agent"]

log = structlog.get_logger(__name__)

SAMPLE_RATE = 24_000
"""Hz, of the agent's track."""


@dataclass(slots=True)
class _Providers:
    vad: VAD | None
    stt: STT | None
    llm: LLM | None
    tts: TTS | None


class DeclaredAgent(Agent):
    """An agent that is wholly written in the YAML."""

    def __init__(self, *, instructions: str, greeting: str) -> None:
        super().__init__(instructions=instructions)
        self._greeting = greeting

    async def on_enter(self) -> None:
        if self._greeting:
            self.session.say(self._greeting)


def load_agent(settings: AgentSettings, *, beside: str) -> type[Agent] | None:
    """The class that ``agent: module:Class`` names; ``None`` for an agent that is declared in the YAML.

    ``beside``: the settings file, near which the module is looked up. Raises ``BadReference`` that says what is wrong.
    """
    return resolve(settings.agent, kind=Agent, beside=beside) if settings.agent else None


class Runner:
    """One process's work. ``boot`` once, then ``run`` once."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._agent_settings: AgentSettings | None = None
        self._agent_class: type[Agent] | None = None
        self._providers = _Providers(None, None, None, None)

    def boot(self, settings: bytes, agent: str) -> None:
        """Import the user's module and load the models: all that can be done before a job is known. Blocks."""
        self._settings = Settings.decode(settings)
        chosen = self._agent_settings = next(entry for entry in self._settings.agents if entry.name == agent)
        hide(self._settings.server.api_secret)
        self._agent_class = load_agent(chosen, beside=self._settings.file)
        providers = self._providers = _Providers(
            build("vad", chosen.vad) if chosen.vad else None,
            build("stt", chosen.stt) if chosen.stt else None,
            build("llm", chosen.llm) if chosen.llm else None,
            build("tts", chosen.tts) if chosen.tts else None,
        )
        for provider in (providers.vad, providers.stt, providers.llm, providers.tts):
            if provider is not None:
                provider.load()

    async def run(self, job: JobInfo, control: JobControl) -> None:
        """Serve one job to its end."""
        if self._settings is None or self._agent_settings is None:
            raise BootFailed("a job came before the boot")
        hide(job.token)
        call = _Call(job, control, self._settings, self._agent_settings)
        await call.serve(self._make_agent(self._agent_settings), self._providers)

    def _make_agent(self, settings: AgentSettings) -> Agent:
        if self._agent_class is not None:
            return self._agent_class()
        return DeclaredAgent(instructions=settings.instructions, greeting=settings.greeting)


class _Call:
    """One call: the room's listener, and what ends it."""

    def __init__(self, job: JobInfo, control: JobControl, settings: Settings, agent: AgentSettings) -> None:
        self._job = job
        self._control = control
        self._settings = settings
        self._agent = agent
        self._deadlines = settings.worker.deadlines
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._session: AgentSession | None = None
        self._segments: dict[str, str] = {}
        self._room = AgentRoom(self, participant=job.participant, times=RoomTimes(connect=self._deadlines.connect))

    async def serve(self, agent: Agent, providers: _Providers) -> None:
        control, room = self._control, self._room
        began = asyncio.get_running_loop().time()
        control.on_end(lambda reason, grace: self._end(reason))
        journal: JournalWriter | None = None
        error = ""
        try:
            await room.join(self._job.url, self._job.token, room=self._job.room, sid=self._job.room_sid)
            control.joined()
            log.info("joined", seconds=round(asyncio.get_running_loop().time() - began, 3))
            room.set_state("initializing")
            speaker = asyncio.ensure_future(room.open_speaker(sample_rate=SAMPLE_RATE))
            try:
                await self._participant()
            finally:
                output = await speaker
            journal = self._open_journal()
            session = self._session = self._make_session(providers, journal)
            await session.start(agent, audio_in=room.microphone, audio_out=output)
            await self._ended
        except RoomEnded as ended:
            self._end(str(ended.reason))
        except TimeoutError:
            self._end("no participant came")
        except Exception as failure:  # the job boundary: whatever it was, the server must not count it as a success
            error = redact(str(failure)) or type(failure).__name__
            self._end("failed")
            raise
        finally:
            await self._finish(error)
            if journal is not None:
                journal.close()

    async def _participant(self) -> None:
        """Wait for whom the agent talks with, unless the call is ended first."""
        waiting = asyncio.ensure_future(self._room.wait_for_participant(self._deadlines.participant))
        await asyncio.wait((waiting, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            raise RoomEnded(EndReason.REMOVED)
        waiting.result()

    async def _finish(self, error: str) -> None:
        """Close the conversation, tell the server, then leave: in this order, so that the server counts it right."""
        reason = self._ended.result() if self._ended.done() else "failed"
        log.info("call ends", reason=reason)
        if self._session is not None:
            await self._session.aclose(reason)
        await self._control.leaving(reason, error=error)
        await self._room.leave()

    def _make_session(self, providers: _Providers, journal: JournalWriter) -> AgentSession:
        session = AgentSession(
            vad=providers.vad,
            stt=providers.stt,
            llm=providers.llm,
            tts=providers.tts,
            options=session_options(self._agent.turns, max_tool_steps=self._agent.max_tool_steps),
            journal=journal.write,
        )
        session.on("agent_state_changed", self._agent_state_changed)
        session.on("user_input_transcribed", self._user_transcribed)
        session.on("agent_text", self._agent_text)
        session.on("close", self._session_closed)
        return session

    def _open_journal(self) -> JournalWriter:
        configured = self._settings.worker.state_dir
        return JournalWriter(
            (Path(configured) if configured else state_dir(os.environ)) / "journals",
            job=self._job.id,
            room=self._job.room,
            agent=self._job.agent_name,
            began=asyncio.get_running_loop().time(),
        )

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    # --- from the session ---------------------------------------------------------------------------------------------

    def _agent_state_changed(self, event: AgentStateChangedEvent) -> None:
        self._room.set_state(event.new_state.value)

    def _user_transcribed(self, event: UserInputTranscribedEvent) -> None:
        linked = self._room.linked
        if linked is None or not event.item_id:
            return  # what was typed its writer knows
        self._room.transcripts.user(
            event.item_id,
            event.transcript,
            final=event.is_final,
            identity=linked.identity,
            track=self._room.microphone.track_sid,
        )

    def _agent_text(self, event: AgentTextEvent) -> None:
        if event.delta:
            self._segments[event.item_id] = self._segments.get(event.item_id, "") + event.delta
            self._room.transcripts.agent_delta(event.item_id, event.delta)
        if event.final and (text := self._segments.pop(event.item_id, "")):
            self._room.transcripts.agent_done(event.item_id, text, interrupted=event.interrupted)

    def _session_closed(self, event: CloseEvent) -> None:
        self._end(event.reason)

    # --- from the room ------------------------------------------------------------------------------------------------

    def participant_linked(self, participant: LinkedParticipant, *, returned: bool) -> None:
        """The session hears them through the microphone, which the room attaches by itself."""

    def participant_left(self, identity: str, how: Departure, *, grace: float) -> None:
        """The session goes on for as long as they may return."""

    def room_ended(self, reason: EndReason) -> None:
        self._end(str(reason))

    def text_received(self, identity: str, text: str) -> None:
        if self._session is not None:
            self._session.receive_text(text)


def session_options(turns: TurnSettings, *, max_tool_steps: int) -> SessionOptions:
    """The YAML's ``turns`` as the session takes them."""
    voice, interruption = turns.voice_activity, turns.interruption
    return SessionOptions(
        rules=DialogRules(
            min_delay=turns.min_delay,
            transcript_timeout=turns.transcript_timeout,
            interruption=InterruptionRules(
                enabled=interruption.enabled,
                pause=interruption.pause,
                stop_after=interruption.min_duration,
                resume_after=interruption.resume_after,
                min_words=interruption.min_words,
                backchannels=interruption.backchannels,
            ),
            max_tool_steps=max_tool_steps,
            preemptive=turns.preemptive_generation,
        ),
        voice=SegmentRules(
            threshold=voice.threshold,
            release=voice.threshold * 0.7,
            min_speech=voice.min_speech,
            min_silence=voice.min_silence,
        ),
        padding=voice.padding,
    )
