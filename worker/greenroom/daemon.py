"""The parent's composition root: registrations on one side, processes on the other, slots between them.

It decides little itself: the protocol machine speaks to the server, the lifecycle machines watch the processes, and
``Admission`` counts. Neither the user's code nor a plugin is ever loaded here.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import uvloop

from greenroom.directories import private, run_dir
from greenroom.errors import Rejected
from greenroom.jobs.admission import Admission, Refused
from greenroom.jobs.bench import Warmth
from greenroom.jobs.events import Outcome
from greenroom.jobs.ipc import JobInfo
from greenroom.jobs.pool import Pool
from greenroom.server.events import Acceptance, Answer, Assignment, Offer, Refusal
from greenroom.server.link import Link, LinkState, Registration
from greenroom.settings import AgentSettings, Settings
from greenroom.version import __version__

__all__ = ["Daemon", "run"]

log = structlog.get_logger(__name__)


def run(settings: Settings) -> int:
    """Run a worker until it is told to stop; the exit code."""
    return uvloop.run(Daemon(settings).run())


@dataclass(slots=True)
class _Job:
    """A job between its assignment and the end of its process: it is reported on the link that it came by."""

    link: Link
    room: str


class Daemon:
    """One worker. Make it on the loop that it runs on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._deadlines = settings.worker.deadlines
        self._admission = Admission(settings.worker.max_jobs)
        self._jobs: dict[str, _Job] = {}
        self._links: dict[Link, AgentSettings] = {}
        self._idle = asyncio.Event()
        self._warmth: dict[str, Warmth] = {}
        self._warmed = asyncio.Event()
        self._stops = 0
        self._stop_asked = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._pool: Pool | None = None

    async def run(self) -> int:
        """Warm up, register, serve, drain. The exit code: 0 when it was asked to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_to_stop, number)
        folder = private(Path(self._settings.worker.run_dir) if self._settings.worker.run_dir else run_dir(os.environ))
        log.info("starting", version=__version__, pid=os.getpid(), run_dir=str(folder))
        pool = self._pool = Pool(
            self._settings,
            run_dir=folder,
            on_leaving=self._job_leaving,
            on_finished=self._job_finished,
            on_warm_changed=self._warm_changed,
        )
        try:
            await pool.start()
            return await self._serve(pool)
        finally:
            await pool.aclose()
            log.info("stopped")

    async def _serve(self, pool: Pool) -> int:
        # A server that offers a job at once must find a process that can take it.
        await self._unless_stopped(self._warmed.wait(), timeout=self._deadlines.boot)
        if self._stop_asked.is_set():
            return 0
        warm = {warmth.agent: warmth.warm for warmth in self._warmth.values()}
        log.info("ready", warm=warm, max_jobs=self._admission.total)
        for agent in self._settings.agents:
            for job_type in agent.job_types:
                registration = Registration(agent.name, agent.namespace, job_type)
                self._links[self._make_link(registration)] = agent
        self._tell_capacity()
        tasks = [asyncio.ensure_future(link.run()) for link in self._links]
        try:
            await self._unless_stopped(asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION))
            if not self._stop_asked.is_set():
                for task in tasks:
                    task.result()  # the server refused this worker, for good
            await self._drain()
        finally:
            await asyncio.gather(*(link.aclose() for link in self._links))
            endings = await asyncio.gather(*tasks, return_exceptions=True)
        for ending in endings:
            if isinstance(ending, BaseException) and not isinstance(ending, Rejected):
                log.error("registration failed", exc_info=ending)
        return 0

    async def _drain(self) -> None:
        """Take no more, let calls end by themselves, then end them. A second signal ends them now."""
        self._admission.drain()
        for link in self._links:
            link.drain()
        if self._jobs:
            log.info("draining", jobs=len(self._jobs), seconds=self._deadlines.drain)
        await self._until_idle(self._deadlines.drain, or_stopped=True)
        if not self._jobs or self._pool is None:
            return
        log.warning("ending the calls that are left", jobs=len(self._jobs))
        for job_id in list(self._jobs):
            self._pool.end_job(job_id, "worker stops")
        await self._until_idle(self._deadlines.end + self._deadlines.terminate + 1.0, or_stopped=False)

    # --- between server and processes -------------------------------------------------------------------------------

    def _make_link(self, registration: Registration) -> Link:
        link: Link

        def start(assignment: Assignment) -> None:
            self._job_assigned(link, assignment)

        link = Link(
            self._settings.server,
            registration,
            decide=self._decide,
            start=start,
            end=self._job_terminated,
            give_up=self._job_given_up,
            on_state=lambda state: self._link_changed(registration, state),
            assignment_timeout=self._deadlines.assignment,
        )
        return link

    def _decide(self, offer: Offer) -> Answer:
        decided = self._admission.reserve(offer.id, warm=self._able(offer.agent_name))
        if isinstance(decided, Refused):
            return Refusal(decided.reason.value)
        self._tell_capacity()
        # The identity holds the job's id: two agents of one identity in a room would evict each other.
        return Acceptance(identity=f"agent-{offer.id}", name=offer.agent_name or "agent")

    def _job_assigned(self, link: Link, assignment: Assignment) -> None:
        offer = assignment.offer
        if self._pool is None or not self._admission.start(offer.id):
            log.warning("assigned too late", job=offer.id, room=offer.room)
            return
        self._jobs[offer.id] = _Job(link, offer.room)
        self._idle.clear()
        job = JobInfo(
            id=offer.id,
            room=offer.room,
            room_sid=offer.room_sid,
            agent_name=offer.agent_name,
            url=assignment.url,
            token=assignment.token,
            identity=assignment.identity,
            job_type=offer.job_type,
            metadata=offer.metadata,
            dispatch_id=offer.dispatch_id,
            participant=offer.participant_identity,
            attributes=dict(offer.attributes),
            worker_id=assignment.worker_id,
        )
        link.report(offer.id, "running")
        self._pool.start_job(offer.agent_name, job)

    def _job_terminated(self, job_id: str, reason: str) -> None:
        if self._pool is not None:
            self._pool.end_job(job_id, reason)

    def _job_given_up(self, job_id: str) -> None:
        self._admission.free(job_id)
        self._tell_capacity()

    def _job_leaving(self, job_id: str, error: str) -> None:
        """The job's call is over and it waits in the room: the server has to hear of it first."""
        if self._pool is None or job_id not in self._jobs:
            return
        self._jobs[job_id].link.report(job_id, "failed" if error else "success", error)
        self._pool.may_leave(job_id)

    def _job_finished(self, job_id: str, outcome: Outcome) -> None:
        job = self._jobs.pop(job_id, None)
        if job is not None:
            log.info("job finished", job=job_id, room=job.room, outcome=outcome.value)
        self._admission.free(job_id)
        if not self._jobs:
            self._idle.set()
        self._tell_capacity()

    def _warm_changed(self, warmth: Warmth) -> None:
        self._warmth[warmth.agent] = warmth
        agents = self._settings.agents
        if all(
            (known := self._warmth.get(agent.name)) is not None
            and (known.warm > 0 or known.wanted == 0 or not known.bootable)
            for agent in agents
        ):
            self._warmed.set()
        self._tell_capacity()

    def _able(self, agent: str) -> bool:
        """A process for this agent is there, or can be expected."""
        warmth = self._warmth.get(agent)
        return warmth is None or warmth.bootable

    def _link_changed(self, registration: Registration, state: LinkState) -> None:
        log.debug("registration", agent_name=registration.agent_name, job_type=registration.job_type, state=state.value)

    def _tell_capacity(self) -> None:
        """All registrations share the slots; one whose agent does not boot has none."""
        for link, agent in self._links.items():
            link.set_capacity(self._admission.available if self._able(agent.name) else 0, self._admission.total)

    # --- stopping ---------------------------------------------------------------------------------------------------

    def _ask_to_stop(self, number: signal.Signals) -> None:
        self._stops += 1
        log.info("asked to stop", signal=number.name, times=self._stops)
        self._stop_asked.set()
        if self._stops > 1:
            self._stop_now.set()

    async def _unless_stopped(self, work: Coroutine[Any, Any, object], *, timeout: float | None = None) -> None:
        """Wait for something, but no longer than until a signal comes or the time is up."""
        waiting = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stop_asked.wait())
        try:
            await asyncio.wait((waiting, stopped), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waiting, stopped):
                task.cancel()
            await asyncio.gather(waiting, stopped, return_exceptions=True)

    async def _until_idle(self, seconds: float, *, or_stopped: bool) -> None:
        if not self._jobs:
            return
        waiting = [asyncio.ensure_future(self._idle.wait())]
        if or_stopped:
            waiting.append(asyncio.ensure_future(self._stop_now.wait()))
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
