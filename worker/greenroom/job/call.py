"""One call, from joining its room to having left it: room, session and journal put together, and taken apart in order.

A call that goes on after its process died (``JobInfo.resume``) joins with a token of its own, under the same identity,
while the journal is read in a thread; see ``resume``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from greenroom.dialog.events import AgentState, Event
from greenroom.directories import state_dir
from greenroom.errors import JobError
from greenroom.job.agentsettings import AgentProviders, preconnect_rules, session_options
from greenroom.job.background import behind
from greenroom.job.context import Job, JobContext
from greenroom.job.entry import CallOver, Entry
from greenroom.job.farewell import CallGivenUp, Farewell
from greenroom.job.measuring import CallMeasures
from greenroom.job.record import CallRecord
from greenroom.job.resume import AgentMaker, Recalled, Start, begin, class_path, recall, take_up
from greenroom.job.tracing import CallTrace, TracedCall, open_trace
from greenroom.jobs.ipc import RoomChanged
from greenroom.journal.shelf import tidy_up
from greenroom.journal.writer import header
from greenroom.redaction import redact
from greenroom.room.room import (
    AgentRoom,
    EndReason,
    LinkedParticipant,
    PreconnectReport,
    RoomEnded,
    RoomTimes,
    WrongRoom,
)
from greenroom.session.hooks import AgentStateChangedEvent, AgentTextEvent, CloseEvent, UserInputTranscribedEvent
from greenroom.session.session import AgentSession, SessionOptions

if TYPE_CHECKING:
    from livekit import rtc

    from greenroom.background.player import BackgroundAudioPlayer
    from greenroom.jobs.control import JobControl
    from greenroom.jobs.ipc import JobInfo
    from greenroom.room.caller import Departure
    from greenroom.room.room import RoomState
    from greenroom.room.speaker import Speaker
    from greenroom.settings import AgentSettings, Settings

__all__ = ["ServedCall"]

log = structlog.get_logger(__name__)

SAMPLE_RATE = 24_000
"""Hz, of the agent's track."""
LETTING_GO = 2.0
"""Seconds for the models' connections to be closed, when all else is over."""
HURRIED = 1.5
"""Seconds that a caller who left in order may take to return, while the worker is asked to stop: it waits for the call.
Clients that leave to rebuild their connection are back within one."""
FAREWELL_TIMEOUT = 30.0
"""Seconds for the last words of a call that is given up."""


class _NobodyCame(JobError):
    """The time in which a participant had to come is over."""


class ServedCall:
    """One call: the room's listener, and what ends it."""

    def __init__(
        self,
        job: JobInfo,
        control: JobControl,
        settings: Settings,
        agent: AgentSettings,
        *,
        providers: AgentProviders,
        background: BackgroundAudioPlayer | None = None,
    ) -> None:
        self._job = job
        self._control = control
        self._settings = settings
        self._agent = agent
        self._providers = providers
        self._background = background
        self._deadlines = deadlines = settings.worker.deadlines
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._began = asyncio.get_running_loop().time()
        self._session: AgentSession | None = None
        self._record: CallRecord | None = None
        self._trace: CallTrace | None = None
        self._report: PreconnectReport | None = None
        self._measures = CallMeasures(control.say, resume=job.resume)
        self._wrapping_up: tuple[float, bool] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._shown: set[str] = set()
        self._joined = 0.0
        self._spoke = False
        self._entry = Entry(job, settings.server)
        self._room = AgentRoom(
            self,
            participant=job.participant,
            times=RoomTimes(
                connect=deadlines.connect,
                lost_grace=deadlines.caller_lost,
                left_grace=deadlines.caller_left,
                rejoin=deadlines.rejoin,
            ),
            sample_rate=providers.hearing_rate,
            preconnect=preconnect_rules(agent),
            reported=self._recording_reported,
            token=self._entry.new_token,
        )
        self.context = JobContext(Job.of(job), server=settings.server, call=self)

    async def serve(self, make: AgentMaker) -> None:
        """Hold the call, to its end. Raises what failed it, once that is told."""
        self._control.on_end(lambda reason, grace: self._end(reason))
        own = copy_context()  # the daemon's word comes outside of the job, and the agent is to be told inside of it
        self._control.on_wrap_up(lambda seconds, last: own.run(self._wrap_up, seconds, last))
        resume, error = self._job.resume, ""
        try:
            if resume is not None and resume.farewell:
                await self._say_farewell()
            else:
                await self._hold(await self._enter(make))
        except RoomEnded as ended:
            self._end(str(ended.reason))
        except (_NobodyCame, CallOver) as over:
            self._end(str(over))
        except (Exception, asyncio.CancelledError) as failure:
            # The job boundary: whatever it was, the server must not count it as a success.
            error = redact(str(failure)) or type(failure).__name__
            self._end("failed")
            raise
        finally:
            await self._finish(error)
            if self._record is not None:
                self._record.close()

    # --- entering -----------------------------------------------------------------------------------------------------

    async def _enter(self, make: AgentMaker) -> Start:
        """Join the room; how the conversation begins there."""
        resume = self._job.resume
        if resume is None:
            agent = make.first()
            await self._join()
            return begin(agent)
        reading = asyncio.ensure_future(asyncio.to_thread(recall, resume))
        try:
            await self._join()
        except BaseException:
            await asyncio.wait((reading,))
            raise
        recalled: Recalled | None = await reading
        if recalled is None or (recalled.state.untouched and not recalled.state.closed):
            return begin(make.first(), attempt=resume.attempt)
        start = take_up(recalled, resume, make=make, line=self._agent.recovery.line)
        self._measures.unknown_tools(len(recalled.state.unknown))
        if start.over:
            raise CallOver(start.over)
        return start

    async def _join(self) -> None:
        job, sid = self._job, await self._entry.sid()
        try:
            await self._room.join(job.url, self._entry.token(), room=job.room, sid=sid)
        except WrongRoom:
            if job.resume is None:
                raise
            raise CallOver(str(EndReason.ROOM_DELETED)) from None
        self._control.joined()
        attempt = job.resume.attempt if job.resume is not None else 1
        log.info("joined", seconds=round(asyncio.get_running_loop().time() - self._began, 3), attempt=attempt)
        self._joined = asyncio.get_running_loop().time()
        self._room.set_state("initializing")
        self._warming = asyncio.get_running_loop().create_task(self._providers.warm_up(), name="warm-up")

    # --- holding it ---------------------------------------------------------------------------------------------------

    async def _hold(self, start: Start) -> None:
        """The conversation, in the room that was joined. It begins while the track is being published."""
        output = self._room.make_speaker(sample_rate=SAMPLE_RATE)
        publishing = asyncio.ensure_future(self._room.publish_speaker(output))
        try:
            await self._participant()
            session = await self._begin(start, output)
            await asyncio.wait((publishing, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if publishing.done():
                publishing.result()
            async with behind(session, self._room, self._background):
                await self._ended
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)

    async def _begin(self, start: Start, output: Speaker) -> AgentSession:
        options = session_options(self._agent, self._providers.turn, model=self._providers.llm)
        options = start.agent.session_options(options)
        continuation = start.continuation
        self._record = self._open_record(start, options)
        self._trace = self._open_trace(start, options)
        session = self._session = self._make_session(options)
        if self._record is not None:
            self._record.follow(session, start)
            if continuation is not None:
                continuation = replace(continuation, taken_up=self._record.taken_up)
        microphone = self._room.microphone
        await session.start(start.agent, audio_in=microphone, audio_out=output, resume=continuation)
        if self._wrapping_up is not None:
            session.drain(self._wrapping_up[0], last=self._wrapping_up[1])
        return session

    async def _say_farewell(self) -> None:
        """The call is given up: say so, with a voice and nothing else. Raises ``CallGivenUp``."""
        resume = self._job.resume
        died = resume.died if resume is not None else ""
        given_up = CallGivenUp(f"given up after {resume.attempt - 1 if resume else 0} processes died; the last: {died}")
        await self._join()
        text = self._agent.recovery.farewell
        if self._providers.tts is None or not text:
            raise given_up
        output = await self._speaker()
        speech = session_options(self._agent)
        options = SessionOptions(volume=speech.volume, transforms=speech.transforms)
        self._session = session = AgentSession(tts=self._providers.tts, options=options)
        session.on("agent_state_changed", self._agent_state_changed)
        session.on("agent_text", self._agent_text)
        agent = Farewell(text, said=lambda: self._end("given up"))
        await session.start(agent, audio_in=None, audio_out=output)
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_TIMEOUT):
                await asyncio.shield(self._ended)
        raise given_up

    async def _speaker(self) -> Speaker:
        """The agent's voice, once there is somebody to hear it."""
        speaker = asyncio.ensure_future(self._room.open_speaker(sample_rate=SAMPLE_RATE))
        try:
            await self._participant()
        finally:
            output = await speaker
        return output

    async def _participant(self) -> None:
        """Wait for whom the agent talks with, unless the call is ended first."""
        patience = self._deadlines.participant
        if self._job.resume is not None:  # they were there: who is not has lost their connection, or left
            patience = min(patience, self._deadlines.caller_lost)
        waiting = asyncio.ensure_future(self._room.wait_for_participant(patience))
        await asyncio.wait((waiting, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            raise RoomEnded(EndReason.REMOVED)
        try:
            waiting.result()
        except TimeoutError:
            raise _NobodyCame("no participant came") from None

    async def _finish(self, error: str) -> None:
        """Close the conversation, tell the server, then leave: in this order, so that the server counts it right.

        What the user's code wants to do at the end comes last: nobody waits for it in the room.
        """
        reason = self._ended.result() if self._ended.done() else "failed"
        log.info("call ends", reason=reason)
        if self._session is not None:
            await self._session.aclose(reason)
        if self._warming is not None:
            self._warming.cancel()
        await self.context.settle()
        await self._room.heard()
        if self._record is not None:
            self._measures.journal(self._record.size, stopped=self._record.stopped)
        self._measures.close()
        await self._control.leaving(reason, error=error)
        await self._room.leave()
        if self._trace is not None:
            await self._trace.aclose(reason, error=error)
        await self.context.close(reason, timeout=self._deadlines.end / 2)
        with suppress(TimeoutError):
            async with asyncio.timeout(LETTING_GO):
                await self._providers.aclose()

    def _make_session(self, options: SessionOptions) -> AgentSession:
        providers = self._providers
        session = AgentSession(
            vad=providers.vad,
            stt=providers.stt,
            llm=providers.llm,
            tts=providers.tts,
            turn_detection=providers.turn,
            mcp_servers=providers.mcp_servers,
            options=options,
            journal=self._journalled,
        )
        self._measures.follow(session)
        session.on("agent_state_changed", self._agent_state_changed)
        session.on("user_input_transcribed", self._user_transcribed)
        session.on("agent_text", self._agent_text)
        session.on("close", self._session_closed)
        return session

    def _open_record(self, start: Start, options: SessionOptions) -> CallRecord | None:
        """Begin to write the call down, and delete what has been kept for long enough."""
        worker = self._settings.worker
        if not worker.journal.enabled:
            return None
        folder = (Path(worker.state_dir) if worker.state_dir else state_dir(os.environ)) / "journals"
        begun = header(
            job=self._job.id,
            room=self._job.room,
            agent=self._job.agent_name,
            rules=options.rules,
            began=asyncio.get_running_loop().time(),
            agent_class=class_path(type(start.agent)),
            history=start.history,
            attempt=start.attempt,
            follows=start.follows,
        )
        record = CallRecord(folder, begun, settings=worker.journal)
        self._control.joined(journal=record.path)
        if self._report is not None:
            record.preconnect(self._report)
        tidy_up(folder, worker.journal)
        return record

    def _open_trace(self, start: Start, options: SessionOptions) -> CallTrace | None:
        now = asyncio.get_running_loop().time()
        traced = TracedCall(
            job=self._job.id,
            room=self._job.room,
            agent=self._job.agent_name,
            rules=options.rules,
            began=now,
            attempt=start.attempt,
            before=start.held,
            attributes=self._job.attributes,
        )
        return open_trace(traced, os.environ)

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    def _wrap_up(self, seconds: float, last: bool) -> None:
        log.info("call is to wrap up", seconds=round(seconds, 1), last=last)
        self._wrapping_up = (seconds, last)
        self._room.hurry(HURRIED)
        if self._session is not None:
            self._session.drain(seconds, last=last)

    # --- from the job's context ---------------------------------------------------------------------------------------

    @property
    def client(self) -> rtc.Room:
        return self._room.client

    def on_client(self, callback: Callable[[rtc.Room], None]) -> None:
        self._room.on_client(callback)

    async def depart(self, reason: str) -> None:
        await self._room.heard()
        self._measures.flush()
        await self._control.leaving(reason)

    def end(self, reason: str) -> None:
        self._end(reason)

    # --- from the session ---------------------------------------------------------------------------------------------

    def _journalled(self, event: Event, now: float) -> None:
        self._measures.event(event)
        if self._trace is not None:
            self._trace.write(event, now)
        if self._record is not None:
            self._record.event(event, now)
            self._measures.written(self._record.size)

    def _agent_state_changed(self, event: AgentStateChangedEvent) -> None:
        self._room.set_state(event.new_state.value)
        if event.new_state is AgentState.SPEAKING and not self._spoke:
            self._spoke = True
            log.info("first words", seconds=round(asyncio.get_running_loop().time() - self._joined, 3))

    def _user_transcribed(self, event: UserInputTranscribedEvent) -> None:
        linked = self._room.linked
        if linked is None or not event.item_id:
            return  # what was typed its writer knows
        self._room.transcripts.user(
            self._segment(event.item_id),
            event.transcript,
            final=event.is_final,
            identity=linked.identity,
            track=self._room.microphone.track_sid,
        )

    def _agent_text(self, event: AgentTextEvent) -> None:
        segment = self._segment(event.item_id)
        if event.delta:
            if self._record is not None:
                self._record.said(event.item_id, event.delta)
            self._shown.add(event.item_id)
            self._room.transcripts.agent_delta(segment, event.delta)
        if event.final and (event.item_id in self._shown or event.text):
            self._shown.discard(event.item_id)
            self._room.transcripts.agent_done(segment, event.text, interrupted=event.interrupted)

    def _segment(self, item_id: str) -> str:
        """Its id in the room: what an earlier process of the call has shown is not to be replaced."""
        resume = self._job.resume
        return item_id if resume is None else f"{resume.attempt}.{item_id}"

    def _session_closed(self, event: CloseEvent) -> None:
        self._end(event.reason)

    # --- from the room ------------------------------------------------------------------------------------------------

    def participant_linked(self, participant: LinkedParticipant, *, returned: bool) -> None:
        """The session hears them through the microphone, which the room attaches by itself."""

    def participant_left(self, identity: str, how: Departure, *, grace: float) -> None:
        """The session goes on for as long as they may return."""

    def room_lost(self, reason: EndReason) -> None:
        """The room comes back by itself, or ends the call."""

    def room_changed(self, state: RoomState, *, sid: str) -> None:
        self._measures.room_changed(state)
        self._control.say(RoomChanged(state, sid))

    def room_ended(self, reason: EndReason) -> None:
        self._measures.room_ended()
        self._end(str(reason))

    def text_received(self, identity: str, text: str) -> None:
        if self._session is not None:
            self._session.receive_text(text)

    def _recording_reported(self, report: PreconnectReport) -> None:
        self._report = report
        self._measures.recording(report)
        if self._record is not None:
            self._record.preconnect(report)
        log.info(
            "preconnect",
            outcome=report.outcome,
            reason=report.reason,
            participant=report.participant,
            track=report.track,
            format=report.format,
            bytes=report.size,
            seconds=round(report.seconds, 3),
            waited=round(report.waited, 3),
            overlap_ms=round(report.overlap * 1000),
            gap_ms=round(report.gap * 1000),
            gain=round(report.gain, 2),
            first_word_loss_ms=round(report.first_word_loss * 1000),
        )
